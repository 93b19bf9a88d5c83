"""Operations on volumes: their snapshots, the intervals of their trees, chunks and packs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from relit.errors import Conflict, NotFound, Overtaken, VolumeDamaged
from relit.manifest import KNOWN_GOOD, Commit, Delta, Entry, Pack, Place, Segment, Snapshot, Volume
from relit.store.sql import queue
from relit.store.sql.outside import one_by_one
from relit.store.sql.tx import Row, Tx

_encode = msgspec.msgpack.Encoder().encode
_snapshot = msgspec.msgpack.Decoder(Snapshot)
Chunk = tuple[bytes, Place]


def listed(ids: Iterable[bytes]) -> str:
    """Chunk ids as statements take them."""
    return json.dumps([id.hex() for id in ids])


def snapshot_of(row: Row) -> Snapshot:
    """From (body, stored_at, pinned, tags)."""
    body, stored_at, pinned, tags = row
    try:
        found = _snapshot.decode(body)
    except msgspec.MsgspecError as error:
        raise VolumeDamaged(
            "a snapshot's row cannot be read",
            why=str(error),
            fix="put relit.db back from a copy, or bring its volumes back into a new data folder: relit recover",
        ) from error
    return msgspec.structs.replace(
        found,
        stored_at_ms=stored_at,
        pinned=bool(pinned),
        tags=sorted(tags.split(" ")) if tags else [],
    )


def volume_of(row: Row) -> Volume:
    """From the columns of ``volumes``."""
    id, name, node, created_at, newest, origin = row
    return Volume(id=id, name=name, node=node, created_at_ms=created_at, newest=newest, origin=origin)


def no_volume(name: str) -> NotFound:
    """There is none of that name."""
    return NotFound(f"there is no volume {name!r}", fix="relit volume ls")


def no_snapshot(number: int, name: str) -> NotFound:
    """The volume has no such snapshot."""
    why = "it was never taken, or pruned"
    return NotFound(f"there is no snapshot {number} of {name}", why=why, fix=f"relit volume log {name}")


async def held(tx: Tx, volume: str) -> tuple[int, str]:
    """(number of the newest snapshot, name), kept as they are until the commit."""
    found = await tx.many("volume_hold", [(volume,)])
    if not found:
        raise no_volume(volume)
    return found[0][1], found[0][2]


async def tell(tx: Tx, name: str, agent: str, /, **data: Any) -> None:
    """Record an event of a volume; relit's own volumes, whose names begin with a dot, have none."""
    if agent.startswith("."):
        return
    await queue.add_events(tx, [queue.event(tx, name, agent, None, volume=agent, **data)])


@one_by_one
async def identify(tx: Tx, wanted: str) -> str:
    await tx.many("store_identity_add", [(wanted,)])
    return str((await tx.many("store_identity", [()]))[0][1])


@one_by_one
async def make(tx: Tx, volume: Volume) -> Volume:
    if await _add_volume(tx, volume):
        await tell(tx, "volume.made", volume.name, origin=volume.origin)
    return volume_of((await tx.many("volume_named", [(volume.name,)]))[0][1:])


async def _add_volume(tx: Tx, volume: Volume) -> bool:
    row = (volume.id, volume.name, volume.node, volume.created_at_ms, volume.newest, volume.origin)
    return bool(await tx.many("volume_add", [row]))


@one_by_one
async def remove(tx: Tx, volume: str) -> None:
    found = await tx.many("volume_named", [(volume,)])
    if not found:
        raise no_volume(volume)
    id = found[0][1]
    await held(tx, id)
    pinned = [snapshot_of(row[1:]) for row in await tx.many("snapshots_of", [(id, 0, 2**62, 2**31)])]
    if kept := [each.number for each in pinned if each.pinned]:
        raise Conflict(
            f"cannot remove volume {volume}",
            why=f"snapshot {kept[0]} is pinned",
            fix=f"relit volume pin {volume} {kept[0]} --off",
        )
    for name in ("entries_remove", "segments_remove", "tags_remove", "snapshots_remove", "volume_remove"):
        await tx.many(name, [(id,)])


# --- snapshots -----------------------------------------------------------------------------------------------------


