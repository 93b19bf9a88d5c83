"""Instances that make room: a file says so, and whoever takes it away wakes them. See ``InstanceSpec.parking``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from relit.pressure.shedding import Deed, returns_s

NAME = "parked"  # beside the hold file


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """Why, how and since when (ms since 1970). ``times``: how often lately; ``resident``: what it held."""

    reason: str
    deed: Deed
    afresh: bool = False  # it starts again as soon as it has stopped
    at_ms: int
    times: int = 1
    resident: int = 0


def beside(hold: str) -> Path:
    """The file of the instances whose hold file that is."""
    return Path(hold).with_name(NAME)


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
