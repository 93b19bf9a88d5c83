"""Kill whoever keeps volumes at every named point, start again, and look for anything lost, mixed or left over."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from volume_survivor import Survivor

from relit.app import recover, unlock
from relit.testing.s3 import S3
from relit.volumes import capture, consolidate, homelaying, prune, rebuild, service, spool, swap, upload

VICTIM = Path(__file__).with_name("volume_victim.py")
KEEPING = (capture, consolidate, homelaying, prune, rebuild, service, spool, swap, unlock, upload)
NOT_PASSED = {"volumes.spool.cut", "volumes.spool.resealed", "volumes.spool.recovered"}  # by ``tell``: after a crash
POINTS = [point for module in KEEPING for point in module.POINTS if point not in NOT_PASSED]
COMMITS = {"store.commit.before": 3, "store.commit.after": 6}  # and which of them
REMOTE = {*upload.POINTS, *prune.POINTS, *rebuild.POINTS}  # where it matters most what the store is
QUICK = (
    "volumes.snapshot.synced:3",
    "volumes.snapshot.staged:1",
    "volumes.upload.put.after:4",
    "volumes.restore.step:5",
    "volumes.restore.exchanged:1",
    "volumes.fork.made:1",
    "volumes.home.noted:1",
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
    ("volumes.restore.journaled:3", "volumes.restore.exchanged:1"),
    ("volumes.restore.exchanged:1", "volumes.restore.moved:1"),
    ("volumes.fork.made:1", "volumes.home.laid:1"),
    ("volumes.home.noted:1", "volumes.home.noted:1"),
    ("volumes.home.laid:2", "volumes.home.moved:1"),
    ("volumes.home.moved:2", "volumes.home.settled:1"),
)

RECOVER = (  # where what brings a lost server back is killed, and what goes on with it
    *((f"{point}:1", "recover") for point in (*recover.POINTS, *homelaying.POINTS)),
    ("volumes.home.noted:2", "recover"),
    ("volumes.rebuild.chunks:1", "recover"),
    ("volumes.recover.installed:1", "settle"),
    ("volumes.home.noted:1", "settle"),
    ("volumes.home.laid:2", "settle"),
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

    async def crash_recover(self, spec: str, then: str) -> None:
        """Lose everything but packs and key, kill what brings it back at this point, go on with ``then``; check."""
        folder = self.folder()
        for what in ("tell", "ship"):
            assert (await run(folder, what))[0] == 0
        self.lose(folder)
        assert (await run(folder, "recover", spec, env=self.env()))[0] == -9, f"{spec} is not passed"
        assert (await run(folder, then, env=self.env()))[0] == 0
        assert then != "recover" or [*(folder / "data").glob("recovering*")] == []
        await Survivor(folder, thorough=False).check()

    def lose(self, folder: Path) -> None:
        """Of a folder of packs: they had lain elsewhere."""
        (folder / "data").rename(folder / "lost")
        (folder / "data").mkdir(mode=0o700)
        (folder / "lost" / "key").rename(folder / "data" / "key")
        if self._s3 is None:
            (folder / "lost" / "volumes").rename(folder / "packs")
            (folder / "relit.toml").write_text(f'[volumes]\nstore = "{folder}/packs"\n')

    def env(self) -> dict[str, str]:
        """What leads to the bucket."""
        options = self._s3.options() if self._s3 else {}
        return {f"AWS_{name.upper()}": value for name, value in options.items()}

    async def crash_all(self, specs: Sequence[str]) -> None:
        """Each on its own."""
        done = await asyncio.gather(*(self.crash(spec) for spec in specs), return_exceptions=True)
        failed = [each for each in done if isinstance(each, Exception)]
        if failed:
            raise ExceptionGroup(f"{len(failed)} of {len(specs)}", failed)


async def run(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(VICTIM), str(folder), *arguments],
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
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


async def test_a_recovery_that_was_killed_goes_on(tmp_path: Path, quiet: pytest.LogCaptureFixture) -> None:
    await Stage(tmp_path).crash_recover("volumes.home.laid:1", "recover")
    assert quiet.records == []


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("spec", "then"), RECOVER)
async def test_a_recovery_survives_a_kill_at(
    stage: Stage, spec: str, then: str, quiet: pytest.LogCaptureFixture
) -> None:
    await stage.crash_recover(spec, then)
    assert quiet.records == []
