"""Asking an instance: does it answer? Startup, readiness and liveness use the same questions at different times."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from relit.control.paths import hang_up, short_path
from relit.control.values import UNIX, Probe


async def ask(probe: Probe) -> str | None:
    """``None`` for yes, else why not. Never raises for an instance's fault; never longer than the probe's timeout."""
    try:
        async with asyncio.timeout(probe.timeout_ms / 1000):
            return await _ASK[probe.kind](probe.target)
    except TimeoutError:
        return f"no answer in {probe.timeout_ms} ms"
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        return str(error) or type(error).__name__


def clear(probe: Probe | None) -> None:
    """Before a start: remove the readiness file of an earlier life."""
    if probe is not None and probe.kind == "file":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(probe.target)


async def _tcp(target: str) -> str | None:
    host, _, port = target.rpartition(":")
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    await hang_up(writer)
    return None


async def _unix(target: str) -> str | None:
    with short_path(Path(target)) as path:
        _, writer = await asyncio.open_unix_connection(path)
    await hang_up(writer)
    return None


async def _file(target: str) -> str | None:
    return None if os.access(target, os.F_OK) else f"{target} does not exist yet"


async def _http(target: str) -> str | None:
    url = urlsplit(target)
    host = "localhost" if url.scheme == UNIX else url.netloc
    reader, writer = await _connected(url)
    try:
        where = (url.path or "/") + (f"?{url.query}" if url.query else "")
        writer.write(f"GET {where} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        line = (await reader.readuntil(b"\n")).decode("latin-1").split()
    finally:
        await hang_up(writer)
    status = int(line[1]) if len(line) > 1 and line[0].startswith("HTTP/") else 0
    return None if 200 <= status < 400 else f"HTTP status {status}"


async def _connected(url: SplitResult) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if url.scheme == UNIX:
        with short_path(Path(unquote(url.netloc))) as path:
            return await asyncio.open_unix_connection(path)
    secure = url.scheme == "https"
    port = url.port or (443 if secure else 80)
    return await asyncio.open_connection(url.hostname, port, ssl=True if secure else None)


_ASK = {"tcp": _tcp, "unix": _unix, "file": _file, "http": _http}
