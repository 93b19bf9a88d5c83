"""``node.json``: what a node leaves for its successor, and for ``relit ps`` while no server answers."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from relit.control.paths import NODE_RECORD
from relit.control.values import Desired, InstanceStatus
from relit.lib.proc import ProcessId, identify
from relit.node.ladder import History
from relit.pressure.footprint import Footprint


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The node's process, its view of each instance, how they died lately, what their starts took, and what the server
    last wanted. ``read_at``: when it began to read the settings that relit's own processes run with, by the monotonic
    clock; 0: before it started. ``refused``: why those were not taken that it began to read at ``refused_at``."""

    process: ProcessId
    read_at: float = 0.0
    refused: str = ""
    refused_at: float = 0.0
    running: bool = True  # false once it has ended in good order; its process may go on with something else
    instances: list[InstanceStatus] = []
    histories: dict[str, History] = {}
    footprints: dict[str, Footprint] = {}
    desired: Desired = Desired()
    dropped: int = 0
    server: str = ""  # why the server was last not reached; empty while it is
    trouble: str = ""  # the node's own
    stop_ms: int = 0  # how long it may take to stop all of them in good order


def alive(record: NodeRecord | None) -> bool:
    """Whether the node that wrote it still runs."""
    return record is not None and record.running and identify(record.process.pid) == record.process


def write(run_dir: Path, record: NodeRecord) -> None:
    """Replace the record, whole or not at all, mode 0600 (specs carry environments). Raises ``OSError``."""
    fresh = run_dir / f"{NODE_RECORD}.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(msgspec.json.encode(record))
    os.replace(fresh, run_dir / NODE_RECORD)


def read(run_dir: Path) -> NodeRecord | None:
    """The last record; ``None`` when there is none, or none that we understand (then nothing depends on it)."""
    try:
        return msgspec.json.decode((run_dir / NODE_RECORD).read_bytes(), type=NodeRecord)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
