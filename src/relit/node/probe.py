"""Asking an instance: does it answer? Startup, readiness and liveness use the same questions at different times."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import signal
import socket
import stat
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from relit.control.paths import hang_up, short_path
from relit.control.values import UNIX, Probe
from relit.lib import proc

BODY_MOST = 1 << 20  # of an answer
_LOOPBACK = "127.0.0.1"
_LARGEST = 16 << 20  # bytes of a file that is read


async def ask(probe: Probe, pid: int = 0) -> str | None:
    """``None`` for yes, else why not. Never raises for an instance's fault; never longer than the probe's timeout.
    ``pid``: its main process, for those that ask about that."""
    if probe.kind == "pid":
        return _main(pid)
    try:
        async with asyncio.timeout(probe.timeout_ms / 1000):
            return await _ASK[probe.kind](probe)
    except TimeoutError:
        return f"no answer in {probe.timeout_ms} ms"
    except (OSError, ValueError, asyncio.IncompleteReadError, msgspec.MsgspecError) as error:
        return str(error) or type(error).__name__


def clear(probe: Probe | None) -> None:
    """Before a start: remove the readiness file of an earlier life."""
    if probe is not None and probe.kind == "file":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(probe.target)


def _main(pid: int) -> str | None:
    return "its main process was stopped by a signal" if proc.state_of(pid) == "T" else None


async def _tcp(probe: Probe) -> str | None:
    host, _, port = probe.target.rpartition(":")
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    await hang_up(writer)
    return None


async def _unix(probe: Probe) -> str | None:
    with short_path(Path(probe.target)) as path:
        _, writer = await asyncio.open_unix_connection(path)
    await hang_up(writer)
    return None


async def _file(probe: Probe) -> str | None:
    return None if os.access(probe.target, os.F_OK) else f"{probe.target} does not exist yet"


async def _age(probe: Probe) -> str | None:
    if probe.field:
        told = _at(msgspec.json.decode(await asyncio.to_thread(_plain, probe.target)), probe.field)
        written = float(told) if isinstance(told, int | float) else datetime.fromisoformat(str(told)).timestamp()
    else:
        written = os.stat(probe.target).st_mtime
    old_s = time.time() - written  # noqa: TID251 - a file's time is on the wall clock
    return None if old_s * 1000 <= probe.max_age_ms else f"{probe.target} was last written {old_s:.0f} s ago"


def _plain(path: str) -> bytes:
    """A plain file: an agent may put whatever never ends in its place. OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is no plain file")
        return file.read(_LARGEST)


async def _command(probe: Probe) -> str | None:
    process = await asyncio.create_subprocess_exec(
        *probe.argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=probe.env,
        start_new_session=True,
    )
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return None if code == 0 else f"{probe.argv[0]} ended with {code}"


# --- HTTP ---------------------------------------------------------------------------------------------------------


async def _http(probe: Probe) -> str | None:
    if "{nonce}" in probe.body:
        probe = _with_nonce(probe, secrets.token_hex(4))
    url = urlsplit(probe.target)
    ask = _exchange_lean if url.scheme == "http" and url.hostname == _LOOPBACK else _exchange
    answer = await ask(url, _request(probe, url), whole=bool(probe.want or probe.contains))
    status, (headers, _, rest) = _status(answer), answer.partition(b"\r\n\r\n")
    if not 200 <= status < 400:
        return f"HTTP status {status}"
    return _wanted(probe, _body(headers, rest))


async def _exchange(url: SplitResult, request: bytes, *, whole: bool) -> bytes:
    """What is answered: the whole of it, or at least its first line."""
    reader, writer = await _connected(url)
    try:
        writer.write(request)
        return await _read(lambda: reader.read(1 << 16), whole)
    finally:
        await hang_up(writer)


async def _exchange_lean(url: SplitResult, request: bytes, *, whole: bool) -> bytes:
    """The same for where most agents are, with half the work: on loopback a connection is there at once."""
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        refused = sock.connect_ex((_LOOPBACK, url.port or 80))
        if refused not in (0, errno.EINPROGRESS):
            raise OSError(refused, os.strerror(refused))
        sent = 0
        with contextlib.suppress(BlockingIOError):  # then it waits for its turn
            sent = sock.send(request)
        if sent < len(request):
            await loop.sock_sendall(sock, request[sent:])
        return await _read(lambda: loop.sock_recv(sock, 1 << 16), whole)


async def _read(more: Callable[[], Awaitable[bytes]], whole: bool) -> bytes:
    found = b""
    while (whole or b"\n" not in found) and len(found) < BODY_MOST and (piece := await more()):
        found += piece
    return found


def _with_nonce(probe: Probe, nonce: str) -> Probe:
    """An answer from before must not count as one to this question."""
    body, contains = (each.replace("{nonce}", nonce) for each in (probe.body, probe.contains))
    return msgspec.structs.replace(probe, body=body, contains=contains)


def _request(probe: Probe, url: SplitResult) -> bytes:
    where = (url.path or "/") + (f"?{url.query}" if url.query else "")
    host = "localhost" if url.scheme == UNIX else url.netloc
    headers = {"Host": host, "Connection": "close"} | probe.headers
    body = probe.body.encode()
    if body:
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{'POST' if body else 'GET'} {where} HTTP/1.1\r\n{lines}\r\n".encode() + body


def _status(answer: bytes) -> int:
    """Of its first line; 0 when that is none of HTTP's."""
    words = answer.partition(b"\n")[0].decode("latin-1").split()
    return int(words[1]) if len(words) > 1 and words[0].startswith("HTTP/") else 0


def _body(headers: bytes, rest: bytes) -> bytes:
    """The body, put together when it came in chunks."""
    if b"transfer-encoding: chunked" not in headers.lower():
        return rest
    whole = b""
    while rest:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line.split(b";")[0] or b"0", 16)
        if size == 0:
            break
        whole, rest = whole + rest[:size], rest[size + 2 :]
    return whole


def _wanted(probe: Probe, body: bytes) -> str | None:
    if probe.contains and probe.contains.encode() not in body:
        return f"the answer does not contain {probe.contains!r}"
    if probe.want:
        told = msgspec.json.decode(body)
        for key, value in probe.want.items():
            if (found := _at(told, key)) != value:
                return f"{key} is {found!r}"
    return None


def _at(tree: Any, key: str) -> Any:
    """What is at a dotted key; ``None`` when there is nothing."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


async def _connected(url: SplitResult) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if url.scheme == UNIX:
        with short_path(Path(unquote(url.netloc))) as path:
            return await asyncio.open_unix_connection(path)
    secure = url.scheme == "https"
    port = url.port or (443 if secure else 80)
    return await asyncio.open_connection(url.hostname, port, ssl=True if secure else None)


_ASK = {"tcp": _tcp, "unix": _unix, "file": _file, "age": _age, "command": _command, "http": _http}
