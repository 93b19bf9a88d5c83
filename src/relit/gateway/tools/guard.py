"""Which addresses may be called: none of this machine's or its network's, unless it is said so.

A name is resolved once, and that address is connected to: what it means a moment later does not matter.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import unicodedata
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from relit.gateway.tools.base import NotSent

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")  # an IPv4 address written as IPv6, as before RFC 4291
_NOT_PUBLIC = [
    ipaddress.ip_network(each)
    for each in (
        "168.63.129.16/32",  # Azure's own services, inside each of its machines
        "192.0.0.0/24",  # RFC 6890; Oracle's classic cloud has its metadata there
        "64:ff9b:1::/48",  # RFC 8215: NAT64 of a local network
    )
]


class Forbidden(NotSent):
    """What an agent may not reach. ``code`` and ``told``: in the audit trail."""

    code, told = "forbidden-address", "an address not to be called"


class Foreign(Forbidden):
    """It is another agent's."""

    code, told = "foreign", "a call of another agent's"


def is_public(address: Address) -> bool:
    """Whether it is somewhere on the internet, and certainly not here: metadata services lie on link-local ones."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in _NAT64 or address in _COMPATIBLE:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    if any(address in each for each in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast


@functools.lru_cache(1000)
def literal(host: str) -> Address | None:
    """The address that a host is written as, in any of the ways that a machine's resolver understands."""
    host = unicodedata.normalize("NFKC", host).replace("\u3002", ".")  # as resolvers do, for other digits and dots
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f.1, 2130706433
    except (OSError, UnicodeEncodeError):
        return None


def see(host: str, *, private: bool) -> None:
    """Raises ``Forbidden`` for a host that is written as an address which may not be called."""
    found = literal(host)
    if found is not None and not private and not is_public(found):
        raise Forbidden(f"{host} is an address of this machine or its network, and what lies there may not be called")


class Guarded(AbstractResolver):
    """Resolves names to addresses that may be called. aiohttp connects to what it is answered here, and to no other."""

    def __init__(self, inner: AbstractResolver | None = None, *, private: bool) -> None:
        self._inner = inner or ThreadedResolver()
        self._private = private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises ``Forbidden`` when one of its addresses may not be called: that is no host to trust."""
        found = await self._inner.resolve(host, port, family)
        if not self._private and not all(is_public(ipaddress.ip_address(_bare(each))) for each in found):
            raise Forbidden(f"{host} lies on this machine or its network, and what lies there may not be called")
        return found

    async def close(self) -> None:
        await self._inner.close()


def _bare(found: Any) -> str:
    return str(found["host"]).partition("%")[0]
