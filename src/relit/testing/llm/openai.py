"""What OpenAI's protocols share."""

from __future__ import annotations

from typing import Any

CREATED = 1_750_000_000  # seconds since 1970 in every answer

_KINDS = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", None),
    429: ("requests", "rate_limit_exceeded"),
}


def error(no: int, status: int, message: str, code: str | None) -> dict[str, Any]:
    """The body of an error."""
    kind, usual = _KINDS.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    return {"error": {"message": message, "type": kind, "param": None, "code": code or usual}}
