"""What goes wrong with one home is that home's trouble: it is told, and the others go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

import msgspec
import pytest
from kit import AGENT, Kit, running

from relit.errors import VolumeError
from relit.events import Event
from relit.manifest import Skipped
from relit.volumes.base import Changes, Watch, Watcher
from relit.volumes.ignore import BYTES
from relit.volumes.mount import Mount
from relit.volumes.watch.opening import open_watcher

BOB = "bob"


class Breaking:
    """A watch that has a fault while ``broken`` says so."""

    def __init__(self, inner: Watch, broken: Callable[[], bool]) -> None:
        self._inner = inner
        self._broken = broken
        self.exact = inner.exact

    def drain(self) -> Changes:
        if self._broken():
            raise ZeroDivisionError("nobody foresaw this")
        return self._inner.drain()

    def mapped(self, recent_s: float, pids: Collection[int] | None = None) -> frozenset[bytes]:
        return self._inner.mapped(recent_s, pids)

    def mapped_inodes(self) -> frozenset[int]:
        return self._inner.mapped_inodes()

    def close(self) -> None:
        self._inner.close()


class BreakingWatcher:
    """Watches homes; ``broken`` names the agents whose watch has a fault."""

    def __init__(self, inner: Watcher) -> None:
        self._inner = inner
        self.broken: set[str] = set()

    def watch(self, home: Path, skip: Sequence[bytes] = ()) -> Watch:
        return Breaking(self._inner.watch(home, skip), lambda: home.parent.name in self.broken)

    def close(self) -> None:
        self._inner.close()


class OftenKit(Kit):
    """Snapshots come by themselves, and often."""

    def mount(self, agent: str) -> Mount:
        return msgspec.structs.replace(super().mount(agent), every_ms=10)


async def until(reached: Callable[[], Awaitable[object]]) -> None:
    """Wait for it; the test's own time limit ends what never comes."""
    while not await reached():
        await asyncio.sleep(0.01)


async def failures(kit: Kit) -> list[Event]:
    return await kit.store.events(names=["snapshot.failed"])


async def test_a_fault_that_nobody_foresaw_stops_the_snapshots_of_one_home_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = BreakingWatcher(open_watcher("sweep"))
    kit = OftenKit(tmp_path, watcher=watcher)
    for agent in (AGENT, BOB):
        kit.home(agent).mkdir(parents=True)
    watcher.broken.add(AGENT)
    async with running(kit):
        await kit.homes.start()
        await until(lambda: failures(kit))
        (kit.home(BOB) / "note").write_text("1")

        async def bob_has_it() -> bool:
            newest = {each.name: each.newest for each in await kit.catalog.volumes()}.get(BOB)
            return newest is not None and b"note" in await kit.tree(newest, BOB)

        await until(bob_has_it)
        event = (await failures(kit))[0]
        assert (event.agent, event.data["why"]) == (AGENT, "a fault in relit: ZeroDivisionError: nobody foresaw this")
        assert kit.homes.trouble == {AGENT: "no snapshot of ada was taken"}
        record = next(each for each in caplog.records if each.levelno == logging.ERROR)
        assert record.exc_info is not None
        assert record.exc_info[0] is ZeroDivisionError
        with pytest.raises(VolumeError, match="nobody foresaw this") as refused:
            await kit.take()
        assert isinstance(refused.value.__cause__, ZeroDivisionError)
        watcher.broken.clear()
        assert (await kit.take()).number == 1
        assert kit.homes.trouble == {}


async def test_a_bad_line_of_relitignore_is_told_and_the_others_count(watched: Kit) -> None:
    for name in ("a.log", "b.tmp", "c"):
        (watched.home() / name).write_text("1")
    (watched.home() / ".relitignore").write_text("*.log\n[z-a]\n*.tmp\n")
    taken = await watched.take()
    assert set(await watched.tree(1)) == {b"", b".relitignore", b"c"}
    assert taken.skipped == [
        Skipped(b".relitignore", "line 2 counts for nothing: [z-a]: z-a is no range: it runs backwards")
    ]
    (watched.home() / ".relitignore").write_text("*.log\n")
    assert (await watched.take()).skipped == []
    assert set(await watched.tree(2)) == {b"", b".relitignore", b"b.tmp", b"c"}


async def test_a_relitignore_that_is_too_long_is_told(volumes: Kit) -> None:
    (volumes.home() / ".relitignore").write_bytes(b"*.log\n" + b"#" * BYTES + b"\n*\n")
    for name in ("a.log", "b"):
        (volumes.home() / name).write_text("1")
    taken = await volumes.take()
    assert taken.skipped == [Skipped(b".relitignore", "only its first 64 KiB count")]
    assert set(await volumes.tree(1)) == {b"", b".relitignore", b"b"}