@one_by_one
async def stage(tx: Tx, arg: tuple[str, int, Delta]) -> None:
    volume, number, delta = arg
    newest, _ = await held(tx, volume)
    if newest + 1 != number:
        raise _not_next(number, newest)
    await apply(tx, volume, number, delta)


@one_by_one
async def unstage(tx: Tx, arg: tuple[str, int]) -> None:
    volume, number = arg
    newest, _ = await held(tx, volume)
    if newest >= number:
        raise _not_next(number, newest)
    await _take_back(tx, volume, number)


async def _take_back(tx: Tx, volume: str, number: int) -> None:
    for name in ("entries_unstage", "entries_reopen", "segments_unstage", "segments_reopen"):
        await tx.many(name, [(volume, number)])


def _not_next(number: int, newest: int) -> Overtaken:
    return Overtaken(f"cannot take snapshot {number}", why=f"the newest is {newest} by now", fix="try again")


@one_by_one
async def commit(tx: Tx, wanted: Commit) -> Snapshot:
    snapshot = wanted.snapshot
    newest, name = await held(tx, snapshot.volume)
    if done := await tx.many("snapshot_by_id", [(snapshot.id,)]):
        return snapshot_of(done[0][1:])
    if newest + 1 != snapshot.number:
        raise _not_next(snapshot.number, newest)
    await _refuse_lost(tx, wanted)
    if not wanted.staged:  # what a crash left must not become part of it
        await _take_back(tx, snapshot.volume, snapshot.number)
    await add_chunks(tx, wanted.chunks, wanted.packs)
    await apply(tx, snapshot.volume, snapshot.number, wanted.delta)
    await _add_snapshot(tx, snapshot, wanted.at)
    await tx.many("volume_move", [(snapshot.volume, snapshot.number)])
    await tell(
        tx, "snapshot.taken", name, number=snapshot.number, reason=snapshot.reason, files=snapshot.files,
        fresh=snapshot.fresh, freeze_us=snapshot.freeze_us,
    )  # fmt: skip
    return snapshot


async def _add_snapshot(tx: Tx, snapshot: Snapshot, at: Place | None) -> None:
    plain = msgspec.structs.replace(snapshot, tags=[], pinned=False, stored_at_ms=None)
    await tx.many(
        "snapshot_add",
        [
            (
                snapshot.volume, snapshot.number, snapshot.id, snapshot.at_ms, snapshot.stored_at_ms,
                at.pack if at else None, _encode(plain),
            )
        ],
    )  # fmt: skip


async def _refuse_lost(tx: Tx, wanted: Commit) -> None:
    found = {row[1] for row in await tx.many("chunks_held", [(listed(wanted.reused),)])} if wanted.reused else set()
    lost = len(set(wanted.reused) - found)
    written = {pack.id for pack in wanted.packs}
    for id in wanted.into:
        state = [row[1] for row in await tx.many("pack_state", [(id,)])]
        lost += state == ["condemned"] or (not state and id not in written)
    if lost:
        raise Overtaken(
            f"snapshot {wanted.snapshot.number} was not taken",
            why="packs that it relied on were pruned meanwhile",
            fix="try again",
        )


async def add_chunks(tx: Tx, chunks: Sequence[Chunk], packs: Sequence[Pack]) -> None:
    """Packs and what is in them."""
    await put_packs(tx, packs)
    rows = sorted((id, place.pack, place.offset, place.length, place.raw) for id, place in chunks)
    await tx.many("chunk_add", rows)


async def put_packs(tx: Tx, packs: Sequence[Pack]) -> None:
    """Add packs, or say how large they are by now."""
    rows = [
        (each.id, each.node, each.state, each.size, each.created_at_ms, each.stored_at_ms, each.condemned_at_ms)
        for each in packs
    ]
    await tx.many("pack_put", sorted(rows))


async def apply(tx: Tx, volume: str, number: int, delta: Delta) -> None:
    """Close the intervals that end with ``number``, open those that begin."""
    if delta.full:
        await tx.many("entries_close_all", [(volume, number)])
        await tx.many("segments_close_all", [(volume, number)])
    else:
        paths = {*delta.gone, *(entry.path for entry in delta.entries)}
        await tx.many("entries_close", [(volume, path, number) for path in sorted(paths)])
        await tx.many("segments_cut", [(volume, path, no, number) for path, no in delta.cut])
        await tx.many("segments_close", [(volume, each.path, each.no, number) for each in delta.segments])
    await tx.many("entry_add", [(volume, each.path, number, None, _encode(each)) for each in delta.entries])
    await tx.many("segment_add", [(volume, each.path, each.no, number, None, each.ids) for each in delta.segments])


