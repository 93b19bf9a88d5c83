"""A lost server comes back out of the bucket alone."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import relit
from relit.app import parts as chosen
from relit.app.keeping import _shipping
from relit.app.recover import recover
from relit.app.volumes import Kept, Tuning, kept
from relit.durable.engine import Engine
from relit.durable.worker import Worker
from relit.errors import Conflict, NotFound, WrongKey, WrongStore
from relit.lib.clock import SYSTEM_CLOCK
from relit.settings import Settings, load
from relit.testing.s3 import S3
from relit.volumes.keys import Keys
from relit.volumes.watch.opening import open_watcher

pytestmark = pytest.mark.s3


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket that the environment leads to, as it does for users."""
    options, name = s3.options(), s3.new_bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret_access_key"])
    monkeypatch.setenv("AWS_REGION", options["region"])
    s3.store(name).put("made", b"")
    return name


def settings_in(folder: Path, bucket: str, more: str = "") -> Settings:
    folder.mkdir(exist_ok=True)
    (folder / "relit.toml").write_text(
        f'[volumes]\nstore = "s3://{bucket}/volumes"\n{more}[agents.clerk]\nkind = "command"\ncommand = ["true"]\n'
    )
    return load(folder / "relit.toml", data=folder / "data")


def fail(error: BaseException) -> None:
    raise error


@asynccontextmanager
async def machine(settings: Settings, tuning: Tuning = Tuning()) -> AsyncIterator[tuple[Engine, Kept]]:  # noqa: B008
    async with (
        chosen.engine(settings) as engine,
        kept(settings, engine.store, open_watcher("sweep"), fail, tuning) as volumes,
    ):
        yield engine, volumes


