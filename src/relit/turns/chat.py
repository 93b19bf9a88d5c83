"""One turn of an agent over HTTP: an OpenAI-compatible chat completion, streamed, or any JSON. No retries here."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from relit.agents import config
from relit.agents.kind import Inject
from relit.lib.durations import to_ms

CONNECT_S = 5.0
_BEGINNING = 200
_NAMED = re.compile(r"\{(session|text)\}")


class Lost(Exception):
    """The agent went away in the middle of a turn, or never took it: it is delivered again once it is back.
    ``taken``: it may have begun to work on it; ``mute``: it has said nothing for too long."""

    def __init__(self, why: str, *, taken: bool, mute: bool = False) -> None:
        super().__init__(why)
        self.why, self.taken, self.mute = why, taken, mute


class Refused(Exception):
    """The agent answered that it cannot: ``status`` and what it said."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"HTTP status {status}: {said}")
        self.status, self.said = status, said


class Chat:
    """A door of an agent that speaks OpenAI's protocol, as its kind says: headers and body (beside what the protocol
    wants) may hold ``{session}``; an answer that begins with one of its ``failures`` is none: so an agent says that its
    model did not answer."""

    def __init__(self, http: httpx.AsyncClient, way: Inject) -> None:
        self._http = http
        self._way = way

    async def turn(self, text: str, session: str) -> AsyncIterator[str]:
        """Deliver a message; yields the answer's text as it comes. Raises ``Lost``, ``Refused``."""
        names = {"session": session}
        body = {"model": self._way.model, "stream": True, "messages": [{"role": "user", "content": text}]}
        body |= _filled(self._way.body, names)
        begun = ""
        async with _asked(self._http, self._way, names, body) as answer:
            async for piece in _pieces(answer):
                begun += piece if len(begun) < _BEGINNING else ""
                if begun.startswith(tuple(self._way.failures)):
                    raise Refused(502, begun + piece)
                yield piece


class Post:
    """A door of an agent that takes a message as JSON and answers with the whole: a webhook, or JSON-RPC. Its kind says
    which headers and body, with ``{session}`` and ``{text}``, and where in the reply the ``answer`` stands."""

    def __init__(self, http: httpx.AsyncClient, way: Inject) -> None:
        self._http = http
        self._way = way

    async def turn(self, text: str, session: str) -> AsyncIterator[str]:
        """As ``Chat.turn``, in one piece."""
        names = {"session": session}
        body = _filled(self._way.body, names | {"text": text})
        async with _asked(self._http, self._way, names, body) as answer:
            words = self._read(await answer.aread())
        if words.startswith(tuple(self._way.failures)):
            raise Refused(502, words[:_BEGINNING])
        yield words

    def _read(self, raw: bytes) -> str:
        try:
            found = msgspec.json.decode(raw)
        except msgspec.MsgspecError:
            found = raw.decode(errors="replace")
        if isinstance(found, dict) and found.get("error"):
            raise Refused(500, _said(raw))
        if self._way.answer:
            found = config.said(found, self._way.answer)
        if found is None:
            raise Refused(502, f"its answer has no {self._way.answer}: {_said(raw)}")
        return found if isinstance(found, str) else msgspec.json.encode(found).decode()


@asynccontextmanager
async def _asked(
    http: httpx.AsyncClient, way: Inject, names: Mapping[str, str], body: Any
) -> AsyncIterator[httpx.Response]:
    """The answer, whose body is read inside. Lost, Refused."""
    url, headers = way.url, _filled(way.headers, names)
    timeout = httpx.Timeout(to_ms(way.idle) / 1000, connect=CONNECT_S)
    try:
        async with http.stream("POST", url, json=body, headers=headers, timeout=timeout) as answer:
            if answer.status_code >= 400:
                raise Refused(answer.status_code, _said(await answer.aread()))
            yield answer
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Lost(f"it does not answer at {url}: {error or type(error).__name__}", taken=False) from error
    except httpx.ReadTimeout as error:
        raise Lost(f"it said nothing for {way.idle}", taken=True, mute=True) from error
    except httpx.HTTPError as error:
        raise Lost(f"it went away: {error or type(error).__name__}", taken=True) from error


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    """With the texts that it names: what these say is not looked into."""
    if isinstance(value, str):
        return _NAMED.sub(lambda match: names.get(match[1], match[0]), value)
    if isinstance(value, Mapping):
        return {key: _filled(each, names) for key, each in value.items()}
    return [_filled(each, names) for each in value] if isinstance(value, list | tuple) else value


async def _pieces(answer: httpx.Response) -> AsyncIterator[str]:
    """The text of a streamed answer, or of one that came whole. ``Lost`` when it ends before its end."""
    if "text/event-stream" not in answer.headers.get("content-type", ""):
        yield _whole(await answer.aread())
        return
    async for line in _lines(answer):
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            return
        try:
            chunk = msgspec.json.decode(data)
        except msgspec.MsgspecError as error:
            raise Lost("its answer broke off in the middle of a line", taken=True) from error
        if isinstance(chunk, dict) and "error" in chunk:
            raise Refused(500, _said(data.encode()))
        if piece := _text(chunk, "delta"):
            yield piece
    raise Lost("its answer broke off", taken=True)


async def _lines(answer: httpx.Response) -> AsyncIterator[str]:
    """As server-sent events have them: JSON may hold what else counts as a line's end to Python (U+2028)."""
    rest = b""
    async for piece in answer.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r").decode(errors="replace")
    yield rest.decode(errors="replace")


def _whole(body: bytes) -> str:
    """Of a completion that came in one piece. ``Refused`` for what is none: its agent has worked on it all the same."""
    try:
        document = msgspec.json.decode(body)
    except msgspec.MsgspecError as error:
        raise Refused(502, f"its answer is no JSON: {_said(body)}") from error
    if not isinstance(document, dict) or not document.get("choices"):
        raise Refused(502, f"its answer is no completion: {_said(body)}")
    return _text(document, "message")


def _text(document: Any, part: str) -> str:
    """The content of the first choice; empty where there is none."""
    choices = document.get("choices") if isinstance(document, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    held = first.get(part) if isinstance(first, dict) else None
    content = held.get("content") if isinstance(held, dict) else None
    return content if isinstance(content, str) else ""


def _said(body: bytes) -> str:
    """What an error's body says, in one line."""
    try:
        document = msgspec.json.decode(body)
        error = document.get("error", document) if isinstance(document, dict) else document
        said = error.get("message", "") if isinstance(error, dict) else str(error)
    except msgspec.MsgspecError:
        said = body.decode(errors="replace")
    return " ".join(str(said).split())[:500]
