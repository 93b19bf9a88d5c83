"""A declared HTTP tool, and the request that a call of it makes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from relit.gateway.tools.base import NotSent, Tool

_NAMED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
BODILESS = frozenset({"GET", "HEAD", "DELETE"})
KEY = "key"  # in a look-up: the idempotency key
Headers = Mapping[str, str]


@dataclass(frozen=True)
class LookUp:
    """How it is asked whether a call happened. ``found``: the dotted path of the answer at which there is something
    then; empty: any answer below 400."""

    url: str
    found: str = ""


@dataclass(frozen=True)
class HttpTool:
    """``url`` may name arguments, in its path and query. ``secret``: where what of the vault is sent, by header.
    ``key``: where the idempotency key goes, ``header:NAME`` or ``field:NAME``. ``query``: arguments that go there; with
    ``GET``, ``HEAD`` and ``DELETE`` all do that the path does not name."""

    tool: Tool
    url: str
    method: str = "POST"
    headers: Headers = field(default_factory=dict, repr=False)
    query: tuple[str, ...] = ()
    body: Literal["json", "form"] = "json"
    key: str = ""
    lookup: LookUp | None = None
    private: bool = False


@dataclass(frozen=True)
class Sending:
    """A request that is ready."""

    method: str
    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes | None


def sending(http: HttpTool, arguments: Mapping[str, Any], key: str) -> Sending:
    """The request of a call. NotSent: an argument cannot stand where it is named."""
    left = dict(arguments)
    url = _filled(http.url, left)
    where, _, name = http.key.partition(":")
    if where == "field" and key:
        left[name] = key
    asked = {each: left.pop(each) for each in [*left] if each in http.query or http.method in BODILESS}
    if asked:
        url += ("&" if urlsplit(url).query else "?") + urlencode(_flat(asked), quote_via=quote)
    headers = dict(http.headers)
    if where == "header" and key:
        headers[name] = key
    body = None
    if http.method not in BODILESS:
        body, headers["Content-Type"] = _body(http, left)
    return Sending(http.method, url, headers, body)


def looking(http: HttpTool, arguments: Mapping[str, Any], key: str) -> Sending:
    """The request that asks whether a call happened."""
    assert http.lookup is not None, "only tools whose effect is `lookup` are asked"
    return Sending("GET", _filled(http.lookup.url, {**arguments, KEY: key}), dict(http.headers), None)


def found(answer: bytes, path: str) -> Any:
    """What lies at a dotted path of an answer; ``None``: nothing does. ValueError: it is not such an answer (a page, a
    part of one), so that it says nothing."""
    try:
        value = msgspec.json.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if path:
            raise ValueError("it is not JSON") from error
        return answer.decode("utf-8", "replace")
    if path and not isinstance(value, dict | list | None):
        raise ValueError("it is neither a table nor a list")
    for part in path.split(".") if path else []:
        if isinstance(value, list) and part.isdigit():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return None if value is False or value in ("", [], {}) else value


def names(url: str) -> list[str]:
    """The arguments that a URL names."""
    return _NAMED.findall(url)


def port_of(url: str) -> int | None:
    """The port of a URL, said or meant; ``None``: there is none."""
    try:
        parts = urlsplit(url)
        return parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None


def host_of(url: str) -> str:
    """The host of a URL, without its port; empty: there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _filled(url: str, left: dict[str, Any]) -> str:
    """With arguments in their places, taken out of ``left``. In the path none of them can lead elsewhere."""

    def word(match: re.Match[str]) -> str:
        name = match[1]
        if name not in arguments:
            raise NotSent(f"the argument {name} is missing")
        left.pop(name, None)
        text = plain(arguments[name])
        if text in ("", ".", ".."):
            raise NotSent(f"the argument {name} may not be {text!r}")
        return quote(text, safe="")

    arguments = dict(left)
    return _NAMED.sub(word, url)


def plain(value: Any) -> str:
    """A value as text: strings as they are, the rest as JSON."""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _flat(asked: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in asked.items():
        pairs += [(name, plain(each)) for each in (value if isinstance(value, list) else [value])]
    return pairs


def _body(http: HttpTool, left: Mapping[str, Any]) -> tuple[bytes, str]:
    if http.body == "form":
        return urlencode(_flat(left)).encode(), "application/x-www-form-urlencoded"
    return msgspec.json.encode(left), "application/json"
