"""Which of several older homes is tried next, so that the newest one that works is found in few tries. Pure.

The steps back double until one works, then the gap is halved (J. Bentley and A. Yao, "An almost optimal algorithm for
unbounded searching", 1976). Where a home that works lies between two that do not, it may be passed over; the one that
is found works all the same.
"""

from __future__ import annotations

from collections.abc import Mapping


def following(count: int, seen: Mapping[int, bool]) -> int | None:
    """The index to try next, of ``count`` homes from the newest (0) to the oldest. ``seen``: which of those tried
    worked. ``None``: there is nothing more to find out."""
    works = newest(seen)
    if works is None:
        last = max(seen, default=None)
        if last is None:
            return 0 if count else None
        return None if last >= count - 1 else min(2 * last + 1, count - 1)
    fails = max((index for index in seen if index < works), default=-1)
    return None if works - fails == 1 else (works + fails) // 2


def newest(seen: Mapping[int, bool]) -> int | None:
    """The best of those tried; ``None``: none has worked."""
    return min((index for index, worked in seen.items() if worked), default=None)
