"""Which headers go on, to the provider and back. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from relit.gateway.routes import Route

Pairs = list[tuple[str, str]]
SERVER = ("Server", "relit")
REPLAYED = ("x-relit-replayed", "true")

_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_OURS = frozenset({"host", "authorization", "x-api-key", "content-length", "expect"})


def tokens(headers: Iterable[tuple[str, str]]) -> list[str]:
    """The tokens that a request carries, in either protocol's header."""
    return [token for name, value in headers if (token := _token(name.lower(), value))]


def _token(name: str, value: str) -> str:
    if name == "x-api-key":
        return value.strip()
    scheme, _, bearer = value.partition(" ")
    return bearer.strip() if name == "authorization" and scheme.lower() == "bearer" else ""


def onward(headers: Iterable[tuple[str, str]], route: Route) -> Pairs:
    """The caller's headers for the provider, with the route's key. How long the body is goes without saying."""
    kept = _passing(headers, _OURS)
    if route.key is None:
        return kept
    own = ("x-api-key", route.key) if route.kind == "anthropic" else ("Authorization", f"Bearer {route.key}")
    return [*kept, own]


def back(headers: Iterable[tuple[str, str]]) -> Pairs:
    """The provider's headers for the caller. One without a ``Server`` gets ours: the library would make one up."""
    kept = _passing(headers, frozenset())
    return kept if any(name.lower() == "server" for name, _ in kept) else [*kept, SERVER]


def plain(text: str) -> str:
    """Without bytes that are no text: they do not reach the agent either."""
    return text.encode(errors="ignore").decode()


def _passing(headers: Iterable[tuple[str, str]], besides: frozenset[str]) -> Pairs:
    pairs = list(headers)
    named = {word.strip().lower() for name, value in pairs if name.lower() == "connection" for word in value.split(",")}
    held = _HOP | besides | named
    return [(name, value) for name, value in pairs if name.lower() not in held]
