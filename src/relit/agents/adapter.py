"""A kind and one agent of it, put together: what the node starts, asks and heals."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from relit.agents import config
from relit.agents.door import Door
from relit.agents.kind import Inject, Kind, Probes, fill
from relit.agents.place import make
from relit.control.care import Care, ConfigFile, EnvFile, Ladder
from relit.control.values import Probe
from relit.lib import durations

T = TypeVar("T")
_BEGUN = "furnishing"  # beside a home whose first files are being made


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """Where an agent's model calls go."""

    url: str
    key: str
    name: str = "default"


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """Where an agent's calls to relit's tools go. ``strict``: it has no others. ``patience_s``: an answer that has not
    come by then never will."""

    url: str
    key: str
    strict: bool = False
    patience_s: int = 60


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where one agent lives, and what is its alone."""

    name: str
    home: str
    tmp: str
    runtime: str = ""
    door: Door = Door()
    model: Model | None = None
    tools: Tools | None = None

    def names(self) -> dict[str, Any]:
        """What a kind's file may name."""
        found: dict[str, Any] = {"name": self.name, "home": self.home, "tmp": self.tmp, "runtime": self.runtime}
        found |= {f"port:{name}": port for name, port in self.door.ports.items()}
        found |= {f"token:{name}": token for name, token in self.door.tokens.items()}
        if self.model is not None:
            model = self.model
            found |= {"model:url": model.url, "model:key": model.key, "model:name": model.name}
        if self.tools is not None:
            found |= {"tools:url": self.tools.url, "tools:key": self.tools.key}
            found |= {"tools:patience_s": self.tools.patience_s, "tools:patience_ms": 1000 * self.tools.patience_s}
        return found


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """An agent ready to be made an instance of. ``inject`` has its address filled in."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    ready: Probe | None
    live: list[Probe]
    canary: Probe | None
    care: Care
    startup_ms: int
    grace_ms: int
    inject: Inject | None = None
    secrets: list[str] = []


def fit(name: str, kind: Kind, place: Place, *, ladder: Ladder, silent: bool = False) -> Fitted:
    """``name`` is the kind's. ``silent``: a clone, which must not act on the world. ConfigError."""
    names = place.names()
    ready, live, canary = _probes(kind.probes, names, answers=place.model is not None)
    repair = kind.repairs()
    return Fitted(
        argv=[str(each) for each in fill(kind.command, names)],
        env={key: str(value) for key, value in fill(kind.env, names).items()},
        cwd=fill(kind.cwd, names),
        ready=ready,
        live=live,
        canary=canary,
        care=Care(
            agent=place.name,
            kind=name,
            home=place.home,
            tmp=place.tmp,
            config=[_filled(each, names) for each in configs_of(kind, place, silent=silent)],
            env_file=env_file_of(kind, place, silent=silent),
            repair=_filled(repair, names) if repair else None,
            databases=kind.databases,
            settle=kind.settle,
            ports=sorted(place.door.ports.values()),
            needs=place.runtime,
            stale=kind.stale,
            exits=kind.exits,
            ladder=ladder,
        ),
        startup_ms=durations.to_ms(kind.startup),
        grace_ms=durations.to_ms(kind.grace),
        inject=_filled(kind.inject, names) if kind.inject else None,
        secrets=sorted(place.door.tokens.values()),
    )


def configs_of(kind: Kind, place: Place, *, silent: bool = False) -> list[ConfigFile]:
    """Its configuration files as nodes see to them, with nothing filled in. ``silent``: a clone's."""
    tools = place.tools
    return [
        each.file(
            model=place.model is not None, tools=tools is not None, strict=bool(tools and tools.strict), silent=silent
        )
        for each in kind.config
    ]


def env_file_of(kind: Kind, place: Place, *, silent: bool = False) -> EnvFile | None:
    """The file of variables that its kind names, with all that relit says of these."""
    if not kind.env_file:
        return None
    said = kind.env | (kind.clone.env if silent else {})
    keep = {key: str(value) for key, value in fill(said, place.names()).items()}
    return EnvFile(path=kind.env_file, keep=keep)


def _probes(
    probes: Probes, names: Mapping[str, Any], *, answers: bool
) -> tuple[Probe | None, list[Probe], Probe | None]:
    """A canary needs a model that answers."""
    ready = _filled(probes.ready.probe(), names) if probes.ready else None
    live = [_filled(each.probe(), names) for each in probes.live]
    canary = _filled(probes.canary.probe(), names) if probes.canary and answers else None
    return ready, live, canary


def _filled(value: T, names: Mapping[str, Any]) -> T:
    """A value (or a list of them) with every name in it filled in."""
    made: T = msgspec.convert(fill(msgspec.to_builtins(value, str_keys=True), names), type=type(value), strict=False)
    return made


def furnish(kind: Kind, place: Place) -> None:
    """Make what a first start needs: folders, and configuration files in a home that is still empty, or was when this
    was begun and cut short. What an agent has put in a folder's place stays: its next start tells whether it can live
    with that. OSError."""
    home = Path(place.home)
    begun = home.with_name(_BEGUN)
    fresh = begun.exists() or not any(home.iterdir())
    if fresh:
        begun.touch(mode=0o600)
    for folder in kind.folders:
        with contextlib.suppress(OSError):
            make(home, folder)
    Path(place.tmp).mkdir(mode=0o700, parents=True, exist_ok=True)
    if fresh:
        for each in configs_of(kind, place):
            if not os.path.lexists(home / each.path):
                config.make(home, msgspec.structs.replace(each, keep=fill(each.keep, place.names())))
        begun.unlink(missing_ok=True)  # another process of relit may have seen to it, too
