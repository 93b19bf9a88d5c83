"""Errors as problem documents (RFC 9457)."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from relit import errors
from relit.documents import Problem
from relit.errors import RelitError
from relit.lib.space import is_full

MEDIA_TYPE = "application/problem+json"

# The first class that fits wins, so the more special come first.
_STATUS: tuple[tuple[type[RelitError], int], ...] = (
    (errors.Invalid, 422),
    (errors.NotFound, 404),
    (errors.UnknownWorkflow, 404),
    (errors.Conflict, 409),
    (errors.MailboxFull, 429),
    (errors.Forbidden, 403),
    (errors.WrongHost, 421),
    (errors.Unauthorized, 401),
    (errors.StoreFull, 503),
    (errors.StoreUnavailable, 503),
    (errors.Fenced, 409),
    (errors.PayloadTooLarge, 413),
    (errors.Unserialisable, 422),
    (errors.BlobMissing, 410),
    (errors.WaitTimeout, 408),
    (errors.VolumeTooLarge, 413),
    (errors.FreezeFailed, 503),
    (errors.VolumeError, 500),
    (errors.RunError, 409),
)
_STORE_RETRY_AFTER = 1


def status_of(error: RelitError) -> int:
    """The HTTP status that says the same as ``error``."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def headers_of(error: RelitError) -> dict[str, str]:
    """The headers that belong to ``error``."""
    if isinstance(error, errors.MailboxFull):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    if isinstance(error, (errors.StoreFull, errors.StoreUnavailable)):
        return {"Retry-After": str(_STORE_RETRY_AFTER)}
    if isinstance(error, errors.PayloadTooLarge):
        return {"Connection": "close"}  # what is left of the body is not read
    if status_of(error) == 401:
        return {"WWW-Authenticate": 'Bearer realm="relit"'}
    return {}


def document(error: RelitError) -> Problem:
    """``error`` as a problem document."""
    return Problem(
        type=f"urn:relit:{error.code}",
        title=error.what,
        status=status_of(error),
        detail=error.why,
        code=error.code,
        fix=error.fix,
        retry=error.retry,
    )


def respond(error: RelitError, status: int | None = None) -> Response:
    """The answer that tells of ``error``; ``status`` overrides the one that belongs to it."""
    problem = document(error)
    if status is not None:
        problem.status = status
    return Response(
        msgspec.json.encode(problem), status_code=problem.status, headers=headers_of(error), media_type=MEDIA_TYPE
    )


def from_http(status: int, path: str, detail: Any) -> Response:
    """The answer for what the router refused before any handler saw it."""
    error: RelitError
    if status == HTTPStatus.NOT_FOUND:
        error = errors.NotFound(f"nothing is at {path}", fix="see /openapi.json for what there is")
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        error = errors.Invalid(f"{path} does not take this method", fix="see /openapi.json for what it takes")
    else:
        error = errors.Invalid(f"{path} was refused", why=str(detail))
    return respond(error, status)


def unexpected(path: str, error: Exception) -> Response:
    """The answer for a fault of ours; the log has the rest. A full disk is nobody's."""
    if is_full(error):
        return respond(errors.StoreFull(f"{path}: no space left", why=str(error), fix="df -h; free some space"))
    what, why = f"{path} failed inside the server", "a fault in relit; the server's log has the traceback"
    return respond(RelitError(what, why=why), 500)
