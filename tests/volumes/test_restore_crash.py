"""A restore that is killed is finished or undone at the next start."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest
from test_restore import edit
from trees_for_restore import DictChunks, shape, take

from relit.lib import crashpoints
from relit.volumes.restore import Restorer
from relit.volumes.swap import POINTS


def killed(restorer: Restorer, home: Path, wanted: object, current: object, point: str, nth: int) -> bool:
    """Restore in a child that ends itself at the nth passing of ``point``. False: it got through."""
    child = os.fork()
    if child == 0:
        seen = 0

        def die(name: str) -> None:
            nonlocal seen
            seen += name == point
            if seen == nth:
                os.kill(os.getpid(), signal.SIGKILL)

        crashpoints.install(die)
        whole = "laid" in point or "exchanged" in point or "moved" in point
        (entries, parts), (have, now) = wanted, current  # type: ignore[misc]
        work = (
            restorer.full(home, entries, segments=parts)
            if whole
            else restorer.in_place(home, have, entries, segments=(now, parts))
        )
        code = 1
        try:
            asyncio.new_event_loop().run_until_complete(work)
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_each_point_leaves_the_old_or_the_new_home(tmp_path: Path, point: str) -> None:
    home, chunks, chance = tmp_path / "home", DictChunks(), random.Random(5)
    home.mkdir()
    edit(home, chance, 12)
    wanted, new = take(home, chunks), shape(home)
    edit(home, chance, 12)
    nth, outcomes = 1, set()
    old = shape(home)
    assert old != new
    restorer = Restorer(chunks, tmp_path / "work")
    while killed(restorer, home, wanted, take(home, chunks), point, nth) and nth < 40:
        asyncio.run(restorer.resume(home))
        now = shape(home)
        outcomes.add("new" if now == new else "old")
        assert now in (old, new)
        if now == new:
            edit(home, chance, 6)
            old = shape(home)
            nth += 1
        if point != "volumes.restore.step":
            break
    assert outcomes
