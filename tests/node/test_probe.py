"""What is asked of an instance, where the instance may have put anything in its place."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from relit.control.values import Probe
from relit.node import probe


def age(path: Path, field: str = "at") -> Probe:
    return Probe(kind="age", target=str(path), field=field, max_age_ms=60_000, timeout_ms=1_000)


async def test_a_time_that_stands_in_a_file_counts(tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    file.write_text(f'{{"at": {time.time()}}}')
    assert await probe.ask(age(file), 1) is None
    file.write_text('{"at": 7}')
    assert "was last written" in str(await probe.ask(age(file), 1))


@pytest.mark.parametrize("field", ["at", ""])
async def test_what_never_ends_in_the_place_of_a_file_holds_no_thread(tmp_path: Path, field: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("fifo", "zero"):
        for _ in range(40):  # more than there are threads
            if field:
                assert "no plain file" in str(await probe.ask(age(tmp_path / name, field), 1))
            else:
                await probe.ask(age(tmp_path / name, field), 1)
    async with asyncio.timeout(5):
        await asyncio.to_thread(time.sleep, 0)


async def test_of_a_file_that_is_large_only_its_beginning_is_read(tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    file.write_bytes(b'{"at": 7, "more": "' + b"x" * (17 << 20) + b'"}')
    assert await probe.ask(age(file), 1) is not None
