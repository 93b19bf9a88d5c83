"""A restore of which one step cannot be done is taken back, also when it is killed while that happens."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from shapes import Shape, difference, shape
from test_restore import edit
from trees_for_restore import DictChunks, Tree, take

from relit.errors import VolumeError
from relit.lib import crashpoints
from relit.volumes.restore import Restorer
from relit.volumes.swap import UNDO


@contextmanager
def mounted(place: Path) -> Iterator[None]:
    """A folder that cannot be replaced."""
    if os.geteuid() != 0:
        assert os.environ.get("CI") != "true"
        pytest.skip("needs root")
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    try:
        yield
    finally:
        if os.path.ismount(place):
            subprocess.run(["umount", place], check=True)


class Scene:
    """A home with two versions. The last step to the one wanted meets a mount point."""

    def __init__(self, base: Path) -> None:
        self.home, self.chunks = base / "home", DictChunks()
        self.restorer = Restorer(self.chunks, base / "work")
        self.obstacle = self.home / "obstacle"
        chance = random.Random(11)
        self.home.mkdir()
        edit(self.home, chance, 12)
        self.obstacle.write_bytes(chance.randbytes(100_000))
        os.utime(self.obstacle, (0, 0))  # large and old: restored last
        self.wanted, self.new = take(self.home, self.chunks), shape(self.home)
        self.obstacle.unlink()
        edit(self.home, chance, 12)
        self.obstacle.mkdir()

    @property
    def now(self) -> Tree:
        return take(self.home, self.chunks)

    async def restore(self) -> None:
        entries, parts = self.wanted
        have, now = self.now
        await self.restorer.in_place(self.home, have, entries, segments=(now, parts))

    def killed(self, nth: int) -> bool:
        """Restore in a child that ends itself at the nth step taken back. False: it got through."""
        child = os.fork()
        if child == 0:
            left = nth

            def die(name: str) -> None:
                nonlocal left
                left -= name == UNDO
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            crashpoints.install(die)
            try:
                asyncio.new_event_loop().run_until_complete(self.restore())
            except VolumeError:
                os._exit(3)
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        assert status in (3 << 8, signal.SIGKILL)
        return status == signal.SIGKILL

    def is_(self, wanted: Shape) -> None:
        assert difference(shape(self.home), wanted) == {}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_a_step_that_fails_takes_all_of_them_back(scene: Scene) -> None:
    with mounted(scene.obstacle):
        old = shape(scene.home)
        with pytest.raises(VolumeError, match="the home is as it was"):
            await scene.restore()
        scene.is_(old)
        assert await scene.restorer.resume(scene.home) == []


def test_killed_while_it_takes_steps_back_it_is_undone_at_the_next_start(scene: Scene) -> None:
    with mounted(scene.obstacle):
        old, nth = shape(scene.home), 1
        while scene.killed(nth):
            [done] = asyncio.run(scene.restorer.resume(scene.home))
            assert done.outcome == "undone"
            scene.is_(old)
            nth += 1
        scene.is_(old)
    assert nth > 8


@pytest.mark.parametrize("nth", [1, 4, 8])
def test_or_finished_when_nothing_is_in_the_way_any_more(scene: Scene, nth: int) -> None:
    with mounted(scene.obstacle):
        assert scene.killed(nth)
    [done] = asyncio.run(scene.restorer.resume(scene.home))
    assert done.outcome == "finished"
    scene.is_(scene.new)
