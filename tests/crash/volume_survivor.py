"""What must hold of a data folder after its process was killed, and whatever it had been doing."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
from volume_victim import AGENT, FORK, HOUR, YEAR, Later, Told, difference, rebuilt, volumes

from relit.app.volumes import Kept
from relit.manifest import Entry, Snapshot, Volume
from relit.store.sql.sqlite.store import SqliteStore

ALL = 2**31


class Expected:
    """What the victim was told, and what it was about to be told."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.homes: dict[str, set[str]] = {}
        self.took: dict[tuple[str, int], str] = {}
        self.asked: dict[str, set[str]] = defaultdict(set)
        self.dropping: set[tuple[str, int]] = set()
        self.stored: set[tuple[str, int]] = set()
        self.offset = 0
        for line in told.lines():
            self._read(line)

    def _read(self, line: dict[str, Any]) -> None:
        match line:
            case {"home": agent, "shape": now}:
                self.homes[agent] = {now}
            case {"going": agent, "was": was, "then": then}:
                self.homes[agent] = {was, then}
                self.asked[agent] |= {was, then}
            case {"taking": agent, "shape": now}:
                self.asked[agent].add(now)
            case {"took": agent, "number": number, "shape": now}:
                self.took[agent, number] = now
            case {"dropping": agent, "number": number}:
                self.dropping.add((agent, number))
            case {"stored": volume, "number": number}:
                self.stored.add((volume, number))
            case {"later": offset}:
                self.offset = offset

    def same(self, found: str, wanted: set[str], what: str) -> None:
        """``found`` is one of ``wanted``; else the difference to the nearest is told."""
        if found in wanted:
            return
        told = [difference(self._shape(found), self._shape(each)) for each in wanted]
        nearest = min(told, key=len, default={})
        raise AssertionError(f"{what}: {len(nearest)} paths differ: {dict(list(nearest.items())[:5])}")

    def _shape(self, name: str) -> Any:
        return self.told.shape(name) if name else {}


