"""What the gateway answers by itself: a canary's questions, and all of a clone's. No provider is called, nothing is
paid. Pure.

A canary turn shows that an agent takes a message, calls its model and answers. What it asks carries a mark, by which
the call is known when it comes here; so a provider's outage does not make the agent look ill. An agent may make more
calls in that conversation (a title, a summary): they repeat the mark, and are answered in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from relit.gateway import wording
from relit.gateway.reading import read
from relit.gateway.target import Protocol
from relit.gateway.wording import Text

MARK = "relit-canary-"
_MARKED = re.compile(re.escape(MARK) + r"([0-9A-Za-z]{1,64})")
_INTERNAL = ("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>",)  # what agents say to the model in the user's name
_JSON, _EVENTS = "application/json", "text/event-stream; charset=utf-8"


def question(nonce: str) -> str:
    """What an agent is asked. ``nonce``: letters and digits, other ones each time."""
    return f"{MARK}{nonce}: answer with the word {answer(nonce)} and nothing else. Use no tools."


def answer(nonce: str) -> str:
    """What an agent that works answers."""
    return f"relit-ok-{nonce}"


@dataclass(frozen=True)
class Canned:
    """An answer of the gateway's own."""

    content_type: str
    body: bytes


TRIAL = "This is a trial in a clone: no model is asked."
"""What a clone is answered that asks no canary's question."""


def reply(protocol: Protocol, raw: bytes, at: int, *, clone: bool = False) -> Canned | None:
    """The answer to a request with the body ``raw`` at ``at`` (seconds since 1970), when a canary or a clone asks."""
    body = _decoded(raw) if clone or MARK.encode() in raw else None
    nonce = None if body is None else nonce_of(protocol, body)
    if body is None or (nonce is None and not clone):
        return None
    options = body.get("stream_options")
    text = Text(
        id=f"canary{nonce or ''}",
        text=answer(nonce) if nonce else TRIAL,
        model=str(body.get("model", "default")),
        at=at,
        asked=len(raw),
        counted=isinstance(options, dict) and options.get("include_usage") is True,
    )
    if body.get("stream") is True and protocol != "tokens":
        return Canned(_EVENTS, wording.events(protocol, text))
    return Canned(_JSON, wording.whole(protocol, text))


def nonce_of(protocol: Protocol, body: dict[str, Any]) -> str | None:
    """The nonce that the last of the user's messages carries. ``None``: the user went on without one, or never had
    one. A tool's result is no message of the user's, nor is what an agent adds in the user's name."""
    messages = [text for text in _user_messages(protocol, body) if not text.startswith(_INTERNAL)]
    found = _MARKED.findall(messages[-1]) if messages else []
    return found[-1] if found else None


def _decoded(raw: bytes) -> dict[str, Any] | None:
    """``None``: the provider shall say what is wrong with it."""
    body = read(raw)
    return body if isinstance(body, dict) else None


def _user_messages(protocol: Protocol, body: dict[str, Any]) -> Iterator[str]:
    listed = body.get("input" if protocol == "responses" else "messages")
    if isinstance(listed, str):
        yield listed
    for message in _objects(listed):
        if message.get("role") != "user":
            continue
        content = message.get("content")
        parts = _objects(content)
        if not parts or any(part.get("type") != "tool_result" for part in parts):
            yield content if isinstance(content, str) else _words(parts)


def _words(parts: list[dict[str, Any]]) -> str:
    return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
