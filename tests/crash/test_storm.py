"""The kill storm of ``make soak``, for a short while."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def storm(*arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", "bench.soak", "--minutes", "0.3", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    counts: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return counts


@pytest.mark.crash
@pytest.mark.timeout(240)
async def test_a_storm_of_kills_loses_and_repeats_nothing() -> None:
    counts = await asyncio.to_thread(storm)
    assert int(str(counts["runs acknowledged"])) > 100
    assert int(str(counts.get("killed", 0))) > 0
