"""What a request's path means: which protocol, which call, and where that is at the provider. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from relit.gateway.routes import Kind, Route

Protocol = Literal["chat", "responses", "messages", "tokens", "embeddings"]
"""The calls whose bodies are understood; ``tokens`` is Anthropic's counting of them, which costs nothing."""

_VERSION = "/v1"
_DOORS: dict[str, Kind] = {"/openai": "openai", "/anthropic": "anthropic"}
_CALLS: dict[tuple[Kind, str], Protocol] = {
    ("openai", "/chat/completions"): "chat",
    ("openai", "/responses"): "responses",
    ("openai", "/embeddings"): "embeddings",
    ("anthropic", "/messages"): "messages",
    ("anthropic", "/messages/count_tokens"): "tokens",
}

_STATELESS = (("openai", "/completions"), ("openai", "/responses/compact"), ("openai", "/responses/input_tokens"))


@dataclass(frozen=True)
class Target:
    """``below``: what follows ``/v1`` of the request's path, byte by byte, with its query."""

    kind: Kind
    below: str

    @property
    def call(self) -> Protocol | None:
        """Which of the calls that are understood it is, however a server might let it be spelled."""
        return _CALLS.get((self.kind, self._plain))

    def allowed(self, method: str, also: Sequence[str] = ()) -> bool:
        """Whether agents may call it. What providers keep for whoever has their key (files, answers that were stored)
        would show one agent what is another's."""
        if any(_is_below(self._plain, each.rstrip("/")) for each in also):
            return True
        if self.call is not None or (self.kind, self._plain) in _STATELESS:
            return method == "POST"
        return _is_below(self._plain, "/models") and method in ("GET", "HEAD")

    @property
    def _plain(self) -> str:
        parts = unquote(self.below.partition("?")[0]).split("/")
        return "/" + "/".join(filter(None, parts))


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def door(path: str) -> Kind:
    """The protocol in which the caller of a path wants to be spoken to, also where there is nothing."""
    return next((kind for prefix, kind in _DOORS.items() if path.startswith(prefix)), "openai")


def aim(path: str) -> Target | None:
    """What a path (raw, with its query) asks for. ``None``: there is no such thing, or it would lead out of ``/v1``."""
    for prefix, kind in _DOORS.items():
        below = path.removeprefix(prefix + _VERSION)
        if below != path and below.startswith("/") and not _climbs(below):
            return Target(kind, below)
    return None


def _climbs(below: str) -> bool:
    """Whether a server could read it as a path elsewhere: some decode twice, some leave out what follows a semicolon.
    A ``#`` has no place in a path."""
    plain = unquote(unquote(below.partition("?")[0])).replace("\\", "/")
    parts = [part.partition(";")[0].strip() for part in plain.split("/")]
    strange = "#" in below or unquote(plain) != plain or not plain.isprintable()
    return strange or any(part in (".", "..") for part in parts)


def address(route: Route, target: Target) -> str:
    """The URL at the provider. Anthropic's clients take a base URL without ``/v1``; both ways are understood."""
    base = route.url.rstrip("/")
    if route.kind == "anthropic":
        base = base.removesuffix(_VERSION) + _VERSION
    return base + target.below
