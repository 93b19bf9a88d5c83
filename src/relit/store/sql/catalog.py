"""The manifest of volumes over a ``Database``: every method as ``relit.volumes.base.Catalog`` says."""

# An operation's result type is known only to its caller here: mypy sees Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from typing import Any

from relit.errors import VolumeDamaged
from relit.lib.ids import new_id
from relit.manifest import (
    ID_BYTES,
    Change,
    Commit,
    Delta,
    Entry,
    ManifestRow,
    Pack,
    Place,
    Position,
    Referrer,
    Segment,
    Snapshot,
    Volume,
    VolumeStats,
)
from relit.store.sql import volumes
from relit.store.sql.changes import changed, entry_of
from relit.store.sql.tx import Database, Op, Operation, Row
from relit.store.sql.volumes import listed, no_snapshot, no_volume, snapshot_of, volume_of

_PAGE = 20_000  # rows read together
_ROWS = 2_000  # of which each may name as many chunks as a segment holds
_FEW = 64  # chunk ids that are looked up at once
_IDS = 2_000  # chunk ids in one statement
_LAST = 2**62


class SqlCatalog:
    """Shares the database, its connections and its group commit with the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def _write(self, operation: Operation, arg: Any) -> Any:
        return await self._database.write(Op(operation, arg))

    async def _read(self, name: str, *row: Any, few: bool = False) -> list[Row]:
        return (await self._database.read((name, row), few=few))[0]

    async def identity(self) -> str:
        found = await self._read("store_identity")
        return found[0][0] if found else await self._write(volumes.identify, new_id())

    async def generation(self) -> int:
        found = await self._read("store_generation")
        return int(found[0][0]) if found else 1

    # --- volumes -----------------------------------------------------------------------------------------------

    async def make_volume(self, volume: Volume) -> Volume:
        found = await self._read("volume_named", volume.name, few=True)
        return volume_of(found[0]) if found else await self._write(volumes.make, volume)

    async def volume(self, name: str) -> Volume:
        found = await self._read("volume_named", name, few=True)
        if not found:
            raise no_volume(name)
        return volume_of(found[0])

    async def volumes(self) -> list[Volume]:
        return [volume_of(row) for row in await self._read("volumes_all")]

    async def remove_volume(self, name: str) -> None:
        await self._write(volumes.remove, name)

    # --- snapshots ---------------------------------------------------------------------------------------------

    async def stage(self, volume: str, number: int, delta: Delta) -> None:
        await self._write(volumes.stage, (volume, number, delta))

    async def unstage(self, volume: str, number: int) -> None:
        await self._write(volumes.unstage, (volume, number))

    async def commit(self, commit: Commit) -> Snapshot:
        return await self._write(volumes.commit, commit)

    async def fork(self, volume: str, number: int, new: Volume, snapshot: Snapshot) -> Snapshot:
        return await self._write(volumes.fork, (volume, number, new, snapshot))

    async def snapshots(
        self, volume: str, *, since_ms: int = 0, before: int | None = None, limit: int = 100
    ) -> list[Snapshot]:
        rows = await self._read("snapshots_of", volume, since_ms, _LAST if before is None else before, limit)
        return [snapshot_of(row) for row in rows]

    async def snapshot(self, volume: str, number: int) -> Snapshot:
        found = await self._read("snapshot_one", volume, number, few=True)
        if not found:
            raise no_snapshot(number, next((each.name for each in await self.volumes() if each.id == volume), "AGENT"))
        return snapshot_of(found[0])

    async def snapshot_at(self, volume: str, at_ms: int) -> Snapshot | None:
        return _first(await self._read("snapshot_at", volume, at_ms))

    async def tagged(self, volume: str, tag: str) -> Snapshot | None:
        return _first(await self._read("snapshot_tagged", volume, tag))

    async def tag(self, volume: str, number: int, tag: str) -> None:
        await self._write(volumes.tag, (volume, number, tag))

    async def untag(self, volume: str, tag: str, number: int | None = None) -> None:
        await self._write(volumes.untag, (volume, tag, number))

    async def pin(self, volume: str, number: int, pinned: bool) -> None:
        await self._write(volumes.pin, (volume, number, pinned))

    async def unstored(self, node: str) -> list[Snapshot]:
        return [snapshot_of(row) for row in await self._read("snapshots_unstored", node)]

    async def undescribed(self, node: str) -> list[Snapshot]:
        return [snapshot_of(row) for row in await self._read("snapshots_undescribed", node)]

    async def described_in(self, volume: str) -> dict[int, str]:
        return {row[0]: row[1] for row in await self._read("snapshots_described", volume)}

    async def described(self, volume: str, number: int, at: Place, packs: Sequence[Pack]) -> None:
        await self._write(volumes.described, (volume, number, at, packs))

    # --- trees -------------------------------------------------------------------------------------------------

    async def tree(
        self, volume: str, number: int, *, under: bytes = b"", after: bytes | None = None, limit: int = 2**31
    ) -> list[Entry]:
        if under:
            return await self._below(volume, number, under, after, limit)
        start = b"" if after is None else after + b"\0"
        return list(_entries(await self._read("tree_of", volume, number, start, limit)))

    async def _below(self, volume: str, number: int, under: bytes, after: bytes | None, limit: int) -> list[Entry]:
        top = await self.entry(volume, number, under) if after is None or after < under else None
        start = under + b"/" if after is None else max(under + b"/", after + b"\0")
        rows = await self._read("tree_below", volume, number, start, under + b"0", limit)  # "0" comes next to "/"
        return [*([top] if top else []), *_entries(rows)][:limit]

    async def entry(self, volume: str, number: int, path: bytes) -> Entry | None:
        return next(_entries(await self._read("entry_of", volume, number, path)), None)

    async def segments(self, volume: str, number: int, paths: Sequence[bytes]) -> list[Segment]:
        found = [await self._read("segments_of", volume, number, some) for some in _asked(sorted(set(paths)))]
        return [Segment(*row) for rows in found for row in rows]

    async def all_segments(self, volume: str, number: int) -> list[Segment]:
        return [Segment(*row) for row in await self._read("segments_all", volume, number)]

    async def changes(self, volume: str, a: int, b: int, *, under: bytes = b"") -> list[Change]:
        low, high = sorted((a, b))
        entries, segments = await self._database.read(
            ("entries_between", (volume, low, high)), ("segments_between", (volume, low, high))
        )
        found = changed(entries, segments, low, high)
        lone = [path for path, change in found.items() if change is None]
        for path in lone:  # its segments alone differ
            one = await self.entry(volume, low, path)
            found[path] = Change(path=path, before=one, after=one)
        inside = [found[path] for path in sorted(found) if not under or path == under or path.startswith(under + b"/")]
        kept = [change for change in inside if change is not None]
        return kept if a <= b else [Change(path=each.path, before=each.after, after=each.before) for each in kept]

    async def history(self, volume: str, path: bytes) -> list[tuple[int, int | None, Entry]]:
        rows = await self._read("history_of", volume, path)
        return [(since, until, entry_of(body)) for since, until, body in rows]

    # --- chunks and packs --------------------------------------------------------------------------------------

    async def known(self, ids: Sequence[bytes], node: str) -> set[bytes]:
        found = [await self._read("chunks_known", some, node, few=len(ids) < _FEW) for some in _asked(ids)]
        return {row[0] for rows in found for row in rows}

    async def places(self, ids: Sequence[bytes], node: str = "") -> dict[bytes, Place]:
        places: dict[bytes, Place] = {}
        for some in _asked(ids):
            for id, *place in await self._read("chunks_at", some, node):
                places.setdefault(id, Place(*place))
        return places

    async def packs(self, states: Sequence[str] = (), node: str | None = None) -> list[Pack]:
        packs = [
            Pack(
                id=row[0], node=row[1], state=row[2], size=row[3], created_at_ms=row[4], stored_at_ms=row[5],
                condemned_at_ms=row[6],
            )
            for row in await self._read("packs_all")
        ]  # fmt: skip
        return [each for each in packs if (not states or each.state in states) and node in (None, each.node)]

    async def put_packs(self, packs: Sequence[Pack]) -> None:
        await self._write(volumes.write_packs, packs)

    async def stored(self, pack: str) -> list[Snapshot]:
        return await self._write(volumes.stored, pack)

    # --- prune -------------------------------------------------------------------------------------------------

    async def drop_snapshots(self, volume: str, numbers: Sequence[int]) -> list[int]:
        return await self._write(volumes.drop, (volume, numbers))

    async def references(self, prefix: bytes = b"") -> AsyncIterator[bytes]:
        async for _, row in self._rows(""):
            for id in _split(_ids_of(row)):
                if id.startswith(prefix):
                    yield id

    async def _rows(self, volume: str) -> AsyncIterator[tuple[str, ManifestRow]]:
        """(volume, row) of one volume or of all."""
        async for page in self._pages(volume, _PAGE):
            for each in page:
                yield each

    async def _pages(self, volume: str, size: int) -> AsyncIterator[list[tuple[str, ManifestRow]]]:
        at: Row = (volume, b"", -1)
        while rows := await self._read("entries_page", *at, size):
            yield [(id, ManifestRow(path, -1, *rest)) for id, path, *rest in rows if volume in ("", id)]
            at = (*rows[-1][:3],)
            if volume and at[0] != volume:
                break
        at = (volume, b"", -1, -1)
        while rows := await self._read("segments_page", *at, size):
            yield [(id, ManifestRow(*row)) for id, *row in rows if volume in ("", id)]
            at = (*rows[-1][:4],)
            if volume and at[0] != volume:
                break

    async def chunks_of(self, pack: str) -> list[tuple[bytes, Place]]:
        return [(row[0], Place(*row[1:])) for row in await self._read("chunks_of_pack", pack)]

    async def condemn(self, packs: Sequence[str], at_ms: int) -> None:
        await self._write(volumes.condemn, (packs, at_ms))

    async def reprieve(self, packs: Sequence[str]) -> None:
        await self._write(volumes.reprieve, packs)

    async def bury(self, pack: str) -> bool:
        return await self._write(volumes.bury, pack)

    async def referrers(self, ids: Collection[bytes]) -> list[Referrer]:
        wanted, known = frozenset(ids), {each.id: each for each in await self.volumes()}
        found = set()
        async for id, row in self._rows(""):
            volume = known.get(id)
            if volume and row.since <= volume.newest and not wanted.isdisjoint(_split(_readable(row))):
                end = row.until if row.until is not None and row.until <= volume.newest else None  # staged: not yet
                found.add((volume.name, row.path, row.since, end))
        ordered = sorted(found, key=lambda row: (*row[:3], row[3] or _LAST))
        return [Referrer(volume=name, path=path, since=since, until=end) for name, path, since, end in ordered]

    async def rows(self, volume: str) -> AsyncIterator[list[ManifestRow]]:
        async for page in self._pages(volume, _ROWS):
            yield [row for _, row in page]

    async def stats(self, volume: str = "") -> VolumeStats:
        chosen = [each for each in await self.volumes() if volume in ("", each.id)]
        files = size = rows = 0
        for each in chosen:
            if each.newest:
                newest = await self.snapshot(each.id, each.newest)
                files, size = files + newest.files, size + newest.bytes
        ids: set[bytes] = set()
        async for _, row in self._rows(volume):
            rows += 1
            ids.update(_split(_ids_of(row)))
        places = await self.places(sorted(ids))
        return VolumeStats(
            volume=volume,
            snapshots=(await self._read("snapshot_count", volume))[0][0],
            files=files,
            bytes=size,
            entries=rows,
            chunks=len(ids),
            packed=sum(place.length for place in places.values()),
        )

    # --- the journal, rebuilding -------------------------------------------------------------------------------

    async def position(self, agent: str) -> Position:
        event, runs = await self._database.read(("event_last", ()), ("position_of", (agent,)), few=True)
        return Position(event=str(event[0][0]), runs=dict(runs))

    async def load(
        self,
        volume: Volume,
        snapshots: Sequence[tuple[Snapshot, Place | None]],
        entries: Sequence[tuple[int, int | None, Entry]],
        segments: Sequence[tuple[int, int | None, Segment]],
    ) -> None:
        await self._write(volumes.load, (volume, snapshots, entries, segments))

    async def replace_trees(
        self,
        volume: str,
        newest: int,
        entries: Sequence[tuple[int, int | None, Entry]],
        segments: Sequence[tuple[int, int | None, Segment]],
    ) -> None:
        await self._write(volumes.replace_trees, (volume, newest, entries, segments))

    async def replace_chunks(self, pack: str, chunks: Sequence[tuple[bytes, Place]]) -> None:
        await self._write(volumes.replace_chunks, (pack, chunks))

    async def clear(self, identity: str, generation: int) -> None:
        await self._write(volumes.clear, (identity, generation))

    async def load_chunks(self, chunks: Sequence[tuple[bytes, Place]], packs: Sequence[Pack]) -> None:
        await self._write(volumes.load_chunks, (chunks, packs))


def _first(rows: Sequence[Row]) -> Snapshot | None:
    return snapshot_of(rows[0]) if rows else None


def _entries(rows: Sequence[Row]) -> Iterator[Entry]:
    return (entry_of(row[0]) for row in rows)


def _ids_of(row: ManifestRow) -> bytes:
    return row.body if row.no >= 0 else entry_of(row.body).parts


def _readable(row: ManifestRow) -> bytes:
    """The chunk ids of a row; none, when it is damaged."""
    try:
        return _ids_of(row)
    except VolumeDamaged:
        return b""


def _split(ids: bytes) -> list[bytes]:
    return [ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)]


def _asked(ids: Sequence[bytes]) -> Iterator[str]:
    for at in range(0, len(ids), _IDS):
        yield listed(ids[at : at + _IDS])
