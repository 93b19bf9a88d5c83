"""The processes that one demo started, found by a mark in their environment: no other process is ever touched."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec

from relit.demo.plan import Role

MARK = "DEMO_OF_RELIT"


class Found(msgspec.Struct, frozen=True):
    """A live process that carries the mark."""

    pid: int
    command: tuple[str, ...]


def marked(mark: str) -> list[Found]:
    """Every live process whose environment carries ``mark``, this one excepted."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) == os.getpid() or wanted not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # gone meanwhile, or somebody else's
        if any(command):  # a zombie has none
            found.append(Found(int(folder.name), tuple(command)))
    return found


def role(process: Found) -> Role | None:
    """What ``process`` is to relit, by its command line."""
    words = process.command
    if "worker" in words:
        return "worker"
    if "server" in words:
        return "server"
    return "node" if "up" in words or "node" in words else None


def kill(pid: int) -> None:
    """SIGKILL, if it still lives."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended by itself in this moment
