"""What the test servers share: a folder and a free port to live on, and a child that does not outlive its parent."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relit.lib.ids import system_random

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Missing(Exception):
    """A part that a test server needs is not installed. The message says which, and how to get it."""


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody listens on now. Below 30000, so that no outgoing connection takes one meanwhile.

    They are drawn: processes that look at the same time hardly ever find the same.
    """
    found: list[int] = []
    for port in system_random().sample(range(20_000, 30_000), 10_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise Missing("no free loopback ports between 20000 and 30000")


def fresh_folder(prefix: str, owner: tuple[int, int] | None = None) -> Path:
    """A new 0700 folder that ``owner`` (uid, gid) can reach: none of its parents is closed to others."""
    for base in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if owner is None or reachable(Path(base)):
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base)).resolve()
            if owner is not None:
                os.chown(folder, *owner)
            return folder
    raise Missing("no temporary folder that another user can reach: set TMPDIR to one")


def reachable(path: Path) -> bool:
    """Whether any user may enter ``path`` and each of its parents."""
    return all(folder.stat().st_mode & 0o001 for folder in (path.resolve(), *path.resolve().parents))


def remove(folder: Path) -> None:
    """Delete a server's folder; what is gone already is fine."""
    shutil.rmtree(folder, ignore_errors=True)


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    cwd: str | Path = "/",
    owner: tuple[int, int] | None = None,
    env: Mapping[str, str] | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a server whose output goes to ``log``. It gets ``death_signal`` when the thread that started it ends."""

    def follow_parent() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal))

    with log.open("ab") as output:
        child: subprocess.Popen[bytes] = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=None if env is None else dict(env),
            start_new_session=True,
            preexec_fn=follow_parent,
            **identity(owner),
        )
    return child


def identity(owner: tuple[int, int] | None) -> dict[str, Any]:
    """Arguments of ``subprocess`` that run a command as ``owner``."""
    return {} if owner is None else {"user": owner[0], "group": owner[1], "extra_groups": []}
