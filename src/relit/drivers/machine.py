"""What this machine can do for sandboxes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

LANDLOCK_PORTS = 4  # the first version of Landlock that limits TCP ports: Linux 6.7
_FENCE = str(Path(__file__).with_name("fence.py"))
_ASK_S = 10.0
_TRY = ["--ro-bind", "/", "/", "--dev", "/dev", "--unshare-ipc"]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. ``why`` says what went wrong first; ``works``: boxes can be made at all."""

    bwrap: str = ""
    version: str = ""
    works: bool = False
    pids: bool = False
    network: bool = False
    why: str = ""
    landlock: int = 0
    root: bool = False
    prlimit: str = ""
    python: str = sys.executable
    tmps: tuple[str, ...] = ("/tmp", "/var/tmp")
    sockets: tuple[str, ...] = ("/run",)

    def told(self) -> list[str]:
        """What is enforced here and what is not, in sentences."""
        if not self.works:
            return [f"sandboxes: none ({self.why})"]
        return [
            f"files: enforced by bubblewrap {self.version}",
            f"processes: {'enforced by a pid namespace' if self.pids else f'not enforced ({self.why})'}",
            f"network off: {'enforced by a network namespace' if self.network else f'not enforced ({self.why})'}",
            f"loopback ports: {self._ports()}",
            f"limits: {'set by prlimit' if self.prlimit else 'not enforced (prlimit is not installed)'}"
            + (", but for the number of processes (relit is root)" if self.prlimit and self.root else ""),
        ]

    def _ports(self) -> str:
        if self.landlock >= LANDLOCK_PORTS:
            return f"enforced for TCP by Landlock {self.landlock}"
        kernel = "the kernel has no Landlock" if not self.landlock else f"Landlock {self.landlock} knows no ports"
        return f"not enforced ({kernel}); without network an agent has a loopback of its own"


def look() -> Found:
    """Look, and make a few boxes to see whether they work. Blocking, some 50 ms."""
    common = Found(
        landlock=_landlock(),
        root=os.geteuid() == 0,
        prlimit=shutil.which("prlimit") or "",
        tmps=_real("/tmp", "/var/tmp"),
        sockets=_real("/run", "/var/run"),
    )
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return msgspec.structs.replace(common, why="bubblewrap is not installed")
    troubles = [
        _trouble([bwrap, *_TRY, *more]) for more in ([], ["--unshare-pid", "--proc", "/proc"], ["--unshare-net"])
    ]
    works, pids, network = (trouble is None for trouble in troubles)
    why = next((trouble for trouble in troubles if trouble is not None), "")
    said = _run([bwrap, "--version"]).stdout
    version = (re.search(r"\d[\d.]*", said) or [""])[0]
    return msgspec.structs.replace(
        common, bwrap=bwrap, version=version, works=works, pids=works and pids, network=works and network, why=why
    )


def _real(*paths: str) -> tuple[str, ...]:
    """These folders, each once, as they are without links."""
    return tuple(dict.fromkeys(os.path.realpath(path) for path in paths if os.path.isdir(path)))


def _trouble(command: list[str]) -> str | None:
    """Why a box cannot be made; ``None`` when it can."""
    try:
        ran = _run([*command, "--", "true"])
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if ran.returncode == 0 else (ran.stderr.strip().splitlines() or [f"exit {ran.returncode}"])[-1]


def _landlock() -> int:
    said = _run([sys.executable, "-I", "-S", _FENCE, "--abi"])
    return int(said.stdout) if said.returncode == 0 else 0


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_ASK_S
    )
