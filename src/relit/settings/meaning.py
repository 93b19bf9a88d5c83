"""Faults of meaning: settings that are well-formed alone and wrong together. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from relit.agents.kind import Kind
from relit.errors import ConfigError
from relit.settings import tooling
from relit.settings.check import Fault, nearest
from relit.settings.kinds import Path
from relit.settings.model import OWN, Agent, File, Model, Schedule, Snapshots
from relit.settings.room import Limits
from relit.volumes.retention import parse_keep

_FASTEST_MS = 1000
_OFTEN_MS = 60_000
_PORT = re.compile(r"\{port:([a-z_]+)\}")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


def faults(file: File, kinds: Mapping[str, Kind]) -> list[Fault]:
    """Everything that contradicts itself. ``kinds``: those that have a file."""
    return [
        *_server(file),
        *_volumes(file),
        *_models(file),
        *_fallbacks(file),
        *tooling.faults(file),
        *_agents(file, kinds),
        *_addresses(file),
        *_webhooks(file),
        *_alerts(file),
    ]


def split_listen(listen: str) -> tuple[str, int]:
    """Host and port of ``host:port``, ``[v6]:port`` or ``:port``. Raises ``ValueError``."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError(listen)
    return host.strip("[]") or "127.0.0.1", int(port)


def volume_store(store: str, blobs: str, data: str) -> str:
    """Where packs go: a folder or ``s3://…``. Never where payloads lie: each has a list of its own."""
    if store == "blobs":
        store = "local" if blobs == "local" else f"{blobs.rstrip('/')}/volumes"
    return f"{data}/volumes" if store == "local" else store


def _server(file: File) -> Iterator[Fault]:
    yield from _listen(("server", "listen"), file.server.listen, "HOST:PORT, 127.0.0.1:7717")
    database = file.server.database
    if not (database == "sqlite" or database.startswith(("sqlite:", "postgresql://", "postgres://"))):
        known = nearest(database.partition(":")[0], ["sqlite", "postgresql://"])
        yield Fault(("server", "database"), "is not a database", "sqlite, sqlite:PATH or postgresql://…", known)
    if "://" in file.server.blobs and not file.server.blobs.startswith("s3://"):
        yield Fault(("server", "blobs"), "is not a blob store", "local, a folder or s3://bucket/prefix")


def _volumes(file: File) -> Iterator[Fault]:
    volumes = file.volumes
    if "://" in volumes.store and not volumes.store.startswith("s3://"):
        yield Fault(("volumes", "store"), "is not a blob store", "blobs, local, a folder or s3://bucket/prefix")
    if volumes.encryption == "passphrase" and volumes.passphrase is None:
        yield Fault(("volumes", "passphrase"), 'is missing: encryption = "passphrase" needs it', "secret:NAME")
    if volumes.encryption != "passphrase" and volumes.passphrase is not None:
        yield Fault(("volumes", "passphrase"), f'does nothing with encryption = "{volumes.encryption}": remove it')
    if volumes.interval_ms == 0:
        yield Fault(("volumes", "interval"), "must be longer than nothing", "a duration: 10s")


def _listen(path: Path, listen: str, right: str) -> Iterator[Fault]:
    try:
        split_listen(listen)
    except ValueError:
        yield Fault(path, f'"{listen}" is not an address', right)


def _models(file: File) -> Iterator[Fault]:
    yield from _listen(("gateway", "listen"), file.gateway.listen, "HOST:PORT, 127.0.0.1:7718")
    for name, model in file.models.items():
        path: Path = ("models", name)
        if not _is_base(model.url):
            why = "is not a base address: it has a host, perhaps a port and a path, and no key in it"
            yield Fault((*path, "url"), why, "https://api.openai.com/v1")
        for key, ms in _spans(model):
            if ms == 0:
                yield Fault((*path, key), "must be longer than nothing", "a duration: 10s")


def _spans(model: Model) -> list[tuple[str, int]]:
    return [(key, getattr(model, f"{key}_ms")) for key in ("connect", "first_byte", "idle", "total")]


def _fallbacks(file: File) -> Iterator[Fault]:
    for name, model in file.models.items():
        for other in model.fallback:
            path: Path = ("models", name, "fallback")
            if other not in file.models:
                yield Fault(path, f"there is no [models.{other}]", meant=nearest(other, file.models))
            elif other == name:
                yield Fault(path, "it cannot stand in for itself", "another table of [models]")
            elif file.models[other].kind != model.kind:
                yield Fault(path, f"[models.{other}] speaks another protocol", f'one with kind = "{model.kind}"')


def _is_base(url: str) -> bool:
    from urllib.parse import urlsplit  # most configurations need not pay for it

    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0 and not ("@" in parts.netloc or parts.query or parts.fragment)
    except ValueError:
        return False


def _model(path: Path, agent: Agent, file: File, kinds: Mapping[str, Kind]) -> Iterator[Fault]:
    """Code, commands, and kinds without a token for models may do without."""
    kind = kinds.get(agent.kind)
    if kind is not None and "model" in kind.tokens and agent.model not in (OWN, *file.models):
        why = f'there is no [models.{agent.model}], and kind = "{agent.kind}" needs a model'
        yield Fault((*path, "model"), why, meant=nearest(agent.model, file.models))


