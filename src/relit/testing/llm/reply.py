"""An answer as the bytes that are sent for it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import msgspec

from relit.testing.llm import ask as asked
from relit.testing.llm.ask import Ask
from relit.testing.llm.script import Answer


class Wire(Protocol):
    """One protocol: how it is read, and how it says an answer. ``no`` numbers requests; all ids come from it."""

    @property
    def protocol(self) -> asked.Protocol: ...

    def read(self, body: dict[str, Any], /) -> Ask:
        """Raises ``Refused``."""
        ...

    def whole(self, no: int, ask: Ask, answer: Answer, /) -> dict[str, Any]: ...

    def error(self, no: int, status: int, message: str, code: str | None, /) -> dict[str, Any]: ...


@runtime_checkable
class Streaming(Protocol):
    """A ``Wire`` that can say an answer as events too."""

    def events(self, no: int, ask: Ask, answer: Answer, /) -> list[bytes]: ...


class Reply(msgspec.Struct, frozen=True):
    """What is sent: ``pieces`` one by one."""

    status: int
    headers: dict[str, str]
    pieces: list[bytes]


def compose(wire: Wire, no: int, ask: Ask, answer: Answer) -> Reply:
    """``answer`` in the words of ``wire``."""
    headers = {"x-request-id": f"req_{no:06}", "request-id": f"req_{no:06}"}
    if answer.status != 200:
        if answer.retry_after is not None:
            headers["retry-after"] = f"{answer.retry_after:g}"
        return _whole(answer, headers, wire.error(no, answer.status, answer.message, answer.code))
    if ask.streams and isinstance(wire, Streaming):
        return _stream(answer, headers, wire.events(no, ask, answer))
    return _whole(answer, headers, wire.whole(no, ask, answer))


def _whole(answer: Answer, headers: dict[str, str], body: dict[str, Any]) -> Reply:
    data = msgspec.json.encode(body)
    if answer.fault == "malformed":
        data = data[: len(data) // 2]
    half = len(data) // 2
    kind = {"content-type": "application/json", "content-length": str(len(data))}
    return Reply(answer.status, {**headers, **kind}, [data[:half], data[half:]])


def _stream(answer: Answer, headers: dict[str, str], events: list[bytes]) -> Reply:
    if answer.fault == "malformed":
        place = min(answer.after, len(events) - 1)
        events[place] = _broken(events[place])
    kind = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    return Reply(200, {**headers, **kind}, events)


def _broken(event: bytes) -> bytes:
    """The event with half of its data."""
    head, data = event.split(b"data: ", 1)
    return b"%bdata: %b\n\n" % (head, data[: len(data) // 2])
