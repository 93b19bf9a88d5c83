"""Settings from all sources: defaults < relit.toml < agents.d < environment < flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

import msgspec

from relit.agents.kind import Kind, kinds
from relit.errors import ConfigError
from relit.settings import check, meaning
from relit.settings.check import Fault
from relit.settings.environment import Environment
from relit.settings.kinds import Path
from relit.settings.model import Agent, File, Model, Retention, Server, Volumes, Worker
from relit.settings.outside import Alerts, Subscriber, Webhook
from relit.settings.secrets import Secrets, named
from relit.settings.sources import Source, parse_file, read_environment, read_flags, read_text
from relit.settings.tools import Tool


@dataclass(frozen=True)
class Settings:
    """All settings, checked. ``sources`` are the places that said something, the strongest last."""

    file: File
    data: FilePath
    path: FilePath | None = None
    sources: tuple[Source, ...] = ()

    @cached_property
    def secrets(self) -> Secrets:
        """What ``secret:NAME`` stands for."""
        return Secrets(self.data)

    def secret_names(self, *tables: str) -> set[str]:
        """Every NAME that ``secret:NAME`` stands for, of these tables of relit.toml; of all without any."""
        wanted = [getattr(self.file, each) for each in tables] if tables else self.file
        return set(named(msgspec.to_builtins(wanted)))

    @property
    def server(self) -> Server:
        return self.file.server

    @property
    def worker(self) -> Worker:
        return self.file.worker

    @property
    def retention(self) -> Retention:
        return self.file.retention

    @property
    def agents(self) -> dict[str, Agent]:
        return self.file.agents

    def kinds(self) -> dict[str, Kind]:
        """Every kind of agent that has a file, by name."""
        return kinds(self.path.parent / "kinds" if self.path else None)

    @property
    def models(self) -> dict[str, Model]:
        return self.file.models

    @property
    def tools(self) -> dict[str, Tool]:
        return self.file.tools

    @property
    def granted(self) -> list[str]:
        """The agents that may use tools of relit's."""
        return [name for name, agent in self.agents.items() if agent.uses_tools]

    @property
    def gateway_address(self) -> tuple[str, int]:
        """Host and port of ``gateway.listen``."""
        return meaning.split_listen(self.file.gateway.listen)

    @property
    def gateway_url(self) -> str:
        """The gateway's URL as seen from this machine."""
        return _url(*self.gateway_address)

    @property
    def runtimes(self) -> FilePath:
        """Where what agents need is installed."""
        named = self.file.node.runtimes
        return self.data / "runtimes" if named is None else self.folder / FilePath(named).expanduser()

    @property
    def webhooks(self) -> dict[str, Webhook]:
        return self.file.webhooks

    @property
    def subscribers(self) -> dict[str, Subscriber]:
        return self.file.subscribers

    @property
    def alerts(self) -> Alerts:
        return self.file.alerts

    @property
    def volumes(self) -> Volumes:
        return self.file.volumes

    @property
    def volume_store(self) -> str:
        """Where packs go: a folder's absolute path, or ``s3://…``."""
        store = meaning.volume_store(self.volumes.store, self.server.blobs, str(self.data))
        return store if "://" in store else str(self.folder / FilePath(store).expanduser())

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of ``server.listen``."""
        return meaning.split_listen(self.server.listen)

    @property
    def url(self) -> str:
        """The server's URL as seen from this machine."""
        return _url(*self.address)

    @property
    def folder(self) -> FilePath:
        """What relative paths in relit.toml are relative to."""
        return self.path.parent if self.path else FilePath.cwd()

    def origin(self, key: Path) -> str:
        """Where the value at ``key`` comes from: ``relit.toml:3``, a variable, a flag, or ``default``."""
        return next((s.where(key) for s in reversed(self.sources) if s.has(key)), "default")


