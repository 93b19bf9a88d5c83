"""Which Host headers are answered. A web page can point its own name at 127.0.0.1 (DNS rebinding); it cannot make
a browser send another name than its own, so unknown names are refused. Addresses are no names: they pass."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from relit.api.problem import respond
from relit.errors import WrongHost

_ALWAYS = frozenset({"localhost"})


def name_of(header: str) -> str:
    """The host in a Host header, lower case, without its port and brackets."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if header.count(":") == 1 else header


def is_address(name: str) -> bool:
    """Whether ``name`` is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def allows(header: str, names: Iterable[str]) -> bool:
    """Whether a request with this Host header is answered. ``*`` in ``names`` allows all."""
    name = name_of(header).rstrip(".")
    known = {*names}
    return "*" in known or name in _ALWAYS or name in {item.lower() for item in known} or is_address(name)


class HostCheck:
    """Refuses requests for names that are not ours."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not allows(header := _host(scope), self._names):
            await respond(_refusal(header))(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _host(scope: Scope) -> str:
    found = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return str(found.decode("latin-1"))


def _refusal(header: str) -> WrongHost:
    name = name_of(header)[:100]
    return WrongHost(
        f"this server does not answer to the name {name!r}",
        why="the Host header names neither this machine nor a configured host",
        fix=f'use the address it listens on, or add "{name}" to server.hosts in relit.toml',
    )
