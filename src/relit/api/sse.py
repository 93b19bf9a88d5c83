"""Server-sent events: frames, and the response that carries them.

Nothing is buffered here: the next frame is made when the last one was taken, so a slow reader slows only itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Send

MEDIA_TYPE = "text/event-stream"
COMMENT = b": keep-alive\n\n"


def frame(event: str, id: str, data: object) -> bytes:
    """One event. JSON has no line breaks, so one ``data`` line is enough."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (event.encode(), id.encode(), msgspec.json.encode(data))


def mark(id: str) -> bytes:
    """Moves the reader's ``Last-Event-ID`` without an event; keeps the connection alive as a comment does."""
    return b"id: %b\n\n" % id.encode()


class EventStream(StreamingResponse):
    """A response that lets go of what its frames hold as soon as the reader is gone."""

    async def stream_response(self, send: Send) -> None:
        async with aclosing(cast(AsyncGenerator[bytes, None], self.body_iterator)):
            await super().stream_response(send)


def respond(frames: AsyncGenerator[bytes, None]) -> EventStream:
    """The response. ``X-Accel-Buffering`` asks proxies to pass each event on at once."""
    return EventStream(frames, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