def _url(host: str, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def find(environment: Environment, cwd: FilePath) -> FilePath | None:
    """The configuration file: RELIT_CONFIG, else relit.toml here, else the user's own, else None."""
    if environment.config is not None:
        return environment.config
    return next((p for p in (cwd / "relit.toml", environment.user_config) if p.is_file()), None)


def load(
    path: FilePath | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    environment: Environment | None = None,
    data: FilePath | None = None,
    drafts: Mapping[FilePath, str | None] | None = None,
) -> Settings:
    """Read and check everything. Raises one ``ConfigError`` that names every fault.

    ``drafts``: texts that are to become files (``None``: that are to go), read as if they had already.
    """
    environment = environment or Environment()
    path = path or find(environment, FilePath.cwd())
    files = _files(path, drafts or {})
    faults = _duplicates(files)
    tree: dict[str, Any] = {}
    for source in files:
        _merge(tree, source.values)
    variables, slips = read_environment(environment, tree)
    flags = read_flags(overrides or {})
    _merge(tree, variables.values)
    _merge(tree, flags.values)
    sources = (*files, variables, flags)
    file = _checked(tree, sources, [*faults, *slips], path)
    return Settings(file, (data or environment.data).expanduser().absolute(), path, sources)


def _files(path: FilePath | None, drafts: Mapping[FilePath, str | None]) -> list[Source]:
    if path is None:
        return []
    folder = path.parent / "agents.d"
    there = {*folder.glob("*.toml"), *(draft for draft in drafts if draft.parent == folder)}
    named = [(path, path.name), *((extra, f"agents.d/{extra.name}") for extra in sorted(there))]
    found = [(file, shown, drafts[file] if file in drafts else read_text(file)) for file, shown in named]
    return [parse_file(file, shown, text) for file, shown, text in found if text is not None]


def _duplicates(files: Sequence[Source]) -> list[Fault]:
    """agents.d holds agents only, each in one file."""
    faults: list[Fault] = []
    seen: dict[str, Source] = {}
    for number, source in enumerate(files):
        agents = source.values.get("agents")
        for name in agents if isinstance(agents, Mapping) else ():
            if name in seen:
                also = seen[name].where(("agents", name))
                faults.append(Fault(("agents", name), f"stands both in {also} and {source.where(('agents', name))}"))
            seen.setdefault(name, source)
        if number:
            faults.extend(
                Fault((key,), f"{source.name} may hold [agents.NAME] only: move it to relit.toml")
                for key in source.values
                if key != "agents"
            )
    return faults


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        present = into.get(key)
        if isinstance(present, dict) and isinstance(value, Mapping):
            _merge(present, value)
        else:
            into[key] = _copy(value)


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _checked(tree: dict[str, Any], sources: Sequence[Source], faults: list[Fault], path: FilePath | None) -> File:
    try:
        file = msgspec.convert(tree, File)
    except msgspec.ValidationError:  # it names one fault, and not as we do
        faults = faults + check.faults(tree)
    else:
        faults = faults or meaning.faults(file, _kinds(path, file))
        if not faults:
            return file
    lines = [_line(fault, sources) for fault in faults]
    count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    raise ConfigError(
        f"the configuration has {count}; nothing was started",
        why=lines[0] if len(lines) == 1 else "\n  " + "\n  ".join(lines),
        fix=f"edit {path}, then: relit config check" if path and any(s.text for s in sources) else "relit config check",
    )


def _kinds(path: FilePath | None, file: File) -> dict[str, Kind]:
    """Those that have a file. None are looked for when no agent needs them: most commands need not wait."""
    if all(agent.kind in ("python", "command") for agent in file.agents.values()):
        return {}
    return kinds(path.parent / "kinds" if path else None)


def _line(fault: Fault, sources: Sequence[Source]) -> str:
    """``relit.toml:3: server.lisen: …``: the strongest source that says something there, or around it."""
    if fault.key[0].startswith("RELIT_"):
        return str(fault)
    for end in range(len(fault.key), 0, -1):
        for source in reversed(sources):
            if source.has(fault.key[:end]):
                return f"{source.where(fault.key)}: {fault}"
    return str(fault)
