"""The seam: what every driver does with an instance's process tree, container or pod."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from relit.control.box import Box, Limits


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """One life to be started. ``key`` is new for every life; ``name`` is the instance: it lives once at a time.

    ``tag`` is the caller's and comes back with ``lives`` (the node keeps its spec's hash there). ``env`` is the whole
    environment. ``log`` is the raw log to append to; empty throws the output away. While the file ``hold`` is there it
    is not started (``InstanceHeld``): this is asked in the last moment, so that who wrote it and sees no life is sure.
    ``box`` is what it may see and use, ``None`` everything. ``oom``: how gladly the kernel kills it when memory is
    short (``oom_score_adj``), from its first moment on.
    """

    key: str
    name: str
    argv: list[str]
    env: dict[str, str] = {}
    cwd: str = "/"
    log: str = ""
    tag: str = ""
    hold: str | None = None
    box: Box | None = None
    limits: Limits | None = None
    oom: int | None = None


class Exit(msgspec.Struct, frozen=True):
    """How a life ended: an exit code, or a signal, or (both ``None``) nobody can tell."""

    code: int | None = None
    signal: int | None = None

    @property
    def kind(self) -> Literal["code", "signal", "unknown"]:
        """Which of the three it is."""
        if self.code is not None:
            return "code"
        return "unknown" if self.signal is None else "signal"

    def __str__(self) -> str:
        return {"code": f"exit {self.code}", "signal": f"signal {self.signal}", "unknown": "unknown end"}[self.kind]


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """A started life. ``pid`` and ``start`` (clock ticks since boot) name its main process; ``exit`` once it ended."""

    key: str
    name: str
    tag: str
    pid: int
    start: int
    begun_ms: int  # on the boot clock
    exit: Exit | None = None
    ended_ms: int | None = None  # on the boot clock
    adopted: bool = False  # taken over from a keeper that died
    frozen_ms: int | None = None  # since when it stands still, on the boot clock
    thawed_ms: int = 0  # when it was last let go


class Driver(Protocol):
    """Starts, finds again, signals, kills and outlives its callers.

    Raises ``Conflict`` (``name`` lives already), ``StartFailed`` (no such program, folder or log), ``ConfigError`` (its
    box cannot be made here), ``InstanceHeld`` and ``KeeperUnreachable``. All methods may be called again after a lost
    answer.
    """

    async def start(self, launch: Launch) -> Life:
        """Start a life, or return the one that was started with this key."""
        ...

    async def stand_by(self, launch: Launch, *, after: str, unless: Sequence[int] = ()) -> None:
        """Make ready what follows the life ``after``, and start it the moment that one ends by itself.

        Not when it ends with one of the exit codes ``unless``, after ``signal`` or ``kill``, while it is frozen or
        held: then ``start`` with the same key starts it, and ``kill`` drops it. A start of this name with another key
        drops it too, and so does a later ``stand_by``. When ``after`` has ended already nothing is made ready.
        """
        ...

    async def adopt(self, key: str) -> Life | None:
        """The life with that key, living or ended and not yet forgotten."""
        ...

    async def lives(self) -> list[Life]:
        """Every life not forgotten: what a new caller takes over."""
        ...

    async def signal(self, key: str, number: int, *, whole: bool = False) -> bool:
        """Signal the main process (``whole``: its process group); false when it has ended."""
        ...

    async def kill(self, key: str) -> None:
        """End the whole tree at once, children that left its session included."""
        ...

    async def park(self, key: str) -> list[int]:
        """Have it stand still until ``wake``, also when the caller dies; answers its processes. None: it has ended, or
        would not. Safe twice."""
        ...

    async def wake(self, key: str) -> None:
        """It goes on. Safe twice; also when it was never parked, or has ended."""
        ...

    async def wait(self, key: str) -> Exit:
        """Wait for the end of the main process; the rest of its tree is gone then too."""
        ...

    async def forget(self, key: str) -> None:
        """Drop the record of an ended life. An unknown key is fine."""
        ...
