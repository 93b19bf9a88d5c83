"""What is still needed of each pack: chunks that a snapshot refers to, and nothing else holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from relit.errors import VolumeDamaged
from relit.lib.names import shown
from relit.manifest import Pack, Referrer
from relit.volumes.base import Catalog

_AT_ONCE = 200_000  # chunk ids in memory together
_LOOKS = 3
_NAMED = 5  # files that an error names


class Need(msgspec.Struct):
    """Of one pack: the ids that would be lost with it, and their bytes."""

    ids: set[bytes]
    bytes: int = 0


async def needed(catalog: Catalog, packs: Sequence[Pack]) -> dict[str, Need]:
    """By pack. ``packs``: the stored and the condemned ones. VolumeDamaged when a chunk is in no pack at all.

    A chunk with several copies counts for one of them only: in a pack that stays rather than in a condemned one, and
    in the larger rather than in the smaller. Goes over the manifest several times when there are very many chunks, so
    that memory is bounded.
    """
    passes = max(1, sum(pack.size for pack in packs) // (16 << 10) // _AT_ONCE)
    found = {pack.id: Need(set()) for pack in packs}
    best_first = sorted(packs, key=lambda pack: (pack.state == "condemned", -pack.size, pack.id))
    for turn in range(passes):
        live = {id async for id in catalog.references() if id[0] % passes == turn}
        for pack in best_first:
            await _take(catalog, pack.id, live, found[pack.id])
        await _refuse_unplaced(catalog, live)
    return found


async def _refuse_unplaced(catalog: Catalog, left: set[bytes]) -> None:
    """What no stored pack holds must be in one that is on its way. If not, the manifest is damaged, and the chunk that
    it should name looks unused. Staged rows may be ahead of their chunks, and are committed between two looks."""
    hurt: list[Referrer] = []
    for _ in range(_LOOKS):
        left = await _unplaced(catalog, left)
        hurt = await catalog.referrers(left) if left else []
        if not hurt:
            return
    some = ", ".join(f"{shown(each.path)} of {each.volume} from snapshot {each.since} on" for each in hurt[:_NAMED])
    raise VolumeDamaged(
        "nothing was pruned: the manifest needs chunks that are in no pack",
        why=some + (f" and {len(hurt) - _NAMED} more" if len(hurt) > _NAMED else ""),
        fix="relit volume rebuild, then relit volume verify",
    )


async def _unplaced(catalog: Catalog, ids: set[bytes]) -> set[bytes]:
    return ids - (await catalog.places(sorted(ids))).keys()


async def _take(catalog: Catalog, pack: str, live: set[bytes], need: Need) -> None:
    """Move what this pack holds from ``live`` to its need."""
    if not live:
        return
    for id, place in await catalog.chunks_of(pack):
        if id in live:
            live.discard(id)
            need.ids.add(id)
            need.bytes += place.length


def sparse(packs: Sequence[Pack], need: dict[str, Need], *, now_ms: int, young_ms: int) -> list[Pack]:
    """Packs worth writing anew without what nobody needs: mostly dead, or small ones when there are many."""
    old = [pack for pack in packs if pack.state == "stored" and now_ms - pack.created_at_ms >= young_ms]
    mostly_dead = [pack for pack in old if need[pack.id].ids and wasteful(pack, need[pack.id].bytes)]
    small = [pack for pack in old if need[pack.id].ids and pack.size < _SMALL and pack not in mostly_dead]
    return [*mostly_dead, *(small if len(small) >= _MANY else [])]


def wasteful(pack: Pack, needed: int) -> bool:
    """Whether most of a pack is dead, and enough of it to care."""
    return needed < pack.size * _DENSE and pack.size - needed >= _WASTE


def dead(packs: Sequence[Pack], need: dict[str, Need], *, now_ms: int, young_ms: int) -> list[Pack]:
    """Stored packs that hold no needed chunk, and are not of a snapshot that is just being taken."""
    return [
        pack
        for pack in packs
        if pack.state == "stored" and not need[pack.id].ids and now_ms - pack.created_at_ms >= young_ms
    ]


def without_records(packs: Sequence[Pack], need: dict[str, Need], records: dict[str, int]) -> list[Pack]:
    """The dead and the sparse packs without those that are full of needed manifest records; but many small ones of
    these are to become one."""
    full = [
        pack
        for pack in packs
        if wasteful(pack, need[pack.id].bytes) or not need[pack.id].ids
        if pack.id in records and not wasteful(pack, need[pack.id].bytes + records[pack.id])
    ]
    small = [pack for pack in full if pack.size < _SMALL]
    stays = [pack for pack in full if len(small) < _MANY or pack not in small]
    return [pack for pack in packs if pack not in stays]


def total(packs: Collection[Pack]) -> int:
    """Their bytes."""
    return sum(pack.size for pack in packs)


_DENSE = 0.5
_WASTE = 64 << 10
_SMALL = 4 << 20
_MANY = 32
