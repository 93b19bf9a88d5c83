"""Tools that are HTTP calls, as relit.toml declares them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from relit.gateway.again import asked_to_wait
from relit.gateway.tools import guard, plan
from relit.gateway.tools.base import NotSent, Outcome, Tool, Unsure, text
from relit.gateway.tools.plan import HttpTool, Sending
from relit.lib.clock import SYSTEM_CLOCK
from relit.store.tools import ToolCall

_MOST = 8 << 20  # bytes of an answer that are read
_HOPS = 5  # redirects that a call which only reads follows
_MOVED = (301, 307, 308)  # whoever answers so has done nothing, and wants the same request elsewhere
_NOT_TAKEN = (408, 425, 429)  # whoever answers so has done nothing


class HttpTools:
    """Sends them. An answer below 400 is a result, unless it wants a write elsewhere: that is not done. One from 400 on
    is an error that is certain, unless it is the server's fault (5xx): then nobody knows. A 503 that says when to come
    again counts as not done, unless the call must not be made twice."""

    def __init__(self, tools: Sequence[HttpTool]) -> None:
        self._tools = {each.tool.name: each for each in tools}
        self._sessions: dict[tuple[bool, bool], aiohttp.ClientSession] = {}

    @property
    def tools(self) -> Sequence[Tool]:
        return [each.tool for each in self._tools.values()]

    async def stop(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        self._sessions = {}

    async def send(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        http = self._tools[call.tool]
        once = call.effect in ("ask", "lookup")
        status, body, said = await self.fetch(plan.sending(http, arguments, call.key), private=http.private, once=once)
        if status in _NOT_TAKEN or (status == 503 and "retry-after" in said and not once):
            wait = asked_to_wait(said, SYSTEM_CLOCK.now_ms() / 1000)
            raise NotSent(f"HTTP status {status}: {_told(body)}", retry=True, after=wait)
        if status >= 500:
            raise Unsure(f"HTTP status {status}: {_told(body)}")
        if status >= 400:
            return text(f"HTTP status {status}: {_told(body, 4000)}", failed=True)
        if status >= 300:
            return text(_led(status, said, body), failed=status in _MOVED)
        return text(_told(body, _MOST) or f"HTTP status {status}")

    async def clear(self, call: ToolCall) -> Outcome | None:
        return None

    async def look(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome | None:
        http = self._tools[call.tool]
        assert http.lookup is not None, "only tools whose effect is `lookup` are asked"
        status, body, _ = await self.fetch(plan.looking(http, arguments, call.key), private=http.private, once=True)
        if status == 404:
            return None
        if status >= 300:
            raise Unsure(f"the look-up: HTTP status {status}: {_told(body)}")
        try:
            found = plan.found(body, http.lookup.found)
        except ValueError as error:
            raise Unsure(f"the look-up cannot be read, {error}: {_told(body)}") from error
        return None if found is None else text(found if isinstance(found, str) else plan.plain(found))

    async def fetch(
        self, sending: Sending, *, private: bool, ports: Collection[int] | None = None, once: bool = False
    ) -> tuple[int, bytes, dict[str, str]]:
        """(status, body, headers). ``private``: it may go to this machine and its network; ``ports``: to no others;
        ``once``: over a connection of its own, since of a kept one that breaks nobody knows whether it was heard.
        NotSent, Unsure."""
        for _ in range(_HOPS):
            if ports is not None and (port := plan.port_of(sending.url)) not in ports:
                raise guard.Forbidden(f"port {port} is none that this agent may connect to")
            status, body, headers = await self._ask(sending, private, once)
            if not (300 <= status < 400 and sending.method in ("GET", "HEAD") and "location" in headers):
                return status, body, headers
            sending = _redirected(sending, headers["location"])
        raise NotSent(f"it leads from one address to the next, more than {_HOPS} times")

    async def _ask(self, sending: Sending, private: bool, once: bool) -> tuple[int, bytes, dict[str, str]]:
        guard.see(plan.host_of(sending.url), private=private)
        try:
            async with self._session(private, once).request(
                sending.method, URL(sending.url, encoded=True), headers=sending.headers, data=sending.body,
                allow_redirects=False,
            ) as response:  # fmt: skip
                body = await _read(response)
                return response.status, body, {name.lower(): value for name, value in response.headers.items()}
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(f"no connection: {error}", retry=True) from error
        except (aiohttp.InvalidURL, ValueError) as error:
            raise NotSent(f"that is no address: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unsure(f"the connection broke: {error or type(error).__name__}") from error

    def _session(self, private: bool, once: bool) -> aiohttp.ClientSession:
        if (private, once) not in self._sessions:
            resolver = guard.Guarded(private=private)
            made = self._sessions[private, once] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, resolver=resolver, force_close=once),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
                trust_env=False,
            )
            made._retry_connection = False  # it would send a PUT or DELETE again by itself, unseen
        return self._sessions[private, once]


async def _read(response: aiohttp.ClientResponse) -> bytes:
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > _MOST:
            response.close()
            break
    return b"".join(pieces)[:_MOST]


def _redirected(sending: Sending, location: str) -> Sending:
    """To where an answer points. No credential goes to another host."""
    url = urljoin(sending.url, location)
    if urlsplit(url).scheme not in ("http", "https"):
        raise NotSent(f"it leads to {url[:200]}")
    here, there = urlsplit(sending.url), urlsplit(url)
    same = (here.scheme, here.netloc) == (there.scheme, there.netloc)
    return Sending(sending.method, url, sending.headers if same else {}, None)


def _led(status: int, said: Mapping[str, str], body: bytes) -> str:
    where = f", leads to {said['location'][:2000]}" if "location" in said else ""
    return f"HTTP status {status}{where}" + (f": {_told(body, _MOST)}" if body else "")


def _told(body: bytes, most: int = 300) -> str:
    return body[:most].decode("utf-8", "replace")
