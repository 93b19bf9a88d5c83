"""The client's way to a server: requests with patience, and event streams that survive the server's restarts.

Needs neither store nor API. httpx is imported at the first use, so that ``import relit`` stays light.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from relit import errors
from relit.documents import Problem
from relit.errors import MailboxFull, RelitError, ServerUnreachable, StoreUnavailable
from relit.lib.backoff import delay
from relit.lib.ids import system_random

if TYPE_CHECKING:
    import httpx

QUIET = 45.0  # seconds without a byte after which a stream counts as lost: three of the server's comments
_CONNECT = 5.0
_READ = 30.0
_UNNOTICED = 3.0  # seconds of waiting that need no word
Notice = Callable[[RelitError, float], None]  # (what is waited for, for how many seconds at most)


class Frame(msgspec.Struct, frozen=True):
    """One server-sent event. ``event`` is empty when only ``id`` moved on."""

    event: str
    id: str
    data: bytes


class Patience:
    """How long to go on trying: until ``seconds`` have passed without success (``reset`` is success). After a few of
    them ``notice`` is told, once, what is waited for."""

    def __init__(self, seconds: float, notice: Notice | None = None) -> None:
        self._seconds = seconds
        self._notice = notice
        self._chance = system_random()
        self.reset()

    def reset(self) -> None:
        """It answered: the time starts again."""
        self._until = asyncio.get_running_loop().time() + self._seconds
        self._attempt = 0

    async def pause(self, error: RelitError) -> None:
        """Wait before the next try. Raises ``error`` when the time is up."""
        self._attempt += 1
        left = self._until - asyncio.get_running_loop().time()
        if left <= 0:
            raise error
        if self._notice is not None and self._seconds - left >= _UNNOTICED:
            self._notice(error, left)
            self._notice = None
        wait = delay(self._attempt, first=0.05, factor=1.6, most=1.0, jitter=0.3, chance=self._chance)
        await asyncio.sleep(min(wait, left))


class Link:
    """One server. ``patience``: seconds to go on trying while it does not answer."""

    def __init__(
        self,
        url: str,
        token: str,
        patience: float,
        transport: httpx.AsyncBaseTransport | None,
        notice: Notice | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._notice = notice
        self.patience = patience
        self._token = token
        self._transport = transport
        self._http: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections. Safe twice."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            import httpx

            self._http = httpx.AsyncClient(
                base_url=self.url,
                headers={"Authorization": f"Bearer {self._token}"} if self._token else {},
                transport=self._transport,
                trust_env=False,  # a proxy for the world must not get what is for this machine
                timeout=httpx.Timeout(_READ, connect=_CONNECT),
            )
        return self._http

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, Any] | None = None,
        key: str | None = None,
        repeatable: bool | None = None,
        patience: float | None = None,
        read: float = _READ,
    ) -> bytes:
        """The answer's body. Raises the error that the server tells of, or ``ServerUnreachable``.

        A request is sent again while the server is away. One that may have arrived is sent again only when that does
        no harm: it reads, or carries a ``key`` by which the server knows it, or is declared ``repeatable``.
        """
        again = repeatable if repeatable is not None else method in ("GET", "PUT") or key is not None
        trying = Patience(self.patience if patience is None else patience, self._notice)
        while True:
            try:
                return await self._once(method, path, body, query, key, read)
            except StoreUnavailable as error:
                await trying.pause(error)
            except _Lost as lost:
                if lost.arrived and not again:
                    raise self._unreachable(lost.why, arrived=True) from lost
                await trying.pause(self._unreachable(lost.why))

    async def _once(
        self, method: str, path: str, body: object, query: Mapping[str, Any] | None, key: str | None, read: float
    ) -> bytes:
        import httpx

        headers = {} if key is None else {"Idempotency-Key": key}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            response = await self._client().request(
                method,
                path,
                content=None if body is None else msgspec.json.encode(body),
                params=_query(query),
                headers=headers,
                timeout=httpx.Timeout(read, connect=_CONNECT),
            )
        except httpx.HTTPError as error:
            raise _lost(error) from error
        except httpx.InvalidURL as error:
            raise self._wrong_url(str(error)) from error
        if response.status_code >= 400:
            raise restore(response.status_code, response.content, response.headers.get("retry-after"))
        return response.content

    def _wrong_url(self, why: str) -> RelitError:
        return errors.ConfigError(f"{self.url!r} is no server's address", why=why, fix="write http://127.0.0.1:7717")

    def _unreachable(self, why: str, arrived: bool = False) -> ServerUnreachable:
        what = f"no relit server answers at {self.url}"
        if arrived:
            what = f"the relit server at {self.url} went away before it answered: nobody knows whether it did it"
        return ServerUnreachable(what, why=why, fix="relit up, or name the server with --server URL", arrived=arrived)

    async def follow(self, path: str, query: Mapping[str, Any], last_id: str = "") -> AsyncGenerator[Frame, None]:
        """Server-sent events from after ``last_id`` on, for ever: when the stream ends, it is asked for again."""
        trying = Patience(self.patience)
        while True:
            try:
                async with aclosing(self._stream(path, query, last_id)) as stream:
                    async for frame in stream:
                        trying.reset()
                        last_id = frame.id or last_id
                        if frame.event:
                            yield frame
                why = "it ended the stream"
            except _Lost as lost:
                why = lost.why
            except StoreUnavailable as error:
                why = error.what
            await trying.pause(self._unreachable(why))

    async def pieces(self, path: str, query: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        """An answer's body as it comes, once: what broke off is an error."""
        import httpx

        timeout = httpx.Timeout(_READ, connect=_CONNECT)
        try:
            async with self._client().stream("GET", path, params=_query(query), timeout=timeout) as response:
                if response.status_code >= 400:
                    raise restore(response.status_code, await response.aread(), None)
                async for piece in response.aiter_bytes():
                    yield piece
        except httpx.HTTPError as error:
            raise self._unreachable(str(error) or type(error).__name__) from error

    async def _stream(self, path: str, query: Mapping[str, Any], last_id: str) -> AsyncGenerator[Frame, None]:
        import httpx

        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        timeout = httpx.Timeout(QUIET, connect=_CONNECT)
        try:
            async with self._client().stream(
                "GET", path, params=_query(query), headers=headers, timeout=timeout
            ) as response:
                if response.status_code >= 400:
                    raise restore(response.status_code, await response.aread(), None)
                async for frame in frames(response.aiter_bytes()):
                    yield frame
        except httpx.HTTPError as error:
            raise _lost(error) from error


