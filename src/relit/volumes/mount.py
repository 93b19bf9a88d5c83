"""One agent's home on this node: where it lies, how it is kept, whether it is there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from relit.errors import Conflict, NotFound, RelitError, VolumeError
from relit.volumes.base import Freezer, Holder
from relit.volumes.beneath import Beneath
from relit.volumes.disk import attempted
from relit.volumes.limits import Limits
from relit.volumes.moved import forget


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """One agent's home and how it is kept. ``work``: where journals of restores and replaced files lie. ``declared``:
    relit.toml names the agent, so that its home is made anew. ``carry_over``: paths that a restore of the whole home
    leaves as they are."""

    agent: str
    home: Path
    work: Path
    freezer: Freezer
    holder: Holder
    patterns: tuple[str, ...] = ()
    carry_over: tuple[bytes, ...] = ()
    limits: Limits = Limits()
    every_ms: int = 60_000
    declared: bool = False


def is_there(home: Path) -> bool:
    """VolumeError when it is a symlink: whatever it points to by then would be read, written and removed."""
    if home.is_symlink():
        raise VolumeError(
            f"the home {home} is a symlink: neither a snapshot nor a restore goes through it",
            why="it may point to any other folder at the next moment",
            fix="put a folder in its place and mount on that what it pointed to (mount --bind), or move the whole data "
            "folder (RELIT_DATA)",
        )
    return home.is_dir()


def is_absent(home: Path) -> bool:
    """Whether there certainly is no home."""
    try:
        return not home.is_dir()
    except OSError:  # who asks what is in it is told why
        return False


def holds(home: Path, path: bytes) -> bool:
    """Whether that path is in it."""
    if not is_there(home):
        return False
    with Beneath(home) as root:
        return root.lstat(path) is not None


def way_back(agent: str) -> str:
    """What brings a home back that is gone, when there are snapshots of it."""
    return f"relit volume restore {agent} --at now brings it back as it was last; relit up does not"


def parted(agent: str, home: Path) -> Conflict:
    """Single files of a home that is gone are wanted."""
    return Conflict(
        f"single files of {agent} cannot be put back",
        why=f"{home} is gone, and {agent} would start on a home of these files alone",
        fix=f"{way_back(agent)}; relit volume cat {agent} PATH --at WHEN shows a single file",
    )


def nowhere(agent: str) -> NotFound:
    """Neither a home nor a volume of that agent is on this node."""
    return NotFound(
        f"there is no home of {agent!r} here",
        why="an agent of relit.toml gets one by relit up, any other when its code first asks for ctx.home",
        fix="relit volume ls shows the homes of which there are snapshots, relit ps the agents",
    )


def check_dispensable(mount: Mount) -> None:
    """Conflict while relit.toml names the agent."""
    if mount.declared:
        raise Conflict(
            f"the home of {mount.agent} was not put away",
            why=f"[agents.{mount.agent}] in relit.toml names it: its home would be made anew",
            fix=f"take it out of relit.toml, relit down, relit up, then relit volume rm {mount.agent} --home",
        )


def put_away(mount: Mount, id: str) -> Path | None:
    """The home under another name, where relit never touches it; ``None`` when there is none."""
    with contextlib.suppress(OSError):  # it says nothing of another home
        forget(mount.home)
    if not os.path.lexists(mount.home):
        return None
    away = mount.home.with_name(f"{mount.home.name}.removed-{id}")
    with attempted(f"the snapshots of {mount.agent} are forgotten, but {mount.home} was not put away"):
        mount.home.rename(away)
    return away


def unsettled(agent: str, error: RelitError) -> VolumeError:
    """Why an agent stays stopped: what a process that was killed had begun could not be brought to an end."""
    return VolumeError(
        f"the home of {agent} is not in order: what a restore or fork had begun was neither finished nor undone; "
        "it stays stopped",
        why=": ".join(filter(None, (error.what, error.why))),
        fix=error.fix or "mend the cause, then start relit again",
    )
