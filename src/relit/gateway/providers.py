"""Calls to providers: the connections, the waiting, and whose fault it is when nothing comes."""

from __future__ import annotations

import asyncio
import functools
import io
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from relit.errors import ProviderFault, ProviderPrivate, ProviderSilent
from relit.gateway import headers
from relit.gateway.headers import Pairs
from relit.gateway.routes import Patience, Route
from relit.gateway.target import Target, address
from relit.gateway.tools import guard

_LARGE = 1 << 20  # bytes; larger bodies are written piece by piece
_LOOK = 1.0  # seconds
_MOMENT = 1.0  # seconds after a call was sent in which nothing that is charged for can have been made of it
_FINAL = 200  # statuses below it announce an answer, or a protocol that nobody asked for
_LINE = 1 << 16  # of a header
_OWN_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")  # of the client's library: not the agent's


@dataclass(frozen=True)
class Call:
    """What an agent asks of its provider. ``headers`` are the agent's. ``body``: bytes, or a stream of ``length``."""

    agent: str
    route: Route
    target: Target
    method: str
    headers: Pairs
    body: bytes | AsyncIterable[bytes] | None = None
    length: str | None = None

    @property
    def repeatable(self) -> bool:
        """Whether it can be sent once more: its body is here."""
        return self.body is None or isinstance(self.body, bytes)