def _agents(file: File, kinds: Mapping[str, Kind]) -> Iterator[Fault]:
    for name, agent in file.agents.items():
        path: Path = ("agents", name)
        yield from _start(path, agent)
        if agent.resume == "replay" and agent.mailbox.concurrency != 1:
            why = "goes back with the whole home: one message at a time (mailbox.concurrency = 1)"
            yield Fault((*path, "resume"), why, '"continue"')
        yield from _model(path, agent, file, kinds)
        yield from _kind(path, agent, kinds)
        if agent.tools == "strict" and (kind := kinds.get(agent.kind)) and not any(each.strict for each in kind.config):
            yield Fault((*path, "tools"), f'kind = "{agent.kind}" does not say how its tools are switched off')
        yield from _pool((*path, "pool"), agent)
        if agent.memory.soft is not None and agent.most_workers > 1:
            yield Fault((*path, "memory", "soft"), "is for agents in one process (workers = 1)", "memory.hard")
        yield from _idle((*path, "idle"), agent, kinds.get(agent.kind))
        yield from _fronts((*path, "front"), agent, kinds.get(agent.kind))
        yield from _probes((*path, "probes"), agent, kinds.get(agent.kind))
        yield from _snapshots((*path, "snapshots"), agent.snapshots)
        for label, schedule in agent.schedules.items():
            yield from _schedule((*path, "schedules", label), schedule)


def _idle(path: Path, agent: Agent, kind: Kind | None) -> Iterator[Fault]:
    if agent.idle.after is not None and agent.idle.then == "keep":
        yield Fault((*path, "after"), 'does nothing with then = "keep"', 'then = "stop"')
    if agent.idle.then == "keep":
        return
    if agent.channels == "inbound":
        why = 'would leave it deaf: channels = "inbound" says that it waits on connections of its own'
        yield Fault((*path, "then"), why, '"keep"')
    elif not agent.front and (kind is None or kind.inject is None):
        why = f'nothing would start it again: no message is brought into kind = "{agent.kind}", and it has no front'
        yield Fault((*path, "then"), why, '"keep"')


def _pool(path: Path, agent: Agent) -> Iterator[Fault]:
    if agent.pool.max is None:
        if agent.pool.min != 1:
            yield Fault((*path, "min"), "does nothing without max", "max = 4")
        return
    if agent.kind != "python":
        yield Fault(path, f'is for kind = "python"; this agent is {agent.kind}')
    if agent.workers != 1:
        yield Fault((*path[:-1], "workers"), "says another number than `pool`", "one of the two")
    if agent.pool.min > agent.pool.max:
        yield Fault((*path, "min"), "is more than max", str(agent.pool.max))


def _fronts(path: Path, agent: Agent, kind: Kind | None) -> Iterator[Fault]:
    known = kind.ports if kind is not None else agent.ports
    for name, listen in agent.front.items():
        yield from _listen((*path, name), listen, "HOST:PORT, 127.0.0.1:8080")
        if name not in known:
            why = f'it has no port "{name}"' if known else f'kind = "{agent.kind}" has no ports of its own'
            yield Fault((*path, name), why, ", ".join(known), nearest(name, known))


def _addresses(file: File) -> Iterator[Fault]:
    """No two listen at one."""
    taken = {"server.listen": file.server.listen, "gateway.listen": file.gateway.listen}
    for name, agent in file.agents.items():
        for port, listen in agent.front.items():
            other = next((key for key, each in taken.items() if _same_place(each, listen)), None)
            if other is not None:
                yield Fault(("agents", name, "front", port), f"is {other}, too", "an address of its own")
            taken[f"agents.{name}.front.{port}"] = listen


def _same_place(one: str, other: str) -> bool:
    """Whether nobody can listen at both."""
    try:
        (host, port), (another, its) = split_listen(one), split_listen(other)
    except ValueError:
        return False  # which is told elsewhere
    return port == its != 0 and (host == another or {host, another} & {"0.0.0.0", "::"} != set())


def _start(path: Path, agent: Agent) -> Iterator[Fault]:
    if agent.kind == "python" and not agent.entry:
        yield Fault((*path, "entry"), 'is missing: kind = "python" needs it', "module or module:object")
    if agent.kind == "command" and not agent.command:
        yield Fault((*path, "command"), 'is missing: kind = "command" needs it', 'a list: ["program", "argument"]')
    if agent.kind == "python" and agent.command:
        yield Fault((*path, "command"), 'is for kind = "command"; this agent is python', "entry")
    for label, asked in (("limits", agent.limits != Limits()), ("connect", agent.connect is not None)):
        if agent.kind == "python" and asked:
            yield Fault((*path, label), "does nothing for code written with the SDK, which relit trusts: remove it")
    if agent.sandbox == "off" and agent.connect is not None:
        yield Fault((*path, "connect"), 'needs a sandbox: remove it, or sandbox = "off"')
    if agent.kind == "command" and agent.entry:
        yield Fault((*path, "entry"), 'is for kind = "python"; this agent is a command', "command")
    if agent.kind == "command" and agent.schedules:
        yield Fault((*path, "schedules"), "a command takes no messages in this version of relit: remove them")


