"""The agents of the configuration as they are on this machine: of settings and processes, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from relit.agents import door
from relit.app import by_hand
from relit.app.agents import kind_of, runtime_of, version_of
from relit.app.instances import copies, folder_of, hold_of, home_of
from relit.control.values import InstanceStatus
from relit.node.status import Running
from relit.settings import Settings

_WORST = ("down", "healing", "backing-off", "draining", "starting", "frozen", "working", "ready", "idle", "stopped")


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One agent. ``installed``: its runtime is there, or it needs none; ``reason``: why it is not simply ready."""

    name: str
    kind: str
    version: str
    state: str
    pid: int | None
    pids: list[int]
    ports: dict[str, int]
    home: str
    installed: bool = True
    restarts: int = 0
    reason: str = ""


def listing(settings: Settings, found: Running) -> list[Listed]:
    """All of them, by name. Nothing is made or changed."""
    seen = {each.name: each for each in found.instances}
    return [_listed(settings, name, seen) for name in sorted(settings.agents)]


def _listed(settings: Settings, name: str, seen: Mapping[str, InstanceStatus]) -> Listed:
    agent, kind = settings.agents[name], kind_of(settings, name)
    mine = [seen[each] for each in copies(settings, name) if each in seen]
    worst = min(mine, key=lambda each: _WORST.index(each.state), default=None)
    installed = not (kind and kind.installs) or runtime_of(settings, name, kind).is_dir()
    pids = [each.pid for each in mine if each.pid is not None]
    return Listed(
        name=name,
        kind=agent.kind,
        version=version_of(settings, name, kind) if kind else "",
        state=worst.state if worst else "stopped",
        pid=pids[0] if pids else None,
        pids=pids,
        ports=door.read(folder_of(settings, name)).ports,
        home=str(home_of(settings, name)),
        installed=installed,
        restarts=sum(each.restarts for each in mine),
        reason=_reason(settings, name, installed, worst),
    )


def _reason(settings: Settings, name: str, installed: bool, worst: InstanceStatus | None) -> str:
    if not installed:
        return f"not installed: relit agent install {name}"
    if worst is not None and (worst.reason or worst.state not in ("ready", "working", "idle")):
        return worst.reason or worst.last_exit
    if worst is None:
        return _first(hold_of(settings, name)) if by_hand.held(settings, name) else "no node runs it: relit up"
    return ""


def _first(path: Path) -> str:
    return path.read_text(errors="replace").partition("\n")[0]
