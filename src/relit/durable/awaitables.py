"""What the context's calls return: answers from the journal, and calls that are still to be made."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from relit.durable import faults
from relit.durable.payload import PLAIN
from relit.store.values import Step

if TYPE_CHECKING:
    from relit.durable.execution import Execution

T = TypeVar("T")


class Pending(Generic[T]):
    """A call that starts when it is awaited; its position was taken when it was made."""

    __slots__ = ("_args", "_start")

    def __init__(self, start: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> None:
        self._start = start
        self._args = args

    def __await__(self) -> Generator[Any, None, T]:
        return self._start(*self._args).__await__()


class Recalled(Generic[T]):
    """An answer from the journal, decoded when it is awaited. Awaiting it does not yield to the event loop."""

    __slots__ = ("_execution", "_step", "_type")

    def __init__(self, execution: Execution, step: Step, type: Any) -> None:
        self._execution = execution
        self._step = step
        self._type = type

    def __await__(self) -> Generator[Any, None, T]:
        step = self._step
        data = step.result
        if data is None:
            raise recorded_error(step)
        if data[0] == PLAIN:
            value: T = self._execution.payloads.unpack(data, self._type)
            return value
        fetched: T = yield from self._execution.fetch(data, self._type).__await__()
        return fetched


def recorded_error(step: Step) -> Exception:
    """The exception that a recorded failure becomes."""
    fault = faults.load(step.error or b"")
    if step.kind in ("step", "effect"):
        return faults.step_failed(step.kind, step.name, step.pos, fault)
    return faults.placed(faults.revive(fault), step.pos)
