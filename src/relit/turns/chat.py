"""One turn of an agent over an OpenAI-compatible chat completion: asked, streamed, read. No retries here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
import msgspec

CONNECT_S = 5.0
_BEGINNING = 200
IDLE_S = 900.0  # without a byte: a tool may take long, and agents send keep-alives or nothing


class Lost(Exception):
    """The agent went away in the middle of a turn, or never took it: it is delivered again once it is back.
    ``taken``: it may have begun to work on it."""

    def __init__(self, why: str, *, taken: bool) -> None:
        super().__init__(why)
        self.why, self.taken = why, taken


class Refused(Exception):
    """The agent answered that it cannot: ``status`` and what it said."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"HTTP status {status}: {said}")
        self.status, self.said = status, said


class Chat:
    """A door of an agent. ``headers`` may hold ``{session}``. An answer that begins with one of ``failures`` is none:
    so its agent says that its model did not answer."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        headers: Mapping[str, str],
        model: str,
        failures: Sequence[str] = (),
    ) -> None:
        self._http = http
        self._failures = tuple(failures)
        self._url = url
        self._headers = headers
        self._model = model

    async def turn(self, text: str, session: str) -> AsyncIterator[str]:
        """Deliver a message; yields the answer's text as it comes. Raises ``Lost``, ``Refused``."""
        body = {"model": self._model, "stream": True, "messages": [{"role": "user", "content": text}]}
        headers = {name: value.replace("{session}", session) for name, value in self._headers.items()}
        timeout = httpx.Timeout(IDLE_S, connect=CONNECT_S)
        begun = ""
        try:
            async with self._http.stream("POST", self._url, json=body, headers=headers, timeout=timeout) as answer:
                if answer.status_code >= 400:
                    raise Refused(answer.status_code, _said(await answer.aread()))
                async for piece in _pieces(answer):
                    begun += piece if len(begun) < _BEGINNING else ""
                    if self._failures and begun.startswith(self._failures):
                        raise Refused(502, begun + piece)
                    yield piece
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Lost(f"it does not answer at {self._url}: {error or type(error).__name__}", taken=False) from error
        except httpx.HTTPError as error:
            raise Lost(f"it went away: {error or type(error).__name__}", taken=True) from error


async def _pieces(answer: httpx.Response) -> AsyncIterator[str]:
    """The text of a streamed answer, or of one that came whole. ``Lost`` when it ends before its end."""
    if "text/event-stream" not in answer.headers.get("content-type", ""):
        yield _text(msgspec.json.decode(await answer.aread()), "message")
        return
    async for line in answer.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            return
        chunk = msgspec.json.decode(data)
        if "error" in chunk:
            raise Refused(500, _said(data.encode()))
        if piece := _text(chunk, "delta"):
            yield piece
    raise Lost("its answer broke off", taken=True)


def _text(document: Any, part: str) -> str:
    choices = document.get("choices") or [{}]
    content = (choices[0].get(part) or {}).get("content")
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
