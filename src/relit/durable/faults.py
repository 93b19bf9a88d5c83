"""Errors as data: what a failed step or run leaves behind, and the exception it becomes again."""

from __future__ import annotations

import traceback

import msgspec

from relit.errors import RelitError, RunCancelled, RunFailed, RunTimeout, StepFailed, WaitTimeout

_TRACE_MAX = 16_000


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
    if isinstance(error, RelitError):
        return Fault(name, str(error), error.what, error.why, error.fix, error.retry or retry, trace)
    return Fault(name, str(error).encode(errors="replace").decode(), retry=retry, traceback=trace)


def dump(fault: Fault) -> bytes:
    """An error payload."""
    return b"\x01" + _encoder.encode(fault)


def load(data: bytes) -> Fault:
    """The error in an error payload."""
    return _decoder.decode(memoryview(data)[1:])


def summary(fault: Fault) -> str:
    """One line: type, message, and the first line of the reason."""
    lines = [text.strip().splitlines()[0] for text in (fault.what or fault.message, fault.why) if text.strip()]
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


def position(error: BaseException) -> str | None:
    """Where ``error`` was recorded: a retry of the run starts from there."""
    found: str | None = vars(error).get("position") or None
    return found


_RUN_ERRORS: dict[str, type[RelitError]] = {
    cls.__name__: cls for cls in (RunFailed, RunCancelled, RunTimeout, WaitTimeout)
}


def revive(fault: Fault) -> RelitError:
    """The error that a wait recorded (a child's failure, a timeout)."""
    cls = _RUN_ERRORS.get(fault.type, RunFailed)
    return cls(fault.what or summary(fault), why=fault.why, fix=fault.fix)
