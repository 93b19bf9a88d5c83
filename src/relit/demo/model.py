"""A model that answers from a script, over the OpenAI chat-completions protocol, and counts what is bought of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from relit.lib.clock import SYSTEM_CLOCK

Answer = Callable[[dict[str, Any]], str]


def fingerprint(body: dict[str, Any]) -> str:
    """The same for the same request, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class ScriptedModel:
    """Answers each request with ``answer(request)``, taking ``seconds`` for it; ``app`` is the ASGI application.

    ``calls`` counts requests by fingerprint, when they arrive: a call whose caller dies half-way is bought all the
    same. ``arrivals`` has the moment of each (monotonic seconds) besides.
    """

    def __init__(self, answer: Answer, *, seconds: float = 0.0, name: str = "scripted") -> None:
        self._answer = answer
        self._seconds = seconds
        self._name = name
        self.calls: Counter[str] = Counter()
        self.arrivals: list[tuple[float, str]] = []
        self.finished = 0
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/v1/models", self._models),
            ]
        )

    @property
    def bought_twice(self) -> int:
        """How many calls were made again though the same request had been made before."""
        return sum(self.calls.values()) - len(self.calls)

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": self._name, "object": "model"}]})

    async def _complete(self, request: Request) -> Response:
        body = json.loads(await request.body())
        key = fingerprint(body)
        self.calls[key] += 1
        self.arrivals.append((SYSTEM_CLOCK.monotonic(), key))
        words = _words(self._answer(body))
        head = {"id": f"chatcmpl-{key[:24]}", "created": 0, "model": body.get("model", self._name)}
        if body.get("stream"):
            return StreamingResponse(self._stream(head, words), media_type="text/event-stream")
        await asyncio.sleep(self._seconds)
        self.finished += 1
        return JSONResponse(_whole(head, "".join(words), _usage(body, words)))

    async def _stream(self, head: dict[str, Any], words: list[str]) -> AsyncIterator[str]:
        yield _chunk(head, {"role": "assistant", "content": ""})
        for word in words:
            await asyncio.sleep(self._seconds / len(words))
            yield _chunk(head, {"content": word})
        yield _chunk(head, {}, finish="stop")
        self.finished += 1
        yield "data: [DONE]\n\n"


def _words(text: str) -> list[str]:
    """``text`` in the pieces that it is streamed in."""
    return [word + " " for word in text.split(" ")[:-1]] + [text.rsplit(" ", 1)[-1]]


def _chunk(head: dict[str, Any], delta: dict[str, str], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"


def _whole(head: dict[str, Any], text: str, usage: dict[str, int]) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}


def _usage(body: dict[str, Any], words: list[str]) -> dict[str, int]:
    prompt = sum(len(str(message.get("content", "")).split()) for message in body.get("messages", []))
    return {"prompt_tokens": prompt, "completion_tokens": len(words), "total_tokens": prompt + len(words)}
