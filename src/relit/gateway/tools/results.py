"""Results of tools as they are kept, and as an agent is given them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from relit.gateway.tools.base import Outcome, text
from relit.store.tools import ToolCall

INLINE = 64 << 10  # bytes in a row of the database
_NOT_MADE = {"denied": "was denied", "expired": "was allowed by nobody in time"}
_SHOWN = 2000  # bytes of arguments
READ = "read_result"  # the tool that gives the rest of one


class Blobs(Protocol):
    """Where large results lie, by their hash."""

    async def put(self, data: bytes) -> str: ...

    async def get(self, hash: str) -> bytes: ...


def hidden(outcome: Outcome, secrets: Iterable[bytes]) -> Outcome:
    """Without what nobody may see: a service may say its key back."""
    raw = without(msgspec.json.encode(outcome.content), secrets)
    return Outcome(content=msgspec.json.decode(raw), failed=outcome.failed)


def without(raw: bytes, secrets: Iterable[bytes]) -> bytes:
    """JSON, with another word for each way in it in which a secret is written (``relit.lib.spellings``; those that hold
    others come first)."""
    for secret in secrets:
        raw = raw.replace(secret, b"[hidden]")
    return raw


def holds(arguments: dict[str, Any], secrets: Iterable[bytes]) -> bool:
    """Whether one of them is in what a tool is called with."""
    raw = msgspec.json.encode(arguments)
    return without(raw, secrets) != raw


async def keep(outcome: Outcome, blobs: Blobs) -> tuple[bytes | None, str | None]:
    """(in the row, or where it lies)."""
    data = msgspec.json.encode(outcome.content)
    return (data, None) if len(data) <= INLINE else (None, await blobs.put(data))


async def whole(call: ToolCall, blobs: Blobs) -> Outcome:
    """The result of a call that has ended; of one that was not made, why."""
    if call.result is None and call.blob is None:
        words = f"it {_NOT_MADE.get(call.state, 'was not made')}" + (f": {call.why}" if call.why else "")
        return text(f"[relit: {call.tool} was not called: {words}]", failed=True)
    data = call.result if call.blob is None else await blobs.get(call.blob)
    content: Any = msgspec.json.decode(data or b"[]")
    if not isinstance(content, list):  # a person's word
        content = text(content if isinstance(content, str) else msgspec.json.encode(content).decode()).content
    return Outcome(content=content, failed=call.failed)


def earlier(outcome: Outcome, call: ToolCall) -> Outcome:
    """For a call that means the same as one that was made with other words: it must not pass for its own."""
    arguments = call.arguments.decode() if len(call.arguments) <= _SHOWN else f"{len(call.arguments)} bytes"
    words = f"[relit: already done earlier in this turn, and not again: {call.tool} with {arguments}. What came of it:]"
    return Outcome(content=[*text(words).content, *outcome.content], failed=outcome.failed)


def trimmed(outcome: Outcome, call: str, most: int) -> Outcome:
    """Not more than ``most`` characters of its text; how the rest is had is said in its place."""
    all = sum(len(_words(part)) for part in outcome.content)
    if all <= most:
        return outcome
    left, made = most, []
    for part in outcome.content:
        words = _words(part)
        if len(words) <= left or not words:
            made.append(part)
            left -= len(words)
        elif left >= 0:
            more = f'\n[relit: {all} characters in all; for the rest: {READ}(call="{call}", offset={most})]'
            made.append({**part, "text": words[:left] + more})
            left = -1
    return Outcome(content=made, failed=outcome.failed)


def _words(part: dict[str, Any]) -> str:
    return str(part.get("text") or "")


def piece(outcome: Outcome, offset: int, most: int) -> str:
    """A part of all its text."""
    words = "".join(map(_words, outcome.content))
    found = words[offset : offset + most]
    end = offset + len(found)
    return found + (f"\n[relit: {len(words)} characters in all; go on at offset={end}]" if end < len(words) else "")