def _kind(path: Path, agent: Agent, kinds: Mapping[str, Kind]) -> Iterator[Fault]:
    if agent.kind in ("python", "command"):
        if agent.version is not None:
            yield Fault((*path, "version"), f'does nothing with kind = "{agent.kind}": remove it')
    elif agent.kind not in kinds:
        known = ["python", "command", *kinds]
        yield Fault((*path, "kind"), f'"{agent.kind}" is not allowed', " | ".join(known), nearest(agent.kind, known))
    elif agent.workers > 1:
        yield Fault((*path, "workers"), f'kind = "{agent.kind}" is one process: remove it')
    if agent.kind not in ("python", "command") and (agent.command or agent.entry):
        yield Fault((*path, "kind"), f'"{agent.kind}" knows its command: remove command and entry')
    if agent.kind != "command" and agent.ports:
        yield Fault((*path, "ports"), 'is for kind = "command": remove it')


def _probes(path: Path, agent: Agent, kind: Kind | None) -> Iterator[Fault]:
    """Each asks in one way, and names only what there is."""
    ports = kind.ports if kind is not None else agent.ports
    for name in sorted({each for each in agent.ports if agent.ports.count(each) > 1}):
        yield Fault((*path[:-1], "ports"), f"has {name} twice")
    asked = {"ready": agent.probes.ready, "canary": agent.probes.canary}
    asked |= {f"live[{number}]": each for number, each in enumerate(agent.probes.live)}
    for label, question in asked.items():
        if question is None:
            continue
        try:
            question.probe()
        except ConfigError as error:
            yield Fault((*path, label), f"{error.what}: {error.why}", "http, tcp, unix, file, age or command")
        for name in sorted(set(_PORT.findall(str(msgspec.to_builtins(question)))) - {*ports}):
            yield Fault((*path, label), f"names {{port:{name}}}, which is none of its ports", ", ".join(ports))


def _snapshots(path: Path, snapshots: Snapshots) -> Iterator[Fault]:
    if snapshots.every_ms < _FASTEST_MS:
        yield Fault((*path, "every"), f'"{snapshots.every}" is too often', "1s or more")
    try:
        parse_keep(snapshots.keep)
    except ValueError as error:
        yield Fault((*path, "keep"), str(error))
    if snapshots.exclude:
        yield from _exclude((*path, "exclude"), snapshots.exclude)


def _exclude(path: Path, patterns: list[str]) -> Iterator[Fault]:
    from relit.volumes.ignore import fault  # most configurations need not pay for it

    for pattern in patterns:
        if why := fault(pattern):
            yield Fault(path, f'"{pattern}" is not a pattern: {why}', "as in a .gitignore: *.log, cache/, !keep.log")


def _schedule(path: Path, schedule: Schedule) -> Iterator[Fault]:
    from datetime import UTC, datetime  # `relit ps` without schedules need not pay for these
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from cronsim import CronSim, CronSimError

    if (schedule.every is None) == (schedule.cron is None):
        yield Fault(path, "needs exactly one of every and cron")
    if (schedule.message is None) == (schedule.workflow is None):
        yield Fault(path, "needs exactly one of message and workflow")
    if schedule.cron is not None:
        try:
            CronSim(schedule.cron, datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            yield Fault((*path, "cron"), f'"{schedule.cron}" is not a cron expression: {error}', "0 9 * * MON-FRI")
    try:
        ZoneInfo(schedule.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield Fault((*path, "zone"), f'"{schedule.zone}" is not a time zone', "an IANA name: Europe/Berlin")


def _webhooks(file: File) -> Iterator[Fault]:
    # Agents may also be declared in code alone: an unknown name is a fault only when it looks like a slip.
    for name, webhook in file.webhooks.items():
        if webhook.agent not in file.agents and (meant := nearest(webhook.agent, file.agents)):
            yield Fault(("webhooks", name, "agent"), f'there is no agent "{webhook.agent}"', meant=meant)


def _alerts(file: File) -> Iterator[Fault]:
    alerts = file.alerts
    for url in alerts.urls:
        if not url.startswith("secret:") and not _ADDRESS.match(url):  # it may hold a password: it is not shown
            yield Fault(("alerts", "urls"), "holds something that is no address", "as Apprise writes them: mailto://…")
    for name, webhook in alerts.webhooks.items():
        if webhook.style == "pagerduty" and webhook.secret is None:
            why = 'is missing: style = "pagerduty" needs the routing key'
            yield Fault(("alerts", "webhooks", name, "secret"), why, "secret:NAME")
    if 0 < alerts.repeat_ms < _OFTEN_MS:
        yield Fault(("alerts", "repeat"), f'"{alerts.repeat}" is too often', "1m or more; 0s: never")
