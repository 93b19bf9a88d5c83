"""How much room a disk has: ample, low, or next to none. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

Room = Literal["ample", "low", "least"]
_SHARE, _LEAST, _MOST = 0.05, 512 << 20, 10 << 30  # of the disk, but in bytes no less and no more than so many
_SMALL = 4  # of a small disk no more than this part
_OUT = 1.25  # times the mark until it is over
_RANK: dict[Room, int] = {"ample": 0, "low": 1, "least": 2}


class Space(msgspec.Struct, frozen=True):
    """Bytes."""

    room: Room = "ample"
    free: int = 0
    total: int = 0


def low_mark(total: int) -> int:
    """With less than that free it is low; with less than a quarter of it next to nothing is left."""
    return min(total // _SMALL, max(_LEAST, min(_MOST, round(total * _SHARE))))


def spaced(before: Space, free: int, total: int) -> Space:
    """After one more look: tighter at once, easier only with clearly more."""
    now = _named(free, total, 1.0)
    if _RANK[now] < _RANK[before.room]:
        now = max(now, _named(free, total, _OUT), key=_RANK.__getitem__)
    return Space(now, free, total)


def _named(free: int, total: int, times: float) -> Room:
    mark = low_mark(total) * times
    return "least" if free < mark / 4 else "low" if free < mark else "ample"
