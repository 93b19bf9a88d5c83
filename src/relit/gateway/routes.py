"""Where calls go, and who may send them there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

Kind = Literal["openai", "anthropic"]
"""The protocol that a provider speaks."""


@dataclass(frozen=True)
class Patience:
    """How long a provider is waited for, in seconds: to connect, for its answer to begin, for it to go on, and in
    all."""

    connect: float = 10.0
    first_byte: float = 600.0
    idle: float = 300.0
    total: float = 7200.0


@dataclass(frozen=True)
class Route:
    """A provider. ``url``: its base URL, as its own clients take it. ``key``: ``None`` where none is asked for.
    ``model``: the name that is sent when an agent asks for ``default``; empty: that word itself. ``retries``: of a call
    that was refused for now, before the agent is told; ``fallback``: routes that stand in, one after the other.
    ``private``: it may lie on this machine or its network; ``also``: what may be called there beside what is
    understood, with all below."""

    name: str
    url: str
    key: str | None = field(default=None, repr=False)
    model: str = ""
    kind: Kind = "openai"
    patience: Patience = Patience()
    retries: int = 0
    fallback: tuple[str, ...] = ()
    private: bool = True
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Caller:
    """Whoever has ``token`` is ``agent``, and may use the route of that name. ``clone``: it is a clone of the agent's,
    which is answered here, whatever it asks."""

    agent: str
    token: str = field(repr=False)
    route: str
    clone: bool = False


class Callers(Protocol):
    """Who may call."""

    def find(self, token: str) -> Caller | None:
        """Whose token it is. Takes the same time however much of it is right."""
        ...


def digest(token: str) -> bytes:
    """What tokens are looked up by: how long that takes tells nothing of the token itself."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Known:
    """Callers that stay the same."""

    def __init__(self, callers: Iterable[Caller]) -> None:
        self._by_digest = {digest(each.token): each for each in callers}

    def find(self, token: str) -> Caller | None:
        return self._by_digest.get(digest(token))
