"""Instances that make room: a file says so, and whoever takes it away wakes them. See ``InstanceSpec.parking``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from relit.lib.clock import SYSTEM_CLOCK
from relit.pressure.shedding import Deed, returns_s

NAME = "parked"  # beside the hold file
USED = "used"  # likewise: touched while somebody is connected to the agent's own port
_TOUCH_S = 0.5
_FRESH_S = 3.0  # who touches it does so every second


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """Why, how and since when (ms since 1970). ``times``: how often lately; ``resident``: what it held."""

    reason: str
    deed: Deed
    afresh: bool = False  # it starts again as soon as it has stopped
    at_ms: int
    times: int = 1
    resident: int = 0


def beside(hold: str, instance: str = "") -> Path:
    """The file of the instance whose hold file that is; ``instance``: of one of several."""
    return Path(hold).with_name(f"{NAME}-{instance}" if instance else NAME)


def all_beside(hold: Path) -> list[Path]:
    """Those that are there, of all instances with that hold file."""
    return [each for each in hold.parent.glob(f"{NAME}*") if not each.name.endswith(".new")]


def read(path: Path) -> Parked | None:
    """``None``: it is not parked."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Parked)
    except (OSError, msgspec.MsgspecError):  # one that says nothing stops nobody
        return None


def write(path: Path, parked: Parked) -> None:
    """Whole or not at all. OSError."""
    fresh = path.with_name(f".{NAME}.new")
    fresh.write_bytes(msgspec.json.encode(parked))
    os.replace(fresh, path)


class Uses:
    """Tells the node that somebody speaks with an agent."""

    def __init__(self, hold: Path) -> None:
        self._path = hold.with_name(USED)
        self._last = float("-inf")

    def now(self) -> None:
        """At this moment. On a full disk it is not told."""
        at = SYSTEM_CLOCK.monotonic()
        if at - self._last >= _TOUCH_S:
            self._last = at
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._path.touch(mode=0o600)


def is_used(hold: str) -> bool:
    """Whether somebody speaks with the agent whose hold file that is."""
    try:
        touched_ms = os.stat(Path(hold).with_name(USED)).st_mtime * 1000
        return abs(SYSTEM_CLOCK.now_ms() - touched_ms) < _FRESH_S * 1000
    except OSError:
        return False


def rests_s(parked: Parked, now_ms: int) -> float:
    """Seconds that one which was killed waits before it starts again, longer each time: it would take all again."""
    waited = max(0, now_ms - parked.at_ms) / 1000
    return max(0.0, returns_s(parked.times) - waited) if parked.deed == "kill" else 0.0


def wake(path: Path) -> bool:
    """Let them start again. False: they were not parked."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        return True
    return False
