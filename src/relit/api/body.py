"""Request bodies and parameters: bounded while they arrive, then checked against their shape."""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from typing import Annotated, Any, TypeVar, get_origin

import msgspec
from starlette.requests import ClientDisconnect, Request

from relit.errors import Invalid, PayloadTooLarge
from relit.lib.durations import to_ms
from relit.lib.plain import from_plain

T = TypeVar("T")

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")  # seconds, as in a query
_DRAIN_DECLARED = 256 << 20
_DRAIN_ENDLESS = 16 << 20

Span = str | int | float
Moment = str | int


async def read(request: Request, limit: int) -> bytes:
    """The body. Raises ``PayloadTooLarge`` when it is larger than ``limit``; no more than that is held in memory."""
    declared = request.headers.get("content-length", "")
    length = int(declared) if declared.isdigit() else None
    if length is not None and length > limit:
        if "expect" not in request.headers:  # who asks before it sends has sent nothing yet
            await _drain(request, length, _DRAIN_DECLARED)
        raise _too_large(f"{length:,} bytes", limit)
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                parts.clear()
                break
            parts.append(part)
        else:
            return b"".join(parts)
    except ClientDisconnect as error:
        raise Invalid("the request ended before its body was whole") from error
    await _drain(request, size, _DRAIN_ENDLESS)
    raise _too_large(f"more than {limit:,} bytes", limit)


async def _drain(request: Request, size: int, most: int) -> None:
    """Let the caller finish, so that it hears the answer: most clients read none while they send."""
    if size > most:
        return
    taken = 0
    while taken < most:
        message = await request.receive()
        taken += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return


def _too_large(size: str, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the request's body is too large: {size}",
        why=f"the limit is {limit:,} bytes",
        fix="store the content elsewhere and send a reference, or raise server.max_body in relit.toml",
    )


def parse(data: bytes, shape: type[T]) -> T:
    """JSON as ``shape``. Raises ``Invalid``, naming the part that is wrong."""
    try:
        return msgspec.json.decode(data or b"{}", type=shape)
    except msgspec.ValidationError as error:
        raise Invalid(f"the body is not what this request takes: {error}", fix="see /openapi.json") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(
            "the body is not JSON", why=str(error), fix="send JSON with Content-Type: application/json"
        ) from error


def parameters(pairs: list[tuple[str, str]], shape: type[T]) -> T:
    """Query parameters as ``shape``: a repeated one, or one with commas, fills a list. Raises ``Invalid``."""
    lists = _lists(shape)  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in lists:
            found.setdefault(name, []).extend(part for part in value.split(",") if part)
        else:
            found[name] = value
    try:
        return msgspec.convert(found, shape, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"a parameter is wrong: {error}", fix="see /openapi.json") from error


@cache
def _lists(shape: type) -> frozenset[str]:
    """The names of its fields that are lists."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(shape) if _is_list(field.type))


def _is_list(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        annotation = annotation.__origin__
    return get_origin(annotation) is list


def span(value: Span | None, name: str) -> int | None:
    """A duration in ms. Raises ``Invalid``."""
    if value is None:
        return None
    try:
        return to_ms(float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value)
    except (ValueError, OverflowError) as error:
        raise Invalid(f"{name} is wrong", why=str(error)) from error


def moment(value: Moment | None, name: str) -> int | None:
    """A moment in ms since 1970: a number, or ISO 8601 with a zone. Raises ``Invalid``."""
    if value is None or isinstance(value, int):
        return value
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError as error:
        raise Invalid(f"{name} is wrong", why=str(error), fix="write 2026-01-31T09:00:00Z") from error
    if parsed.tzinfo is None:
        raise Invalid(f"{name} has no time zone", fix="end it with Z or an offset: 2026-01-31T09:00:00+01:00")
    return round(parsed.timestamp() * 1000)


def value(plain: Any) -> Any:
    """A value out of a body, its markers resolved. Raises ``Invalid``."""
    try:
        return from_plain(plain)
    except ValueError as error:
        raise Invalid("a value in the body is wrong", why=str(error)) from error