class _Lost(Exception):
    """The connection failed. ``arrived``: the request may have reached the server."""

    def __init__(self, why: str, arrived: bool) -> None:
        super().__init__(why)
        self.why = why
        self.arrived = arrived


def _lost(error: Exception) -> _Lost:
    import httpx

    before = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
    return _Lost(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, not before)


def _query(query: Mapping[str, Any] | None) -> dict[str, str]:
    """Parameters as text; absent ones left out, lists joined."""
    return {key: _text(value) for key, value in (query or {}).items() if value not in (None, [], ())}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def restore(status: int, body: bytes, retry_after: str | None) -> RelitError:
    """The error that a problem document tells of."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.DecodeError:
        text = body[:200].decode(errors="replace").strip()
        return RelitError(f"the server answered {status}", why=text, fix="is it a relit server?")
    kind = errors.by_code().get(problem.code) or (errors.Unauthorized if status in (401, 403, 421) else RelitError)
    error = kind(problem.title, why=problem.detail, fix=problem.fix)
    if isinstance(error, MailboxFull) and retry_after and retry_after.isdigit():
        error.retry_after = float(retry_after)
    return error


async def frames(chunks: AsyncIterator[bytes]) -> AsyncIterator[Frame]:
    """Server-sent events out of bytes. Lines end with LF only: text inside JSON may hold other line breaks."""
    rest = b""
    event, id, data = "", "", b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"event":
                event = value.decode()
            elif name == b"id":
                id = value.decode()
            elif name == b"data":
                data = value
            elif not line:
                yield Frame(event, id, data)  # an empty one is a sign of life, and tells so to whoever waits
                event, id, data = "", "", b""