class Survivor:
    """A folder whose process was killed. Not ``thorough``: the catalog is rebuilt once only, not at each stage."""

    def __init__(self, folder: Path, *, thorough: bool = True) -> None:
        self.folder = folder
        self.thorough = thorough
        self.told = Told(folder)
        self.expected = Expected(self.told)
        self.later = Later(self.expected.offset)

    def home(self, agent: str) -> Path:
        return self.folder / "data" / "agents" / agent / "home"

    async def check(self) -> None:
        """Start again and look at everything; then go on working, and look again."""
        async with volumes(self.folder, self.later) as made:
            self.nothing_is_held()
            self.homes_are_whole()
            await self.snapshots_are_whole(made)
            await self.packs_are_known(made)
            if self.thorough:
                await self.stored_ones_can_be_rebuilt(made, "once.db")
        self.nothing_is_left_over()
        async with volumes(self.folder, self.later) as made:
            self.the_spool_is_empty_of_orphans()
            await self.goes_on(made)

    # --- homes -------------------------------------------------------------------------------------------------

    def nothing_is_held(self) -> None:
        assert [*self.folder.glob("data/agents/*/run/hold*")] == []

    def homes_are_whole(self) -> None:
        """An interrupted restore was finished or undone; any other home is untouched."""
        for agent, wanted in self.expected.homes.items():
            self.expected.same(self.told.seen(self.home(agent)), wanted, f"the home of {agent}")

    def nothing_is_left_over(self) -> None:
        """No draft, no half restore."""
        left = [path for path in _outside_of_homes(self.folder / "data") if _is_draft(path)]
        assert left == []

    def the_spool_is_empty_of_orphans(self) -> None:
        assert [*(self.folder / "data" / "spool" / "packs").glob("*.orphan")] == []

    # --- snapshots ---------------------------------------------------------------------------------------------

    async def snapshots_are_whole(self, made: Kept) -> None:
        """Whatever was answered is there and restores bit for bit; so does what was committed without an answer."""
        found = await _snapshots(made)
        missing = self.expected.took.keys() - found.keys() - self.expected.dropping
        assert not missing
        names = {volume.id: volume.name for volume, _ in found.values()}
        stored = {(names[id], number) for id, number in self.expected.stored if id in names} - self.expected.dropping
        assert all(found[each][1].stored_at_ms is not None for each in stored)
        for (agent, number), (volume, _) in found.items():
            known = self.expected.took.get((agent, number))
            wanted = {known} if known else self.expected.asked[agent]
            await self._lays(made, volume, number, wanted)

    async def _lays(self, made: Kept, volume: Volume, number: int, wanted: set[str]) -> None:
        target = self.folder / "laid"
        await made.homes.lay_at(volume, number, target)
        self.expected.same(self.told.seen(target), wanted, f"{volume.name}@{number}")
        shutil.rmtree(target)

    def nothing_is_staged(self) -> None:
        """No row belongs to a snapshot that never was."""
        database = apsw.Connection(str(self.folder / "data" / "relit.db"), flags=apsw.SQLITE_OPEN_READONLY)
        for table in ("entries", "segments"):
            rows = database.execute(
                f"SELECT count(*) FROM {table} e JOIN volumes v ON v.id = e.volume "
                "WHERE e.since > v.newest OR e.until > v.newest"
            )
            assert [*rows] == [(0,)], table
        database.close()

    # --- packs -------------------------------------------------------------------------------------------------

    async def packs_are_known(self, made: Kept) -> None:
        """The catalog names every object, and every chunk that a row needs can be read."""
        known = {pack.id for pack in await made.catalog.packs()}
        there = {info.key.rpartition("/")[2] async for info in made.objects.list("packs/")}
        assert there <= known
        needed = {id async for id in made.catalog.references()}
        read = {id async for id, _ in made.chunks.stream(sorted(needed))}
        assert read == needed

    async def stored_ones_can_be_rebuilt(self, made: Kept, name: str, *, pruned: bool = False) -> None:
        """The packs alone give every stored snapshot as the catalog has it, and none that never was."""
        pruned = pruned or bool(self.expected.dropping)
        store = SqliteStore(self.folder / name)
        await store.start()
        done = await rebuilt(made, store)
        assert pruned or done.problems == []  # of what was dropped a record may be left, without its chunks
        again = {each.name: each for each in await store.catalog.volumes()}
        found = await _snapshots(made)
        told = {(each.name, n.number) for each in again.values() for n in await store.catalog.snapshots(each.id)}
        assert pruned or told <= found.keys()
        for (agent, number), (volume, snapshot) in found.items():
            if snapshot.stored_at_ms is None:
                continue
            back = again[agent]
            assert _plain(await store.catalog.tree(back.id, number)) == _plain(
                await made.catalog.tree(volume.id, number)
            )
            assert await store.catalog.all_segments(back.id, number) == await made.catalog.all_segments(
                volume.id, number
            )
        await store.stop()

    # --- and on ------------------------------------------------------------------------------------------------

    async def goes_on(self, made: Kept) -> None:
        """A snapshot, a fork if it is there, a prune, its second phase; then all is as sound as before."""
        if made.homes.has(AGENT):
            (self.home(AGENT) / "after the crash").write_text("still here")
            await self._takes(made)
        await made.care.caretaker.describe()
        await made.uploader.flush()
        assert [*(self.folder / "data" / "spool" / "packs").iterdir()] == []
        self.nothing_is_staged()
        await self.stored_ones_can_be_rebuilt(made, "twice.db")
        self.later.offset += YEAR
        await made.care.pruner.prune()
        while any(pack.state == "condemned" for pack in await made.catalog.packs()):
            self.later.offset += 2 * HOUR
            await made.care.pruner.prune()
        await self.packs_are_known(made)
        if self.thorough:
            await self.stored_ones_can_be_rebuilt(made, "thrice.db", pruned=True)
        checked = await made.care.verifier.verify()
        assert checked.damage == []

    async def _takes(self, made: Kept) -> None:
        now = self.told.seen(self.home(AGENT))
        taken, _ = await made.homes.snapshot(AGENT, "request")
        await self._lays(made, await made.catalog.volume(AGENT), taken.number, {now})


def _plain(entries: list[Entry]) -> list[Entry]:
    """Without what means something on the same machine only, and is not written anew when nothing else changed."""
    return [msgspec.structs.replace(each, ino=0, ctime_ns=0) for each in entries]


async def _snapshots(made: Kept) -> dict[tuple[str, int], tuple[Volume, Snapshot]]:
    return {
        (volume.name, each.number): (volume, each)
        for volume in await made.catalog.volumes()
        if volume.name in (AGENT, FORK)
        for each in await made.catalog.snapshots(volume.id, limit=ALL)
    }


def _outside_of_homes(data: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(data):
        if "home" in folders and Path(where).parent.name == "agents":
            folders.remove("home")
        if "rejected" in folders:
            yield from (data / where / "rejected").glob("*.new")
            folders.remove("rejected")
        yield from (Path(where) / name for name in (*folders, *files))


def _is_draft(path: Path) -> bool:
    return path.name != ".home.laid" and (path.name.startswith((".", "verify-")) or path.suffix in (".new", ".open"))
