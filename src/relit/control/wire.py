"""The words on the wire: four bytes of length, then JSON. Shared by both ends and by the in-process transport."""

from __future__ import annotations

import asyncio
import struct
from typing import Any, TypeVar

import msgspec

from relit.control.base import ControlBackend
from relit.control.care import ConfigFile, Incident, KnownGood, Tried, Went
from relit.control.values import Activity, Death, Desired, Measured, NodeInfo
from relit.errors import RelitError, ServerUnreachable, by_code
from relit.events import Event

FRAME_MAX = 32 << 20
_LENGTH = struct.Struct("!I")


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """``ControlBackend.hello``."""

    node: NodeInfo


class Report(msgspec.Struct, tag="report", frozen=True):
    """``ControlBackend.report``."""

    events: list[Event]


class Want(msgspec.Struct, tag="desired", frozen=True):
    """``ControlBackend.desired``."""

    version: int
    wait_s: float


class Died(msgspec.Struct, tag="worker_died", frozen=True):
    """``ControlBackend.worker_died``."""

    death: Death


class Trouble(msgspec.Struct, tag="incident", frozen=True):
    """``ControlBackend.incident``."""

    incident: Incident


class AskGood(msgspec.Struct, tag="known_good", frozen=True):
    """``ControlBackend.known_good``."""

    agent: str
    files: list[ConfigFile]
    broken: bool = False
    before: list[str] = []


class GoBack(msgspec.Struct, tag="go_back", frozen=True):
    """``ControlBackend.go_back``."""

    agent: str
    number: int
    files: list[str]


class TryHome(msgspec.Struct, tag="try_home", frozen=True):
    """``ControlBackend.try_home``."""

    agent: str
    number: int
    within_ms: int


class MarkGood(msgspec.Struct, tag="mark_good", frozen=True):
    """``ControlBackend.mark_good``."""

    agent: str


class AskActivity(msgspec.Struct, tag="activity", frozen=True):
    """``ControlBackend.activity``."""


class TellFootprints(msgspec.Struct, tag="footprints", frozen=True):
    """``ControlBackend.footprints``."""

    learnt: list[Measured]


Call = Hello | Report | Want | Died | Trouble | AskGood | GoBack | TryHome | MarkGood | AskActivity | TellFootprints
Result = TypeVar("Result", Desired, KnownGood, Went, Tried, int, Activity, list[Measured])


class Request(msgspec.Struct, frozen=True):
    """A numbered call."""

    id: int
    call: Call


class Failure(msgspec.Struct, frozen=True):
    """One of relit's errors, taken apart."""

    code: str
    what: str
    why: str = ""
    fix: str = ""


class Answer(msgspec.Struct, frozen=True):
    """To the request with that number: a result (JSON of its own) or a failure."""

    id: int
    result: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None


def encode(message: msgspec.Struct) -> bytes:
    """A message as a frame."""
    body = msgspec.json.encode(message)
    return _LENGTH.pack(len(body)) + body


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next frame's body; ``None`` at the end. Raises ``ValueError`` when it is no frame of ours."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > FRAME_MAX:
            raise ValueError(f"a frame of {length} bytes; the limit is {FRAME_MAX}")
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        return None


async def perform(backend: ControlBackend, call: Call) -> Any:
    """Do a call on the backend."""
    match call:
        case Hello(node):
            return await backend.hello(node)
        case Report(events):
            return await backend.report(events)
        case Want(version, wait_s):
            return await backend.desired(version, wait_s)
        case Died(death):
            return await backend.worker_died(death)
        case Trouble(incident):
            return await backend.incident(incident)
        case AskGood(agent, files, broken, before):
            return await backend.known_good(agent, files, broken=broken, before=before)
        case GoBack(agent, number, files):
            return await backend.go_back(agent, number, files)
        case TryHome(agent, number, within_ms):
            return await backend.try_home(agent, number, within_ms)
        case MarkGood(agent):
            return await backend.mark_good(agent)
        case AskActivity():
            return await backend.activity()
        case TellFootprints(learnt):
            return await backend.footprints(learnt)


def failure_of(error: RelitError) -> Failure:
    """An error, ready for the wire."""
    return Failure(error.code, error.what, error.why, error.fix)


def error_of(failure: Failure) -> RelitError:
    """The same error on the other side."""
    kind = by_code().get(failure.code, RelitError)
    return kind(failure.what, why=failure.why, fix=failure.fix)


def result_of(result: bytes | msgspec.Raw, kind: type[Result]) -> Result:
    """A result that is not empty."""
    try:
        return msgspec.json.decode(result, type=kind)
    except msgspec.MsgspecError as error:
        raise ServerUnreachable(
            "the server's answer is not understood", why=str(error), fix="relit down; relit up"
        ) from error
