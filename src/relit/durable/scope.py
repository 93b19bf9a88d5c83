"""Where in a workflow the code is: what gives every call the same position on every replay.

The main body counts its calls 1, 2, 3…; branch *i* of the gather at *p* counts in the scope ``p/i``; a task that
relit did not make (``asyncio.gather``, ``TaskGroup``) gets a scope ``tN`` at its first call.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relit.durable.execution import Execution


class Scope:
    """One sequence of calls."""

    __slots__ = ("count", "emitted", "execution", "foreign", "name", "parent", "prefix", "task")

    def __init__(self, execution: Execution, name: str, parent: Scope | None, task: asyncio.Task[Any] | None) -> None:
        self.execution = execution
        self.name = name
        self.prefix = f"{name}." if name else ""
        self.parent = parent
        self.task = task
        self.count = 0
        self.foreign = 0
        self.emitted = 0

    def take(self) -> str:
        """The next position."""
        self.count += 1
        return f"{self.prefix}{self.count}"

    def stranger(self, task: asyncio.Task[Any] | None) -> Scope:
        """The scope of a task that relit did not make."""
        self.foreign += 1
        return Scope(self.execution, f"{self.prefix}t{self.foreign}", self, task)

    def enclosing(self) -> list[tuple[str, int]]:
        """The scopes around this one with their counts."""
        found = []
        scope = self.parent
        while scope is not None:
            found.append((scope.name, scope.count))
            scope = scope.parent
        return found


class Frame:
    """One attempt of one step: what the code inside it can reach."""

    __slots__ = ("attempt", "execution", "patience", "pos", "silence_s")

    def __init__(self, execution: Execution, pos: str, attempt: int) -> None:
        self.execution = execution
        self.pos = pos
        self.attempt = attempt
        self.patience: asyncio.Timeout | None = None
        self.silence_s = 0.0

    def beat(self) -> None:
        """The step is at work: its patience starts over."""
        if self.patience is not None and not self.patience.expired():
            self.patience.reschedule(self.execution.loop.time() + self.silence_s)


PLACE: ContextVar[Scope | Frame | None] = ContextVar("relit-place", default=None)


def heartbeat(detail: Any = None) -> None:
    """Say that a long step is still at work. Call it from inside a step, in any thread; elsewhere it does nothing.

    A step with ``heartbeat="30s"`` that stays silent longer is taken for hung and tried again.
    ``detail`` (any plain value) is shown by ``relit show``.
    """
    frame = PLACE.get()
    if isinstance(frame, Frame):
        frame.execution.beat(frame, detail)
