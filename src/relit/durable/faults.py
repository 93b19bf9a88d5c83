"""Errors as data: what a failed step or run leaves behind, and the exception it becomes again."""

from __future__ import annotations

import traceback
from collections.abc import Iterable

import msgspec

from relit.errors import RelitError, RunCancelled, RunFailed, RunTimeout, StepFailed, WaitTimeout

_TRACE_MAX = 16_000
_TEXT_MAX = 8_000  # errors stand in rows and events: an exception that quotes a whole document is cut
_LINE_MAX = 500


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error at rest."""

    type: str
    message: str = ""
    what: str = ""
    why: str = ""
    fix: str = ""
    retry: bool = False
    traceback: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Fault)


def describe(error: BaseException, *, retry: bool = False) -> Fault:
    """``error`` as data, with the end of its traceback."""
    trace = "".join(traceback.format_exception(error))[-_TRACE_MAX:] if error.__traceback__ else ""
    trace = trace.encode(errors="replace").decode()
    name = type(error).__qualname__
    message = _cut(str(error))
    if isinstance(error, RelitError):
        texts = (_cut(error.what), _cut(error.why), _cut(error.fix))
        return Fault(name, message, *texts, error.retry or retry, trace)
    return Fault(name, message, retry=retry, traceback=trace)


def _cut(text: str) -> str:
    """Text that any database takes, not too long."""
    if len(text) > _TEXT_MAX:
        text = f"{text[:_TEXT_MAX]}… ({len(text):,} characters)"
    return text.encode(errors="replace").decode()


def dump(fault: Fault) -> bytes:
    """An error payload."""
    return b"\x01" + _encoder.encode(fault)


def load(data: bytes) -> Fault:
    """The error in an error payload."""
    return _decoder.decode(memoryview(data)[1:])


def summary(fault: Fault) -> str:
    """One line: type, message, and the first line of the reason."""
    lines = [
        text.strip().splitlines()[0][:_LINE_MAX] for text in (fault.what or fault.message, fault.why) if text.strip()
    ]
    return ": ".join([fault.type, *lines])


def step_failed(kind: str, name: str, pos: str, fault: Fault) -> StepFailed:
    """What the workflow sees of a step that failed for good: the same live and on replay."""
    return StepFailed(
        f"{kind} {name!r} (position {pos}) failed",
        position=pos,
        error_type=fault.type,
        why=summary(fault),
        fix="mend the cause, then `relit retry RUN`: finished steps stay done",
    )


def placed(error: RelitError, pos: str) -> RelitError:
    """``error`` with the position of the call that it was recorded at."""
    vars(error)["position"] = pos
    return error


def positions(error: BaseException) -> tuple[str, ...]:
    """Where ``error`` was recorded, and what failed beside it: a retry of the run starts from there."""
    own: str | None = vars(error).get("position")
    beside: tuple[str, ...] = vars(error).get("beside", ())
    return ((own,) if own else ()) + beside


def with_others(error: Exception, others: Iterable[Exception]) -> Exception:
    """``error`` for all that failed in parallel: they are tried again together."""
    beside = [pos for other in others for pos in positions(other)]
    if beside:
        vars(error)["beside"] = (*vars(error).get("beside", ()), *beside)
    return error


_RUN_ERRORS: dict[str, type[RelitError]] = {
    cls.__name__: cls for cls in (RunFailed, RunCancelled, RunTimeout, WaitTimeout)
}


def revive(fault: Fault) -> RelitError:
    """The error that a wait recorded (a child's failure, a timeout)."""
    cls = _RUN_ERRORS.get(fault.type, RunFailed)
    return cls(fault.what or summary(fault), why=fault.why, fix=fault.fix)
