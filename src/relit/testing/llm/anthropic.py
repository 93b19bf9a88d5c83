"""What Anthropic's protocols share."""

from __future__ import annotations

from typing import Any

_KINDS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error(no: int, status: int, message: str, code: str | None) -> dict[str, Any]:
    """The body of an error."""
    kind = code or _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": f"req_{no:06}"}
