"""A disk with little room: old logs go, the newest and everything else stays, and it is told."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relit.node.disk import Disk

GB = 1 << 30


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for agent in ("ada", "bob"):
        place = tmp_path / agent / "log"
        place.mkdir(parents=True)
        for name in ("raw.log", "out.log", "out.log.1", "out.log.2", "out.log.3", "out.log.place"):
            (place / name).write_bytes(b"x" * 10)
    return tmp_path


def names(logs: Path) -> set[str]:
    return {each.name for each in (logs / "ada" / "log").iterdir()}


async def test_old_logs_go_and_it_is_told_once(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 50 * GB
    monkeypatch.setattr(
        os, "statvfs", lambda place: SimpleNamespace(f_bavail=free, f_blocks=100 * GB, f_frsize=1)
    )  # fmt: skip
    told: list[tuple[str, dict[str, Any]]] = []
    disk = Disk(logs, logs, lambda name, data: told.append((name, data)))
    await disk.look()
    assert (told, disk.space.room) == ([], "ample")
    free = 4 * GB
    await disk.look()
    assert told == [("node.disk", {"room": "low", "before": "ample", "free": free, "total": 100 * GB, "shed": 40})]
    assert names(logs) == {"raw.log", "out.log", "out.log.1", "out.log.place"}
    await disk.look()
    assert len(told) == 1
    free = GB // 2
    await disk.look()
    assert told[1][1]["room"] == "least"
    assert names(logs) == {"raw.log", "out.log", "out.log.place"}
    free = 50 * GB
    await disk.look()
    assert told[2][1]["room"] == "ample"