class Answer:
    """A provider's answer that has begun; ``headers`` are those for the agent. ``close`` ends it."""

    def __init__(self, call: Call, response: aiohttp.ClientResponse) -> None:
        self._call = call
        self._response = response
        self.status = response.status
        self.reason = response.reason
        self.headers = headers.back(response.headers.items())
        self._loop = asyncio.get_running_loop()
        self._idle = call.route.patience.idle
        self._since: float | None = None  # when the wait for the next piece began
        self._timer = self._loop.call_later(min(self._idle, _LOOK), self._look)

    async def read(self) -> bytes:
        """The next piece, as soon as there is one; empty at the end. Raises ``ProviderFault``."""
        self._since = self._loop.time()
        try:
            return await self._response.content.readany()
        except TimeoutError as error:
            raise silent(self._call.route, f"nothing came for {self._idle:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(self._call.route, "its answer broke off", error, heard=True) from error
        finally:
            self._since = None

    def _look(self) -> None:
        """Whether the wait is too long, or for nothing. One timer for all pieces: to set one for each costs as much as
        to pass it on."""
        now = self._loop.time()
        due = (now if self._since is None else self._since) + self._idle
        if due <= now:
            self._response.content.set_exception(aiohttp.SocketTimeoutError())
        elif self._since is not None and self._is_over():
            self._response.content.set_exception(aiohttp.ClientPayloadError("it was none any more"))
        else:
            self._timer = self._loop.call_at(min(due, now + _LOOK), self._look)

    def _is_over(self) -> bool:
        """Whether no more can come. The library does not tell a reader of chunks that have become none."""
        connection = self._response.connection
        return not self._response.content.is_eof() and (connection is None or connection.transport is None)

    def close(self) -> None:
        """Let go of its connection. One whose answer was read whole has gone back already."""
        self._timer.cancel()
        self._response.close()


class _Sending:
    """One call on its way out. ``sent`` is called when it goes."""

    def __init__(self, sent: Callable[[], object]) -> None:
        self._sent = sent
        self._loop = asyncio.get_running_loop()
        self._at: float | None = None

    def goes(self) -> None:
        self._at = self._loop.time()
        self._sent()

    def heard(self, error: BaseException) -> bool:
        """Whether the provider may have got it. One that hangs up at once, before a byte of an answer, has not: a kept
        connection was closed meanwhile, or nobody is behind a balancer."""
        if self._at is None:
            return False
        return not _is_hangup(error) or self._loop.time() - self._at > _MOMENT


def _is_hangup(error: BaseException) -> bool:
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # else what has come of an answer
    return isinstance(error, aiohttp.ClientConnectionError | ConnectionError)


class Providers:
    """Open connections to every provider. Whatever has the same ``answer`` may stand before it, as a journal would."""

    def __init__(self) -> None:
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # by whether private addresses may be called

    async def start(self) -> None:
        """Be ready for calls. Nothing is kept between them but connections: no cookies, no proxies of the machine."""
        self._sessions = {private: _session(private=private) for private in (True, False)}

    async def stop(self) -> None:
        """Close every connection. Safe twice."""
        sessions, self._sessions = self._sessions, {}
        for each in sessions.values():
            await each.close()

    @asynccontextmanager
    async def answer(self, call: Call, sent: Callable[[], object] = lambda: None) -> AsyncIterator[Answer]:
        """The answer to a call; one that is left before its end is cancelled. ``sent`` is called when it goes out: from
        then on the provider may have it. Raises ``ProviderFault``."""
        answer = Answer(call, await self._begun(call, _Sending(sent)))
        try:
            yield answer
        finally:
            answer.close()

    async def _begun(self, call: Call, sending: _Sending) -> aiohttp.ClientResponse:
        route = call.route
        try:
            async with asyncio.timeout(route.patience.first_byte):
                response = await self._asked(call, sending)
        except aiohttp.ConnectionTimeoutError as error:
            raise _broken(route, f"no connection in {route.patience.connect:g} s") from error
        except guard.Forbidden as error:
            fix = f"set private = true in [models.{route.name}] of relit.toml, if that is meant"
            raise ProviderPrivate(f"[models.{route.name}] cannot be called", why=f"{error}; {fix}", fix=fix) from error
        except TimeoutError as error:
            raise silent(route, f"no answer in {route.patience.first_byte:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(route, "the call failed", error, heard=sending.heard(error)) from error
        if response.status < _FINAL:
            response.close()
            raise _broken(route, f"HTTP status {response.status}, which is no answer", heard=True)
        return response

    async def _asked(self, call: Call, sending: _Sending) -> aiohttp.ClientResponse:
        guard.see(urlsplit(call.route.url).hostname or "", private=call.route.private)
        sent = headers.onward(call.headers, call.route)
        if call.length is not None:
            sent.append(("Content-Length", call.length))
        large = isinstance(call.body, bytes) and len(call.body) > _LARGE
        return await self._sessions[call.route.private].request(
            call.method,
            URL(address(call.route, call.target), encoded=True),
            headers=sent,
            data=io.BytesIO(call.body) if large and isinstance(call.body, bytes) else call.body,
            allow_redirects=False,
            timeout=_timeout(call.route.patience),
            trace_request_ctx=sending,
        )


def _session(*, private: bool) -> aiohttp.ClientSession:
    resolver = None if private else guard.Guarded(private=False)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, resolver=resolver),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_OWN_HEADERS,
        max_line_size=_LINE,
        max_field_size=_LINE,
        trace_configs=[_tracing()],
    )


def _tracing() -> aiohttp.TraceConfig:
    async def goes(session: aiohttp.ClientSession, context: SimpleNamespace, what: object) -> None:
        context.trace_request_ctx.goes()

    made = aiohttp.TraceConfig()
    made.on_request_headers_sent.append(goes)
    return made


@functools.lru_cache(100)
def _timeout(patience: Patience) -> aiohttp.ClientTimeout:
    """Only the connection's: the answer has clocks of its own, which stand still while the agent does not read."""
    return aiohttp.ClientTimeout(total=None, connect=patience.connect, sock_connect=patience.connect)


def _broken(route: Route, what: str, error: BaseException | None = None, *, heard: bool = False) -> ProviderFault:
    why = f"{what}: {error or type(error).__name__}" if error is not None else what
    fault = ProviderFault(_named(route), why=why, fix=_FIX)
    fault.heard = heard
    return fault


def silent(route: Route, why: str) -> ProviderSilent:
    """Nothing comes from it, or not all."""
    return ProviderSilent(_named(route), why=why, fix=_FIX)


_FIX = "relit explain provider-fault"


def _named(route: Route) -> str:
    return f"the provider of [models.{route.name}] at {urlsplit(route.url).netloc} does not answer"
