"""Kill whoever keeps volumes at every named point, start again, and look for anything lost, mixed or left over."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from volume_survivor import Survivor

from relit.app import unlock
from relit.testing.s3 import S3
from relit.volumes import capture, consolidate, prune, rebuild, service, spool, swap, upload

VICTIM = Path(__file__).with_name("volume_victim.py")
KEEPING = (capture, consolidate, prune, rebuild, service, spool, swap, unlock, upload)
NOT_PASSED = {  # by ``tell``: of a start after a crash, and of restores that exchange whole homes (test_restore_crash)
    "volumes.spool.cut", "volumes.spool.resealed", "volumes.spool.recovered",
    "volumes.restore.laid", "volumes.restore.exchanged", "volumes.restore.moved",
}  # fmt: skip
POINTS = [point for module in KEEPING for point in module.POINTS if point not in NOT_PASSED]
COMMITS = {"store.commit.before": 3, "store.commit.after": 6}  # and which of them
REMOTE = {*upload.POINTS, *prune.POINTS, *rebuild.POINTS}  # where it matters most what the store is
QUICK = (
    "volumes.snapshot.synced:3",
    "volumes.snapshot.staged:1",
    "volumes.upload.put.after:4",
    "volumes.restore.step:5",
    "volumes.fork.made:1",
    "volumes.prune.condemned:1",
    "volumes.prune.deleted:2",
)
TWICE = (  # killed, and killed again by the start that follows
    ("volumes.snapshot.copied:3", "volumes.spool.cut:1"),
    ("volumes.snapshot.synced:3", "volumes.spool.resealed:1"),
    ("volumes.snapshot.committed:9", "volumes.spool.recovered:1"),
    ("volumes.snapshot.staged:1", "store.commit.before:1"),
    ("volumes.restore.step:5", "volumes.restore.step:3"),
    ("volumes.restore.step:9", "volumes.restore.applied:1"),
    ("volumes.restore.journaled:1", "volumes.restore.done:1"),
    ("volumes.fork.made:1", "volumes.fork.laid:1"),
    ("volumes.fork.laid:2", "volumes.fork.moved:1"),
)


class Stage:
    """Where victims live: a folder each, and a place for packs. ``s3``: in a bucket."""

    def __init__(self, base: Path, s3: S3 | None = None, bucket: str = "") -> None:
        self._base, self._s3, self._bucket = base, s3, bucket
        self.thorough = s3 is None
        self._count = 0
        self._both = asyncio.Semaphore(2)

    def folder(self) -> Path:
        """For one more victim."""
        self._count += 1
        made = self._base / f"{self._count}"
        made.mkdir()
        store = f"s3://{self._bucket}/{self._base.name}/{self._count}" if self._s3 else "local"
        (made / "relit.toml").write_text(f'[volumes]\nstore = "{store}"\n')
        (made / "options").write_text(json.dumps(self._s3.options() if self._s3 else {}))
        return made

    async def passings(self) -> dict[str, int]:
        """How often a victim that is not killed passes each point."""
        code, out = await run(self.folder(), "count")
        assert code == 0
        return dict(json.loads(out))

    async def crash(self, *specs: str) -> None:
        """Kill at the first of these, then at the others while it starts again; then check."""
        async with self._both:
            folder = self.folder()
            for what, spec in zip(("tell", *["settle"] * len(specs)), specs, strict=False):
                code, _ = await run(folder, what, spec)
                assert code == -9, f"{spec} is not passed"
            try:
                await Survivor(folder, thorough=self.thorough).check()
            except Exception as error:
                error.add_note(f"after {' and '.join(specs)}")
                raise

    async def crash_all(self, specs: Sequence[str]) -> None:
        """Each on its own."""
        done = await asyncio.gather(*(self.crash(spec) for spec in specs), return_exceptions=True)
        failed = [each for each in done if isinstance(each, Exception)]
        if failed:
            raise ExceptionGroup(f"{len(failed)} of {len(specs)}", failed)


async def run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(VICTIM), str(folder), *arguments],
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode, done.stdout


@pytest.fixture(scope="session")
def bucket(s3: S3) -> str:
    name = s3.new_bucket()
    s3.store(name).put("first", b"")  # makes it
    return name


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    if request.param == "folder":
        return Stage(tmp_path)
    return Stage(tmp_path, request.getfixturevalue("s3"), request.getfixturevalue("bucket"))


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged as an error fails the test: damage that a start found."""
    caplog.set_level(logging.ERROR)
    return caplog


_passings: dict[str, dict[str, int]] = {}


async def passings(stage: Stage, key: str) -> dict[str, int]:
    """Told once for each kind of store."""
    if key not in _passings:
        _passings[key] = await stage.passings()
    return _passings[key]


@pytest.mark.parametrize("spec", QUICK)
async def test_a_killed_keeper_of_volumes_loses_nothing(
    tmp_path: Path, spec: str, quiet: pytest.LogCaptureFixture
) -> None:
    await Stage(tmp_path).crash(spec)
    assert quiet.records == []


@pytest.mark.s3
async def test_nor_one_whose_packs_are_in_a_bucket(
    tmp_path: Path, s3: S3, bucket: str, quiet: pytest.LogCaptureFixture
) -> None:
    await Stage(tmp_path, s3, bucket).crash("volumes.prune.deleted:1")
    assert quiet.records == []


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", POINTS)
async def test_volumes_survive_a_kill_at(
    stage: Stage, point: str, request: pytest.FixtureRequest, quiet: pytest.LogCaptureFixture
) -> None:
    last = (await passings(stage, request.node.callspec.params["stage"])).get(point, 0)
    assert last, f"{point} is never passed by the victim: add something that passes it"
    second = 2 if stage.thorough or point in REMOTE else last
    await stage.crash_all([f"{point}:{number}" for number in sorted({1, min(second, last), last})])
    assert quiet.records == []


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", COMMITS)
async def test_volumes_survive_a_kill_around_commits(
    tmp_path: Path, point: str, quiet: pytest.LogCaptureFixture
) -> None:
    stage = Stage(tmp_path)
    last = (await passings(stage, "folder"))[point]
    await stage.crash_all([f"{point}:{number}" for number in range(1, last + 1, COMMITS[point])])
    assert quiet.records == []


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("specs", TWICE, ids="-".join)
async def test_volumes_survive_a_kill_of_the_start_after_a_kill(
    stage: Stage, specs: tuple[str, str], quiet: pytest.LogCaptureFixture
) -> None:
    await stage.crash(*specs)
    assert quiet.records == []