@one_by_one
async def fork(tx: Tx, arg: tuple[str, int, Volume, Snapshot]) -> Snapshot:
    source, number, new, first = arg
    _, name = await held(tx, source)
    found = await tx.many("snapshot_one", [(source, number)])
    if not found:
        raise no_snapshot(number, name)
    if done := await tx.many("snapshot_by_id", [(first.id,)]):
        return snapshot_of(done[0][1:])
    if await tx.many("volume_named", [(new.name,)]):
        raise Conflict(
            f"cannot fork to {new.name!r}",
            why="there are snapshots of that name: relit up makes a home of each agent of relit.toml",
            fix=f"choose another name; or, when nothing of it is to be kept, relit volume rm {new.name} and fork again",
        )
    was = snapshot_of(found[0][1:])
    first = msgspec.structs.replace(first, files=was.files, bytes=was.bytes, quiescent=was.quiescent)
    await _add_volume(tx, msgspec.structs.replace(new, newest=1))
    await tx.many("entries_fork", [(source, number, new.id)])
    await tx.many("segments_fork", [(source, number, new.id)])
    await _add_snapshot(tx, first, None)
    await tell(tx, "volume.made", new.name, origin=new.origin)
    return first


@one_by_one
async def tag(tx: Tx, arg: tuple[str, int, str]) -> None:
    volume, number, word = arg
    _, name = await held(tx, volume)
    if not await tx.many("snapshot_one", [(volume, number)]):
        raise no_snapshot(number, name)
    if word != KNOWN_GOOD:
        await tx.many("tag_move", [(volume, word, number)])
    await tx.many("tag_add", [(volume, word, number)])
    await tell(tx, "snapshot.tagged", name, number=number, what=f"tagged {word}")


@one_by_one
async def untag(tx: Tx, arg: tuple[str, str, int | None]) -> None:
    volume, word, number = arg
    _, name = await held(tx, volume)
    await tx.many("tag_remove", [(volume, word, number or 0)])
    await tell(tx, "snapshot.tagged", name, number=number or 0, what=f"lost {word}")


@one_by_one
async def pin(tx: Tx, arg: tuple[str, int, bool]) -> None:
    volume, number, pinned = arg
    _, name = await held(tx, volume)
    if not await tx.many("snapshot_pin", [(volume, number, int(pinned))]):
        raise no_snapshot(number, name)
    await tell(tx, "snapshot.tagged", name, number=number, what="pinned" if pinned else "unpinned")


@one_by_one
async def described(tx: Tx, arg: tuple[str, int, Place, Sequence[Pack]]) -> None:
    volume, number, at, packs = arg
    await put_packs(tx, packs)
    await tx.many("snapshot_described", [(volume, number, at.pack)])


@one_by_one
async def stored(tx: Tx, pack: str) -> list[Snapshot]:
    found = await tx.many("pack_stored", [(pack, tx.now)])
    if not found:
        return []
    names = {row[1]: row[2] for row in await tx.many("volumes_all", [()])}
    done: list[Row] = []
    for _, volume, number in sorted(await tx.many("snapshots_now_stored", [(found[0][2], tx.now)])):
        await tell(tx, "snapshot.stored", names[volume], number=number)
        done += await tx.many("snapshot_one", [(volume, number)])
    return [snapshot_of(row[1:]) for row in done]


# --- prune ---------------------------------------------------------------------------------------------------------


@one_by_one
async def drop(tx: Tx, arg: tuple[str, Collection[int]]) -> list[int]:
    volume, numbers = arg
    newest, _ = await held(tx, volume)
    found = [await tx.many("snapshot_one", [(volume, number)]) for number in sorted(numbers)]
    going = [
        each.number for rows in found for each in [snapshot_of(row[1:]) for row in rows] if not _stays(each, newest)
    ]
    rows = [(volume, number) for number in going]
    await tx.many("snapshot_drop", rows)
    gaps = sorted({(volume, before, after) for _, before, after in await tx.many("snapshots_beside", rows) if after})
    await tx.many("entries_prune", gaps)
    await tx.many("segments_prune", gaps)
    return going


