"""What the keeper's clients send: their connections, and their requests' fields, checked. Standard library only."""

import errno
import os
import socket

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@")


class Refused(Exception):
    """A request that cannot be done; the client is told code and text."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(code, what)
        self.code, self.what = code, what


class Peer:
    """One connected client."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.watching = False


def open_log(path: str) -> int:
    """The raw log, for appending: a plain file of mode 0600. Never follows a link, never blocks on a pipe."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def find_program(name: str, path: str) -> str:
    """The file that ``name`` means, by the child's own PATH."""
    if "/" in name:
        return name
    for folder in path.split(os.pathsep):
        candidate = os.path.join(folder, name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise FileNotFoundError(errno.ENOENT, "no such program in its PATH", name)


def text(request: dict[str, object], field: str) -> str:
    """A string field."""
    value = request.get(field)
    if not isinstance(value, str):
        raise Refused("request", f"{field} must be a string")
    return value


def word(request: dict[str, object], field: str) -> str:
    """A field that can stand in file names and marks."""
    value = text(request, field)
    if not value or len(value) > 100 or value[0] == "." or not _NAME.issuperset(value):
        raise Refused("request", f"{field} must be up to 100 letters, digits, and . _ - @")
    return value


def texts(request: dict[str, object], field: str) -> list[str]:
    """A list of strings, not empty."""
    value = request.get(field)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise Refused("request", f"{field} must be a list of strings")
    return value


def environ(request: dict[str, object]) -> dict[str, str]:
    """The environment."""
    value = request.get("env")
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise Refused("request", "env must map names to strings")
    return value


def milliseconds(request: dict[str, object], field: str, usual: int, most: int) -> int:
    """A span of time."""
    value = request.get(field, usual)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise Refused("request", f"{field} must be 1 to {most}")
    return value


def number(request: dict[str, object]) -> int:
    """A signal number."""
    value = request.get("number")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 64:
        raise Refused("request", "number must be a signal")
    return value
