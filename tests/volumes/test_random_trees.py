"""Whatever is done to a home: every snapshot is the home as it was, and nothing that is done later changes that."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kit import AGENT, HOUR, Kit
from random_edits import OPS, Editor, Step
from shapes import Shape, difference, shape

from relit.volumes.lookout import SWEEP_MS
from relit.volumes.watch.opening import Kind

STEPS = st.lists(
    st.builds(Step, st.sampled_from(sorted(OPS)), st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=12
)
WATCHES: list[Kind] = ["fanotify", "inotify", "sweep"]
QUICK = settings(
    max_examples=24,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
LONG = settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)


class History:
    """A home's life: edits, snapshots, restores, rounds of pruning; and what each snapshot must hold."""

    def __init__(self, kit: Kit, editor: Editor) -> None:
        self.kit = kit
        self.editor = editor
        self.shapes: dict[int, Shape] = {}

    async def edit(self, steps: Sequence[Step]) -> None:
        """Change files, and take a snapshot."""
        for step in steps:
            self.editor.do(step)
        if self.editor.lost_sight():
            self.kit.clock.offset += SWEEP_MS
        taken = await self.kit.take(always=True)
        self.shapes[taken.number] = shape(self.kit.home())

    async def go_back(self, where: int) -> None:
        """To any version that there is."""
        number = sorted(self.shapes)[where % len(self.shapes)]
        before = shape(self.kit.home())
        going = await self.kit.homes.restore(AGENT, number)
        assert going.after is not None
        self.shapes |= {going.before.number: before, going.after.number: self.shapes[number]}
        assert difference(shape(self.kit.home()), self.shapes[number]) == {}, f"{number} in place"

    async def prune(self, pinned: int) -> None:
        """Keep one version and the newest; both phases."""
        number = sorted(self.shapes)[pinned % len(self.shapes)]
        await self.kit.catalog.pin((await self.kit.volume()).id, number, True)
        for _ in range(2):
            await self.kit.uploader.flush()
            self.kit.later.offset += 2 * HOUR
            await self.kit.pruner.prune()
        self.shapes = {each: self.shapes[each] for each in await self.kit.numbers()}

    async def prove(self) -> None:
        """Every version comes back, from this store and from packs alone; nothing is damaged."""
        base = self.kit.base
        for number, wanted in self.shapes.items():
            assert difference(shape(await self.kit.lay(number, base / f"l{number}")), wanted) == {}, number
        await self.kit.uploader.flush()
        checked = await self.kit.verifier.verify()
        assert (checked.damage, checked.notes) == ([], [])
        other, done = await self.kit.rebuilt(base / "other")
        try:
            assert [each for each in done.problems if "they were pruned" not in each] == []
            assert set(await other.numbers()) >= self.shapes.keys()
            for number, wanted in self.shapes.items():
                assert difference(shape(await other.lay(number, base / f"r{number}")), wanted) == {}, number
        finally:
            await other.stop()


async def no_databases(folder: Path) -> tuple[int, list[tuple[bytes, str]]]:
    """Those of random bytes are not sound, of course."""
    return 0, []


async def live(base: Path, watch: Kind, batches: Sequence[tuple[list[Step], str, int]]) -> None:
    kit = Kit(base, watch=watch, databases=no_databases)
    kit.home().mkdir(parents=True)
    editor = Editor(kit.home())
    await kit.start()
    try:
        history = History(kit, editor)
        for steps, then, where in batches:
            await history.edit(steps)
            if then == "back":
                await history.go_back(where)
            elif then == "prune":
                await history.prune(where)
            elif then == "restart":
                await kit.stop(seal=bool(where % 2))
                history.kit = kit = Kit(base, watch=watch, databases=no_databases)
                await kit.start()
        await history.prove()
    finally:
        editor.close()
        await kit.stop()


BATCHES = st.lists(
    st.tuples(STEPS, st.sampled_from(["", "back", "prune", "restart"]), st.integers(0, 100)), min_size=2, max_size=5
)


def run(watch: Kind, batches: Sequence[tuple[list[Step], str, int]]) -> None:
    with tempfile.TemporaryDirectory() as base:
        asyncio.run(live(Path(base), watch, batches))


@settings(QUICK)
@given(watch=st.sampled_from(WATCHES), batches=BATCHES)
def test_every_version_of_any_life_comes_back(watch: Kind, batches: list[tuple[list[Step], str, int]]) -> None:
    run(watch, batches)


@pytest.mark.crash
@settings(LONG)
@given(watch=st.sampled_from(WATCHES), batches=BATCHES)
def test_every_version_of_many_lives_comes_back(watch: Kind, batches: list[tuple[list[Step], str, int]]) -> None:
    run(watch, batches)
