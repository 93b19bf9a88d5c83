"""What the gateway itself refuses or cannot do, in the words of the protocol that was asked. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from relit.gateway.routes import Kind

_ANTHROPIC = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}

_OPENAI = {
    402: "insufficient_quota",  # what its clients know as the end of the money
    429: "requests",  # and as too many at once
}


class Refused(Exception):
    """``code`` is relit's. ``retry``: the same call may succeed later."""

    def __init__(self, status: int, code: str, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry = retry

    def headers(self) -> dict[str, str]:
        """Beside the content type. Both vendors' clients obey ``x-should-retry``."""
        if self.retry:
            return {"x-should-retry": "true", "retry-after": "1"}
        return {"x-should-retry": "false"}

    def body(self, kind: Kind) -> bytes:
        """The body, as a client of that kind reads it."""
        return msgspec.json.encode(_anthropic(self) if kind == "anthropic" else _openai(self))

    def event(self, kind: Kind) -> bytes:
        """The same in the middle of a stream."""
        return b"event: error\ndata: " + self.body(kind) + b"\n\n"


def _anthropic(refused: Refused) -> dict[str, Any]:
    name = _ANTHROPIC.get(refused.status, "api_error" if refused.status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": name, **_told(refused)}, "request_id": None}


def _openai(refused: Refused) -> dict[str, Any]:
    name = _OPENAI.get(refused.status, "server_error" if refused.status >= 500 else "invalid_request_error")
    return {"error": {"type": name, "param": None, **_told(refused)}}


def _told(refused: Refused) -> dict[str, Any]:
    return {"message": f"relit: {refused.message}", "code": refused.code, "retry": refused.retry}
