"""A request as it arrives from an agent: how large it may be, and how long it may take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from relit.gateway.refusal import Refused
from relit.gateway.target import Target

LOG = logging.getLogger(__name__)
BODY_MOST = 64 << 20  # bytes of a request that is read whole
HEAD_MOST = 256 << 10  # bytes of its headers in all; one alone has at most 64 KB (``server``)
_SMALL = 1 << 20  # bytes; nothing that a canary asks is larger
_PAIR = 4  # bytes beside a header's name and value


def _brief(record: logging.LogRecord) -> bool:
    """A request that cannot be read is its sender's fault, and nobody's news: whoever wishes could fill disks so."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError) or LOG.isEnabledFor(logging.DEBUG)


LOG.addFilter(_brief)


def check(request: web.BaseRequest) -> None:
    """What can be told from its head. Raises ``Refused``."""
    if sum(len(name) + len(value) + _PAIR for name, value in request.raw_headers) > HEAD_MOST:
        raise Refused(431, "headers-too-large", f"the headers of a request may have {HEAD_MOST >> 10} KB")


def is_small(request: web.BaseRequest) -> bool:
    """Whether it says that its body is, so that reading it costs little."""
    return not request.body_exists or (request.content_length or BODY_MOST) <= _SMALL


async def body(request: web.BaseRequest, target: Target, within: float, take: Callable[[int], None]) -> bytes | None:
    """The whole body where something in it may matter here; ``None``: it goes on as it comes, or there is none. Raises
    ``Refused``, also when it takes longer than ``within`` seconds. ``take``: told of each piece."""
    matters = request.body_exists and _matters(request, target)
    if matters and (request.content_length or 0) > BODY_MOST:
        raise _too_large()
    await go_on(request)
    if not matters:
        return None
    try:
        async with asyncio.timeout(within):
            return await _whole(request, take)
    except TimeoutError as error:
        raise late(within) from error
    except web.RequestPayloadError as error:
        raise Refused(400, "invalid", f"the request's body cannot be read: {error}") from error


def late(within: float) -> Refused:
    """What an agent is told whose body does not come."""
    return Refused(408, "request-timeout", f"the request's body was not here after {within:g} s", retry=True)


async def _whole(request: web.BaseRequest, take: Callable[[int], None]) -> bytes:
    pieces, size = [], 0
    async for piece in request.content.iter_any():
        take(len(piece))
        pieces.append(piece)
        size += len(piece)
        if size > BODY_MOST:
            raise _too_large()
    return b"".join(pieces)


def _too_large() -> Refused:
    return Refused(413, "payload-too-large", f"a request may have {BODY_MOST >> 20} MB")


def _matters(request: web.BaseRequest, target: Target) -> bool:
    """Whether it is JSON, in plain sight."""
    if request.method != "POST" or "Content-Encoding" in request.headers:
        return False
    return target.call is not None or request.content_type == "application/json"


async def go_on(request: web.BaseRequest) -> None:
    """A client that asks before it sends its body is told to go on."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
