"""Asks the server. Plain ``http.client``: importing an async client would cost more than most commands do."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from relit import errors
from relit.documents import Problem
from relit.errors import RelitError, ServerUnreachable, Unauthorized

T = TypeVar("T")

_TIMEOUT_S = 30.0
_SILENCE_S = 60.0  # a stream sends a comment every 15 s
_AGAIN_S = 0.25


class Frame(NamedTuple):
    """One server-sent event."""

    event: str
    id: str
    data: bytes


class Api:
    """The server at ``url``. ``patience``: seconds to go on trying when it cannot be reached, ``timeout``: to wait
    for one answer."""

    def __init__(self, url: str, token: str | None, *, patience: float = 0.0, timeout: float = _TIMEOUT_S + 60) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self.patience = patience
        self._timeout = timeout
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise errors.ConfigError(
                f"{url!r} is not a server's URL", fix="--server http://127.0.0.1:7717, or unset RELIT_SERVER"
            )
        self._parts = parts

    def get(self, path: str, shape: type[T], **query: Any) -> T:
        """What is at ``path``."""
        return msgspec.json.decode(self._ask("GET", path, query=query), type=shape)

    def post(self, path: str, shape: type[T], body: Any = None, *, key: str | None = None) -> T:
        """Send ``body``. ``key`` makes a repetition harmless."""
        data = self._ask("POST", path, body=body, headers={"Idempotency-Key": key} if key else {})
        return msgspec.json.decode(data, type=shape)

    def put(self, path: str, shape: type[T], body: Any) -> T:
        """Put ``body`` there."""
        return msgspec.json.decode(self._ask("PUT", path, body=body), type=shape)

    def patch(self, path: str, shape: type[T], body: Any) -> T:
        """Change what is there."""
        return msgspec.json.decode(self._ask("PATCH", path, body=body), type=shape)

    def delete(self, path: str) -> None:
        """Remove what is there."""
        self._ask("DELETE", path)

    def alive(self) -> bool:
        """Whether a server answers."""
        try:
            self._once("GET", "/healthz", None, {}, 2.0)
        except RelitError:
            return False
        return True

    def _ask(
        self, method: str, path: str, *, query: Any = None, body: Any = None, headers: dict[str, str] | None = None
    ) -> bytes:
        asked = path + ("?" + _query(query) if query else "")
        until = time.monotonic() + self.patience
        while True:
            try:
                return self._once(method, asked, body, headers or {}, self._timeout)
            except (ServerUnreachable, errors.StoreUnavailable):
                # Only what does no harm twice is asked again.
                if time.monotonic() >= until or (method != "GET" and not headers):
                    raise
                time.sleep(_AGAIN_S)

    def _once(self, method: str, path: str, body: Any, headers: dict[str, str], timeout: float) -> bytes:
        connection = self._connect(timeout)
        try:
            response = self._request(connection, method, path, body, headers)
            data = response.read()
        except TimeoutError as error:
            if connection.sock is None:
                raise self._unreachable(error) from error
            raise self._silent(timeout) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        if response.status >= 400:
            raise self._problem(response, data)
        return data

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        assert self._parts.hostname is not None
        return kind(self._parts.hostname, self._parts.port, timeout=timeout)

    def _request(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        data = None if body is None else msgspec.json.encode(body)
        sent = {"Accept": "application/json", **headers}
        if data is not None:
            sent["Content-Type"] = "application/json"
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        connection.request(method, self._parts.path + path, data, sent)
        return connection.getresponse()

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ServerUnreachable(f"no relit server answers at {self.url}", why=why, fix="relit up")

    def _silent(self, seconds: float) -> ServerUnreachable:
        return ServerUnreachable(
            f"the relit server at {self.url} did not answer within {seconds:g} s",
            why="it takes connections: it is busy, or hangs",
            fix="relit ps shows how its processes are; one that hangs is started again within two minutes",
        )

    def _problem(self, response: http.client.HTTPResponse, data: bytes) -> RelitError:
        try:
            problem = msgspec.json.decode(data, type=Problem)
        except msgspec.DecodeError:
            return ServerUnreachable(
                f"what answers at {self.url} is not a relit server",
                why=f"it said {response.status} {response.reason}",
                fix="--server URL, with the address of a relit server",
            )
        return error_of(problem, response.headers.get("Retry-After"))

    # --- streams -----------------------------------------------------------------------------------------------

    def stream(
        self, path: str, *, until: Callable[[Frame], bool] = lambda frame: False, after: str = "", **query: Any
    ) -> Iterator[Frame]:
        """Events of a stream, connecting again where it broke off, until ``until`` says that one was the last."""
        lost_at: float | None = None
        while True:
            try:
                for frame in self._frames(path, after, query):
                    lost_at, after = None, frame.id or after
                    if not frame.event:
                        continue
                    yield frame
                    if until(frame):
                        return
            except (ServerUnreachable, errors.StoreUnavailable):
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > self.patience:
                    raise
            time.sleep(_AGAIN_S)  # the server ended the stream: it is being restarted, or was cut off

    def _frames(self, path: str, after: str, query: Any) -> Iterator[Frame]:
        connection = self._connect(_SILENCE_S)
        try:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
            response = self._request(connection, "GET", path + ("?" + _query(query) if query else ""), None, headers)
            if response.status >= 400:
                raise self._problem(response, response.read())
            yield from parse_frames(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()


def parse_frames(lines: Iterable[bytes]) -> Iterator[Frame]:
    """Server-sent events out of their lines."""
    event = id = ""
    data = b""
    for raw in lines:
        line = raw.rstrip(b"\r\n")
        if not line:
            if event or id:
                yield Frame(event, id, data)
            event, id, data = "", "", b""
        elif line.startswith(b"event: "):
            event = line[7:].decode()
        elif line.startswith(b"id: "):
            id = line[4:].decode()
        elif line.startswith(b"data: "):
            data = line[6:]


def _query(query: dict[str, Any]) -> str:
    plain = {k: ("true" if v is True else "false" if v is False else v) for k, v in query.items() if v is not None}
    return urlencode(plain, doseq=True)


def segment(text: str) -> str:
    """Text as one part of a path."""
    return quote(text, safe="")


def error_of(problem: Problem, retry_after: str | None = None) -> RelitError:
    """A problem document as the error that it was on the server."""
    kind = errors.by_code().get(problem.code, Unauthorized if problem.status in (401, 403, 421) else RelitError)
    if kind is errors.MailboxFull:
        return errors.MailboxFull(
            problem.title, why=problem.detail, fix=problem.fix, retry_after=float(retry_after or 1)
        )
    return kind(problem.title, why=problem.detail, fix=problem.fix)
