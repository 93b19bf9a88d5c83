"""The doctor's checks: each looks at one thing and yields what is wrong with it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from relit import documents
from relit.cli import agent_checks, volume_checks
from relit.cli.patient import Finding, Patient
from relit.cli.session import Session
from relit.errors import RelitError
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.durations import human, size
from relit.pressure.space import low_mark

SCHEMA_VERSION = 1
LITTLE_SPACE = 200 << 20
SQLITE_FIXED = (3, 51, 3)  # earlier ones can damage a WAL database
LONG_MS = 3_600_000


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and what was found."""

    schemaVersion: int
    ok: bool
    checksRun: list[str]
    checksSkipped: list[str]
    findings: list[Finding]


Check = Callable[[Patient], Iterator[Finding]]


def examine(session: Session, deep: bool) -> Report:
    """Run every check that can be run."""
    try:
        patient = Patient(session, session.settings())
    except RelitError as error:
        broken = Finding(checkId="config", severity="error", message=str(error.what), path=error.why, fixHint=error.fix)
        return Report(
            schemaVersion=SCHEMA_VERSION,
            ok=False,
            checksRun=["config"],
            checksSkipped=[*LOCAL, *REMOTE],
            findings=[broken],
        )
    chosen = {**LOCAL, **(REMOTE if patient.up else {}), **({"database": _database} if deep else {})}
    skipped = [name for name in (*REMOTE, "database") if name not in chosen]
    findings = [finding for name, check in chosen.items() for finding in _run(name, check, patient)]
    return Report(
        schemaVersion=SCHEMA_VERSION,
        ok=all(each.severity == "info" for each in findings),
        checksRun=["config", *chosen],
        checksSkipped=skipped,
        findings=findings,
    )


def _run(name: str, check: Check, patient: Patient) -> list[Finding]:
    """A check that fails is itself a finding; the others go on."""
    try:
        return list(check(patient))
    except RelitError as error:
        return [Finding(checkId=name, severity="error", message=error.what, path=error.why or None, fixHint=error.fix)]
    except OSError as error:
        return [Finding(checkId=name, severity="error", message=str(error), fixHint="relit doctor -v")]


# --- this machine ----------------------------------------------------------------------------------------------


def _data(patient: Patient) -> Iterator[Finding]:
    data = patient.data
    patient.session.run_dir()  # raises when the folder is somebody else's
    if not data.exists():
        return
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        fix = f"sudo chown -R $(id -un) {data}"
        yield Finding(checkId="data", severity="error", message="the data folder cannot be used", path=str(data),
                      fixHint=fix)  # fmt: skip
        return
    for path, allowed in ((data, 0o700), (data / "token", 0o600), (data / "secrets.toml", 0o600)):
        if path.exists() and path.stat().st_mode & 0o077:
            yield Finding(
                checkId="data",
                severity="error",
                message="others on this machine can read it",
                path=str(path),
                fixHint=f"chmod {allowed:o} {path}",
            )


def _space(patient: Patient) -> Iterator[Finding]:
    place = next(path for path in (patient.data, *patient.data.parents) if path.exists())
    disk = shutil.disk_usage(place)
    free = disk.free
    if free < low_mark(disk.total):
        yield Finding(
            checkId="space",
            severity="error" if free < LITTLE_SPACE else "warning",
            message=f"only {size(free)} of {size(disk.total)} are free: soon nothing can be written",
            path=str(place),
            fixHint=f"make room: du -xh {place} | sort -h | tail; or shorten runs in [retention]",
        )


def _filesystem(patient: Patient) -> Iterator[Finding]:
    from relit.app import folder, parts

    where = parts.database(patient.settings)
    if isinstance(where, Path):
        folder.check_local(where.parent, folder.mounts())
    yield from ()


def _clock(patient: Patient) -> Iterator[Finding]:
    from relit.app.folder import check_clock

    check_clock(SYSTEM_CLOCK)
    yield from ()


def _sqlite(patient: Patient) -> Iterator[Finding]:
    import apsw

    version = apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")) < SQLITE_FIXED:
        yield Finding(
            checkId="sqlite",
            severity="error",
            message=f"SQLite {version} can damage a database in WAL mode",
            fixHint="python -m pip install --upgrade apsw",
        )


