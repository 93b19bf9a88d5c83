"""Who runs, without asking a server: the keeper's word for the processes, the node's record for the rest."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import msgspec

from relit.control.paths import short_path
from relit.control.values import InstanceStatus
from relit.lib.proc import start_time
from relit.node import record

UNWATCHED = "no node watches it: relit up"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """What is alive in a data folder. Pids are ``None`` where nobody is. ``read_at``, ``refused``: see
    ``NodeRecord``."""

    keeper: int | None
    node: int | None
    instances: list[InstanceStatus]
    dropped: int = 0
    server: str = ""  # why the node did not reach the server; empty when it does
    trouble: str = ""  # the node's own
    read_at: float = 0.0
    refused: str = ""
    refused_at: float = 0.0


def read(run_dir: Path, timeout_s: float = 1.0) -> Running:
    """Look, without starting or changing anything."""
    known = record.read(run_dir)
    keeper = _ask_keeper(run_dir, timeout_s)
    lives = {life["name"]: life for life in (keeper["lives"] if keeper else []) if life["state"] == "running"}
    told = {status.name: status for status in known.instances} if known else {}
    if known is not None and record.alive(known):
        return Running(
            keeper=keeper["pid"] if keeper else None,
            node=known.process.pid,
            instances=list(told.values()),
            dropped=known.dropped,
            server=known.server,
            trouble=known.trouble,
            read_at=known.read_at,
            refused=known.refused,
            refused_at=known.refused_at,
        )
    orphans = [_unwatched(life, told.get(name)) for name, life in lives.items()]
    if known is not None and known.running:  # it did not end in good order: nobody starts what it was about to start
        orphans += [_left(each) for name, each in told.items() if name not in lives]
    return Running(keeper=keeper["pid"] if keeper else None, node=None, instances=orphans)


def _unwatched(life: dict[str, Any], told: InstanceStatus | None) -> InstanceStatus:
    """A life as its node last told it: in a sandbox the program's pid, where the keeper knows bubblewrap's."""
    told = told or InstanceStatus(name=life["name"], state="ready")
    if told.pid is not None and start_time(told.pid) == told.start:
        return msgspec.structs.replace(told, reason=UNWATCHED)
    return msgspec.structs.replace(told, state="ready", pid=life["pid"], start=life["start"], reason=UNWATCHED)


def _left(told: InstanceStatus) -> InstanceStatus:
    if told.state == "stopped":
        return told
    return msgspec.structs.replace(told, state="down", pid=None, start=None, retry_at_ms=None, reason=UNWATCHED)


def _ask_keeper(run_dir: Path, timeout_s: float) -> dict[str, Any] | None:
    """The keeper's list; ``None`` when no keeper answers."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            with short_path(run_dir / "keeper.sock") as path:
                sock.connect(path)
            sock.sendall(b'{"id":1,"do":"list"}\n')
            with sock.makefile("rb") as file:
                answer = json.loads(file.readline() or b"{}")
    except (OSError, ValueError):
        return None
    found: dict[str, Any] | None = answer.get("ok")
    return found
