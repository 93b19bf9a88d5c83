"""What an agent did by itself, on its own schedules, told as relit's schedules would do it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import apsw
import msgspec

from relit.agents.config import matching, said
from relit.lib import durations

_NAME = re.compile(r"[^a-z0-9._-]+")
HEARTBEAT = "Look around."
# Those of this state; what OpenClaw declares by itself (its own housekeeping) is not its owner's.
_JOBS = (
    "SELECT job_json FROM cron_jobs WHERE enabled = 1 AND declaration_key IS NULL AND store_key LIKE ? "
    "ORDER BY sort_order"
)


class Timetable(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule, as a table of relit.toml has it. ``told``: what of it relit cannot do, in words."""

    name: str
    every: str | None = None
    cron: str | None = None
    zone: str | None = None
    message: str = ""
    told: str = ""


def read(style: str, folder: Path, config: Mapping[str, Any]) -> list[Timetable]:
    """Those of an installation in ``folder`` (a copy: its database is opened). Names are told apart."""
    found = list(_STYLES[style](folder, config)) if style else []
    seen: dict[str, int] = {}
    named = []
    for each in found:
        seen[each.name] = count = seen.get(each.name, 0) + 1
        named.append(msgspec.structs.replace(each, name=f"{each.name}-{count}") if count > 1 else each)
    return named


def _openclaw(folder: Path, config: Mapping[str, Any]) -> Iterator[Timetable]:
    every = said(config, "agents.defaults.heartbeat.every")
    if isinstance(every, str) and not every.startswith("0"):
        message = said(config, "agents.defaults.heartbeat.prompt")
        yield Timetable(name="heartbeat", every=every, message=str(message or HEARTBEAT))
    for key, _ in matching(config, "agents.entries.*"):
        every = said(config, f"{key}.heartbeat.every")
        if isinstance(every, str) and not every.startswith("0"):
            message = said(config, f"{key}.heartbeat.prompt") or said(config, "agents.defaults.heartbeat.prompt")
            name, told = key.rpartition(".")[2], "it goes to the agent as a whole, not to this one of its agents"
            yield Timetable(name=_slug(f"heartbeat-{name}"), every=every, message=str(message or HEARTBEAT), told=told)
    if said(config, "cron.enabled") is False:
        return
    for job in _jobs(folder / "state" / "openclaw.sqlite"):
        payload = job.get("payload") or {}
        message = str(payload.get("message") or payload.get("text") or "")
        yield _timetable(job.get("name"), job.get("schedule") or {}, message)


def _jobs(database: Path) -> list[dict[str, Any]]:
    if not database.is_file():
        return []
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        rows = connection.execute(_JOBS, (f"{database.parent.parent}/%",)).fetchall()
        return [json.loads(str(row[0])) for row in rows]
    except apsw.SQLError:
        return []  # another version of it, with other tables
    finally:
        connection.close()


def _hermes(folder: Path, config: Mapping[str, Any]) -> Iterator[Timetable]:
    try:
        tree = json.loads((folder / "cron" / "jobs.json").read_text())
    except (FileNotFoundError, ValueError):
        return
    jobs = tree.get("jobs", []) if isinstance(tree, dict) else tree
    for job in jobs if isinstance(jobs, list) else []:
        if isinstance(job, dict) and job.get("enabled", True):
            yield _timetable(job.get("name"), job.get("schedule") or {}, str(job.get("prompt") or ""))


def _slug(name: Any) -> str:
    return _NAME.sub("-", str(name or "job").lower()).strip("-._")[:40] or "job"


def _timetable(name: object, schedule: object, message: str) -> Timetable:
    """Of a job of either: both name kinds ``cron``, and an interval."""
    plain = _slug(name)
    if not isinstance(schedule, Mapping):
        return Timetable(name=plain, message=message, told=f"its schedule is {schedule}")
    match schedule.get("kind"):
        case "cron":
            return Timetable(name=plain, cron=str(schedule.get("expr", "")), zone=schedule.get("tz"), message=message)
        case "every":
            return Timetable(name=plain, every=_span(int(schedule.get("everyMs", 0))), message=message)
        case "interval":
            return Timetable(name=plain, every=f"{schedule.get('minutes', 0)}m", message=message)
        case kind:
            return Timetable(name=plain, message=message, told=f"it runs {kind}, which schedules do not")


def _span(ms: int) -> str:
    """As people write it, where that is exact."""
    text = durations.human(ms)
    return text if durations.to_ms(text) == ms else f"{ms}ms"


_STYLES: Mapping[str, Callable[[Path, Mapping[str, Any]], Iterator[Timetable]]] = {
    "openclaw": _openclaw,
    "hermes": _hermes,
}
