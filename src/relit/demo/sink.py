"""A webhook's receiving end that honours idempotency keys, as payment and mail services do."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class Delivery(msgspec.Struct, frozen=True):
    """One raw request. ``fresh``: its key had not been seen before (or it carried none), so it took effect."""

    path: str
    headers: dict[str, str]
    body: bytes
    fresh: bool


class Sink:
    """Takes every POST and answers after ``seconds``; ``app`` is the ASGI application.

    A delivery takes effect when it arrives. If the caller dies before the answer, it cannot know that: this gap is
    what an idempotency key is for.
    """

    def __init__(self, *, seconds: float = 0.0, status: int = 200) -> None:
        self._seconds = seconds
        self._keys: set[str] = set()
        self.status = status
        self.requests: list[Delivery] = []
        self.app = Starlette(routes=[Route("/{path:path}", self._take, methods=["POST"])])

    @property
    def effective(self) -> list[Delivery]:
        """The requests that took effect."""
        return [delivery for delivery in self.requests if delivery.fresh]

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        key = request.headers.get("idempotency-key")
        fresh = self.status < 400 and (key is None or key not in self._keys)
        if fresh and key is not None:
            self._keys.add(key)
        self.requests.append(Delivery(request.url.path, dict(request.headers), body, fresh))
        await asyncio.sleep(self._seconds)
        return JSONResponse({"fresh": fresh}, status_code=self.status)