def _stays(snapshot: Snapshot, newest: int) -> bool:
    """Whether it is kept whatever its age. It may have been named or pinned since somebody decided to drop it."""
    return snapshot.number == newest or snapshot.pinned or bool(snapshot.tags)


@one_by_one
async def bury(tx: Tx, pack: str) -> bool:
    if [row[1] for row in await tx.many("pack_state", [(pack,)])] != ["condemned"]:
        return False
    await tx.many("chunks_forget", [(pack,)])
    await tx.many("pack_forget", [(pack,)])
    return True


@one_by_one
async def condemn(tx: Tx, arg: tuple[Collection[str], int]) -> None:
    await tx.many("pack_condemn", [(pack, arg[1]) for pack in sorted(arg[0])])


@one_by_one
async def reprieve(tx: Tx, packs: Collection[str]) -> None:
    await tx.many("pack_reprieve", [(pack,) for pack in sorted(packs)])


@one_by_one
async def write_packs(tx: Tx, packs: Sequence[Pack]) -> None:
    await put_packs(tx, packs)


@one_by_one
async def load_chunks(tx: Tx, arg: tuple[Sequence[Chunk], Sequence[Pack]]) -> None:
    await add_chunks(tx, *arg)


# --- rebuilding ----------------------------------------------------------------------------------------------------

Loaded = tuple[
    Volume,
    Sequence[tuple[Snapshot, Place | None]],
    Sequence[tuple[int, int | None, Entry]],
    Sequence[tuple[int, int | None, Segment]],
]
Replaced = tuple[str, int, Sequence[tuple[int, int | None, Entry]], Sequence[tuple[int, int | None, Segment]]]


@one_by_one
async def load(tx: Tx, arg: Loaded) -> None:
    volume, snapshots, entries, segments = arg
    if await tx.many("volume_named", [(volume.name,)]):
        raise Conflict(f"volume {volume.name} was not rebuilt", why="there is one of that name", fix="relit volume ls")
    await _add_volume(tx, volume)
    for snapshot, at in snapshots:
        await _add_snapshot(tx, snapshot, at)
        await tx.many("tag_add", [(volume.id, word, snapshot.number) for word in snapshot.tags])
        if snapshot.pinned:
            await tx.many("snapshot_pin", [(volume.id, snapshot.number, 1)])
    await _add_spans(tx, volume.id, entries, segments)
    await tell(tx, "volume.made", volume.name, origin=volume.origin)


@one_by_one
async def replace_trees(tx: Tx, arg: Replaced) -> None:
    volume, number, entries, segments = arg
    newest, name = await held(tx, volume)
    if newest != number:
        raise Overtaken(
            f"the manifest of {name} was not put right", why=f"the newest snapshot is {newest} by now", fix="try again"
        )
    await tx.many("entries_remove", [(volume,)])
    await tx.many("segments_remove", [(volume,)])
    await _add_spans(tx, volume, entries, segments)
    await tell(tx, "volume.mended", name)


async def _add_spans(
    tx: Tx,
    volume: str,
    entries: Sequence[tuple[int, int | None, Entry]],
    segments: Sequence[tuple[int, int | None, Segment]],
) -> None:
    await tx.many("entry_add", [(volume, each.path, since, until, _encode(each)) for since, until, each in entries])
    await tx.many(
        "segment_add", [(volume, each.path, each.no, since, until, each.ids) for since, until, each in segments]
    )


@one_by_one
async def replace_chunks(tx: Tx, arg: tuple[str, Sequence[Chunk]]) -> None:
    pack, chunks = arg
    if not await tx.many("pack_state", [(pack,)]):
        return
    await tx.many("chunks_forget", [(pack,)])
    await add_chunks(tx, chunks, [])


@one_by_one
async def clear(tx: Tx, wanted: tuple[str, int]) -> None:
    for name in (
        "entries_clear",
        "segments_clear",
        "tags_clear",
        "snapshots_clear",
        "volumes_clear",
        "chunks_clear",
        "packs_clear",
    ):
        await tx.many(name, [()])
    identity, generation = wanted
    await tx.many("store_identity_set", [(identity,)])
    await tx.many("store_generation_set", [(str(generation),)])
