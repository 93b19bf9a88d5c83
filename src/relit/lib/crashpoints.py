"""Named moments at which a test may kill the process. Off, a point costs a function call.

A crash test runs the program once per name in ``POINTS``, ends the process there for real, starts it again and
checks that nothing was lost or done twice. Product code only calls ``point``.
"""

from __future__ import annotations

from collections.abc import Callable

POINTS: tuple[str, ...] = (
    "enqueue.before",
    "enqueue.after",
    "signal.before",
    "signal.after",
    "blob.before",
    "blob.after",
    "claim.before",
    "claim.after",
    "journal.before",
    "journal.after",
    "step.before",
    "step.after",
    "append.before",
    "append.after",
    "intend.before",
    "intend.after",
    "act.before",
    "act.after",
    "receipt.before",
    "receipt.after",
    "doubt.before",
    "doubt.after",
    "emit.before",
    "emit.after",
    "suspend.before",
    "suspend.after",
    "finish.before",
    "finish.after",
    "release.before",
    "release.after",
    "join.after",
    "renew.before",
    "renew.after",
    "reap.before",
    "reap.after",
    "promote.before",
    "promote.after",
    "schedule.before",
    "schedule.after",
    "store.commit.before",
    "store.commit.after",
)

_callback: Callable[[str], None] | None = None


def point(name: str) -> None:
    """Say that the program is at ``name``."""
    if _callback is not None:
        _callback(name)


def install(callback: Callable[[str], None] | None) -> None:
    """Call ``callback`` at every point from now on (tests only); ``None`` switches the points off."""
    global _callback
    _callback = callback