class Outbox:
    """What really went out."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def workflow(self) -> relit.Workflow[int]:
        @relit.workflow(name="letters", agent="clerk")
        async def letters(ctx: relit.Context) -> int:
            async def send(text: str, idempotency_key: str) -> str:
                self.sent.append(text)
                return "sent"

            async def call(text: str) -> str:
                self.sent.append(text)
                return "called"

            await ctx.effect(send, "first", doubt="key")
            await ctx.signal("go")
            await ctx.effect(call, "second")
            return len(self.sent)

        return letters


async def run_until(engine: Engine, run: str, states: set[str]) -> str:
    async with asyncio.timeout(20):
        while (found := await engine.store.run(run)).state not in states:
            await asyncio.sleep(0.02)
    return found.reason or ""


@asynccontextmanager
async def working(engine: Engine, outbox: Outbox) -> AsyncIterator[None]:
    worker = Worker(engine, [outbox.workflow()])
    await worker.start()
    try:
        yield
    finally:
        await worker.stop()


async def test_journal_volumes_homes_pins_and_payloads_come_back(tmp_path: Path, bucket: str) -> None:
    lost = settings_in(tmp_path / "lost", bucket)
    home = lost.data / "agents" / "clerk" / "home"
    home.mkdir(parents=True)
    lost.data.chmod(0o700)
    (home / "notes.md").write_text("one")
    async with machine(lost) as (_, volumes):
        first = (await volumes.local.snapshot("clerk", tag="known-good")).snapshot.number
        await volumes.local.pin("clerk", str(first))
        [shipping] = _shipping(lost, volumes, fail)
        assert await shipping.ship()
        assert not await shipping.ship()  # nothing happened since
        (home / "notes.md").write_text("two")
        await volumes.local.snapshot("clerk", wait="stored")  # the copy of the store does not know of it
    key = (lost.data / "key").read_text()
    shutil.rmtree(tmp_path / "lost" / "data")

    found = settings_in(tmp_path / "found", bucket)
    found.data.mkdir(mode=0o700)
    (found.data / "key").write_text(key)
    (found.data / "key").chmod(0o600)
    done = await recover(found)
    assert done.problems == []
    assert done.homes == {"clerk": 2}
    assert (found.data / "agents" / "clerk" / "home" / "notes.md").read_text() == "two"
    assert done.store_at is not None
    async with machine(found) as (_, volumes):
        log = (await volumes.local.log("clerk")).snapshots
        assert [each.number for each in log] == [3, 2, 1]
        assert log[2].pinned
        assert log[2].tags == ["known-good"]
        assert (await volumes.local.snapshot("clerk")).created is False
        assert (await volumes.local.verify()).damage == []
    assert not (found.data / "recovering").exists()


async def test_effects_after_the_copy_are_in_doubt_and_never_blindly_repeated(tmp_path: Path, bucket: str) -> None:
    lost, outbox = settings_in(tmp_path / "lost", bucket), Outbox()
    async with machine(lost) as (engine, volumes), working(engine, outbox):
        run = await engine.start(outbox.workflow())
        await run_until(engine, run, {"waiting"})
        [shipping] = _shipping(lost, volumes, fail)
        assert await shipping.ship()
        await volumes.uploader.flush()
        await engine.signal(run, "go", None)  # the copy does not know of it
        await run_until(engine, run, {"completed"})
    assert outbox.sent == ["first", "second"]
    key = lost.data / "key"

    found = settings_in(tmp_path / "found", bucket)
    found.data.mkdir(mode=0o700)
    shutil.copy(key, found.data / "key")
    os.chmod(found.data / "key", 0o600)
    done = await recover(found)
    assert done.runs == 1
    async with machine(found) as (engine, _), working(engine, outbox):
        assert (await engine.store.run(run)).state in ("waiting", "available", "running")
        await engine.signal(run, "go", None)
        assert await run_until(engine, run, {"parked"}) == "effect-in-doubt"
        [doubt] = await engine.store.effects(run=run, states=["in_doubt"])
        assert outbox.sent == ["first", "second"]  # neither of them again
        assert doubt.name.endswith("call")


async def test_a_store_that_is_there_is_never_replaced(tmp_path: Path, bucket: str) -> None:
    settings = settings_in(tmp_path / "one", bucket)
    async with machine(settings):
        pass
    with pytest.raises(Conflict, match="is there"):
        await recover(settings)


async def test_a_wrong_key_is_refused_and_not_kept(tmp_path: Path, bucket: str) -> None:
    lost = settings_in(tmp_path / "lost", bucket)
    async with machine(lost):
        pass
    right = Keys.load(lost.data / "key")
    found = settings_in(tmp_path / "found", bucket)
    with pytest.raises(WrongKey, match=f"sealed with key {right.id}"):
        await recover(found, Keys(bytes(32)))
    assert not (found.data / "key").exists()
    await recover(found, right)
    assert Keys.load(found.data / "key").id == right.id


async def test_a_key_that_is_there_is_not_replaced(tmp_path: Path, bucket: str) -> None:
    lost = settings_in(tmp_path / "lost", bucket)
    async with machine(lost):
        pass
    found = settings_in(tmp_path / "found", bucket)
    found.data.mkdir(mode=0o700)
    Keys.create(found.data / "key")
    with pytest.raises(Conflict, match="holds another key"):
        await recover(found, Keys.load(lost.data / "key"))


async def test_an_empty_prefix_and_a_wrong_key_are_told(tmp_path: Path, bucket: str) -> None:
    with pytest.raises(NotFound, match="no relit store"):
        await recover(settings_in(tmp_path / "empty", bucket))
    async with machine(settings_in(tmp_path / "one", bucket)):
        pass
    with pytest.raises(WrongKey):
        await recover(settings_in(tmp_path / "two", bucket))


class Later:
    """The machine's clocks, moved forward."""

    offset = 0

    def now_ms(self) -> int:
        return SYSTEM_CLOCK.now_ms() + self.offset

    def boot_ms(self) -> int:
        return SYSTEM_CLOCK.boot_ms() + self.offset

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic() + self.offset / 1000


async def test_the_lost_machine_that_was_not_lost_deletes_nothing_and_cannot_come_back(
    tmp_path: Path, bucket: str
) -> None:
    lost, found = settings_in(tmp_path / "lost", bucket), settings_in(tmp_path / "found", bucket)
    home, clock = lost.data / "agents" / "clerk" / "home", Later()
    home.mkdir(parents=True)
    lost.data.chmod(0o700)
    (home / "notes.md").write_text("one")
    async with machine(lost, Tuning(young_ms=0, later=clock)) as (_, volumes):
        await volumes.local.snapshot("clerk", wait="stored")
        await recover(found, Keys.load(lost.data / "key"))
        await volumes.homes.forget("clerk")
        assert (await volumes.care.pruner.prune()).condemned == 1
        clock.offset += 86_400_000  # the grace is over
        with pytest.raises(WrongStore, match="recovered elsewhere"):
            await volumes.care.pruner.prune()
    with pytest.raises(WrongStore, match="recovered elsewhere"):
        async with machine(lost):
            pass
    async with machine(found) as (_, volumes):
        assert (await volumes.local.verify()).damage == []
        assert await volumes.catalog.generation() == 2