def _node(patient: Patient) -> Iterator[Finding]:
    from relit.node import record, status
    from relit.settings.noted import noted_start

    place = patient.session.run_dir()
    if place is None:
        return
    running = status.read(place)
    if running.node is None and running.instances:
        names = ", ".join(each.name for each in running.instances)
        yield Finding(checkId="node", severity="error", message=f"nobody keeps {names} alive: the node has died",
                      path=str(place), fixHint=noted_start(patient.data))  # fmt: skip
    if running.node is None and running.keeper is None and record.read(place) is not None and patient.up:
        yield Finding(checkId="node", severity="warning", message="a server answers that no node keeps alive",
                      path=patient.api.url, fixHint="relit up, if it is not kept by another supervisor")  # fmt: skip
    for each in running.instances:
        if each.state in ("backing-off", "down"):
            log = patient.data / "agents" / each.name / "log" / "out.log"
            yield Finding(checkId="node", severity="error", message=f"{each.name} keeps dying: {each.last_exit}",
                          path=str(log), fixHint=f"relit why {each.name}")  # fmt: skip


def _server(patient: Patient) -> Iterator[Finding]:
    if not patient.up:
        yield Finding(checkId="server", severity="warning", message="no server answers", path=patient.api.url,
                      fixHint="relit up")  # fmt: skip


# --- the server ------------------------------------------------------------------------------------------------


def _token(patient: Patient) -> Iterator[Finding]:
    patient.api.get("/v1/workers", documents.Workers)
    yield from ()


def _workers(patient: Patient) -> Iterator[Finding]:
    workers = patient.api.get("/v1/workers", documents.Workers).workers
    for worker in workers:
        if worker.lease_left_ms <= 0:
            yield Finding(
                checkId="workers",
                severity="warning",
                message=f"worker {worker.id} (pid {worker.pid} on {worker.host}) has not been heard of; its runs are "
                "taken over",
                fixHint="relit ps",
            )
    known = {target for worker in workers for target in worker.targets}
    for agent in patient.api.get("/v1/agents", documents.Agents).agents:
        left = sum(agent.runs.get(state, 0) for state in ("available", "scheduled", "running", "waiting"))
        if left and not any(target.startswith(f"{agent.name}/") for target in known):
            yield Finding(checkId="workers", severity="error", message=f"{left} runs of {agent.name} have no worker",
                          fixHint="relit up, or relit worker MODULE")  # fmt: skip


def _dead_letters(patient: Patient) -> Iterator[Finding]:
    for box in patient.api.get("/v1/mailboxes", documents.Mailboxes).mailboxes:
        if box.dead:
            yield Finding(checkId="dead-letters", severity="warning", message=f"{box.name} has {box.dead} dead letters",
                          fixHint=f"relit runs --agent {box.name} --state discarded, then "
                          f"relit requeue --agent {box.name}")  # fmt: skip
        if box.paused and box.queued:
            yield Finding(checkId="dead-letters", severity="warning",
                          message=f"the mailbox {box.name} is paused, {box.queued} messages wait",
                          fixHint=f"relit mailbox resume {box.name}")  # fmt: skip


def _parked(patient: Patient) -> Iterator[Finding]:
    for run in patient.api.get("/v1/runs", documents.Runs, state="parked", limit=20).runs:
        yield Finding(
            checkId="parked",
            severity="warning",
            message=f"{run.target} {run.id} waits for a person: {run.reason or 'paused'}",
            fixHint=f"relit show {run.id}",
        )


def _late(patient: Patient) -> Iterator[Finding]:
    now = SYSTEM_CLOCK.now_ms()
    for box in patient.api.get("/v1/mailboxes", documents.Mailboxes).mailboxes:
        if box.oldest_at is not None and not box.paused and now - box.oldest_at > LONG_MS:
            yield Finding(
                checkId="late",
                severity="warning",
                message=f"the oldest message to {box.name} has waited for {human(now - box.oldest_at)}",
                fixHint=f"relit runs --agent {box.name}",
            )


def _database(patient: Patient) -> Iterator[Finding]:
    from relit.app.parts import open_store

    async def look() -> list[str]:
        store = open_store(patient.settings)
        await store.start()
        try:
            return await store.check()
        finally:
            await store.stop()

    for fault in asyncio.run(look()):
        yield Finding(checkId="database", severity="error", message=fault, path=patient.settings.server.database,
                      fixHint="relit down; copy the data folder away; then restore a backup")  # fmt: skip


LOCAL: dict[str, Check] = {
    "data": _data,
    "space": _space,
    "filesystem": _filesystem,
    "clock": _clock,
    "key": volume_checks.key,
    "sqlite": _sqlite,
    "node": _node,
    "sandbox": agent_checks.sandbox,
    "ports": agent_checks.ports,
    "canaries": agent_checks.canaries,
    "channels": agent_checks.channels,
    "runtimes": agent_checks.runtimes,
    "server": _server,
}
REMOTE: dict[str, Check] = {
    "token": _token,
    "workers": _workers,
    "dead-letters": _dead_letters,
    "parked": _parked,
    "late": _late,
    "volumes": volume_checks.volumes,
}
