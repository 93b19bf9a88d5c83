"""What the API is made of, handed to every handler."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from relit.api.volumes_port import Volumes
from relit.durable.engine import Engine
from relit.store.base import Subscription
from relit.vault.refusals import OnRefusal


class WebhookIn(msgspec.Struct, frozen=True, kw_only=True):
    """An incoming webhook: how its posts are verified, and whose mailbox they go to.

    ``header`` and what follows it belong to the scheme ``hmac``.
    """

    agent: str
    secret: str
    scheme: Literal["standard", "hmac"] = "standard"
    header: str = "X-Signature-256"
    prefix: str = "sha256="
    encoding: Literal["hex", "base64"] = "hex"
    id_header: str | None = None


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent's messages get when the sender does not say."""

    priority: int = 50
    expire_ms: int | None = None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The API's settings."""

    hosts: tuple[str, ...] = ()  # names to answer to, besides localhost and IP addresses; "*" = any
    max_body: int = 16 << 20
    metrics_public: bool = False
    webhooks: Mapping[str, WebhookIn] = {}
    agents: Mapping[str, Defaults] = {}
    deaf: frozenset[str] = frozenset()  # agents that no message can be brought into
    keep_alive: float = 15.0  # seconds between comments on a quiet event stream
    token_cache: float = 2.0  # a token removed through another server keeps working for this long
    blob_preview: int = 16 << 10  # payloads above this are shown as a reference unless asked for in full
    mark: str = ""  # tells this server from any other
    run_dir: Path | None = None  # of this machine's node: what it knows of memory is among the metrics


class Closing:
    """The server's end, as the requests that wait see it: every open wait ends when ``close`` is called."""

    def __init__(self) -> None:
        self.closed = False
        self._open: set[asyncio.Timeout] = set()

    @property
    def waiting(self) -> int:
        """How many requests wait for something to happen."""
        return len(self._open)

    def close(self) -> None:
        """End every wait now, and all later ones at once. Safe twice."""
        self.closed = True
        now = asyncio.get_running_loop().time()
        for scope in self._open:
            if not scope.expired():
                scope.reschedule(now)

    @contextmanager
    def _registered(self, scope: asyncio.Timeout) -> Iterator[None]:
        self._open.add(scope)
        try:
            yield
        finally:
            self._open.discard(scope)

    async def wait(self, subscription: Subscription, timeout: float) -> bool:
        """Whether something was announced; false after ``timeout`` seconds, or when the server ends."""
        if self.closed:
            return False
        try:
            async with asyncio.timeout(None) as scope:
                with self._registered(scope):
                    return await subscription.wait(timeout)
        except TimeoutError:
            return False


class Parts:
    """Everything a handler may use."""

    def __init__(
        self,
        engine: Engine,
        options: Options | None = None,
        volumes: Volumes | None = None,
        refused: OnRefusal = lambda who, code, why: None,
    ) -> None:
        self.engine = engine
        self.store = engine.store
        self.payloads = engine.payloads
        self.clock = engine.clock
        self.ids = engine.ids
        self.options = options or Options()
        self.volumes = volumes
        self.refused = refused
        self.closing = Closing()
