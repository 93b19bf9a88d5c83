"""Reads packs back and checks every chunk; restores a snapshot somewhere else and checks its databases."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import msgspec

from relit.errors import BlobMissing, NotFound, StoreCorrupt, VolumeDamaged, WrongKey
from relit.events import Event
from relit.lib.durations import size
from relit.lib.names import shown
from relit.manifest import Pack, Place, Referrer, Snapshot, Volume
from relit.volumes.audit import Audit
from relit.volumes.base import Catalog, Objects
from relit.volumes.disk import remove_tree
from relit.volumes.findings import Damage, Findings
from relit.volumes.keys import Keys, ids_of
from relit.volumes.pack import CHUNK, HEADER, Sealer
from relit.volumes.packindex import SealedPack
from relit.volumes.restore import Restored
from relit.volumes.upload import key_of

_BATCH = 4 << 20  # bytes read together
_ROOM = 0.5  # of the free disk: a test restore takes no more
_NAMED = 100  # paths of a damage that are told
_BACK = "put the pack back from a copy of the blob store, then: relit volume verify"
Chunk = tuple[bytes, Place]


class Verified(msgspec.Struct, kw_only=True):
    """What a check read and found. ``manifests``: volumes whose manifest was compared with packs; ``restored``: (agent,
    number) of each test restore."""

    packs: int = 0
    chunks: int = 0
    bytes: int = 0
    manifests: int = 0
    restored: list[tuple[str, int]] = []
    databases: int = 0
    damage: list[Damage] = []
    notes: list[str] = []  # what was not checked, and why


class Verifier:
    """``lay`` restores a volume's snapshot into a new folder; ``databases`` answers how many databases are below a
    folder, and what is wrong with which; ``work``: where test restores may lie; ``findings`` keeps what is damaged."""

    def __init__(
        self,
        catalog: Catalog,
        objects: Objects,
        keys: Keys | None,
        *,
        open_pack: Callable[[str], SealedPack],
        lay: Callable[[Volume, int, Path], Awaitable[Restored]],
        databases: Callable[[Path], Awaitable[tuple[int, list[tuple[bytes, str]]]]],
        report: Callable[[Sequence[Event]], Awaitable[None]],
        findings: Findings,
        work: Path,
        chance: Random,
    ) -> None:
        self._catalog = catalog
        self._objects = objects
        self._keys = keys
        self._id_of = ids_of(keys)
        self._open_pack = open_pack
        self._lay = lay
        self._databases = databases
        self._report = report
        self._findings = findings
        self._work = work
        self._chance = chance

    async def verify(self, agent: str | None = None, *, sample: float = 1.0) -> Verified:
        """Check that share of the stored packs, compare manifests with packs, and restore the newest snapshot of each
        volume, and those that could not be restored before. NotFound."""
        volumes = [each for each in await self._catalog.volumes() if agent in (None, each.name)]
        if agent is not None and not volumes:
            raise NotFound(f"{agent} has no volume", fix="relit volume ls")
        packs = await self._catalog.packs(("stored",))
        if agent is not None:
            packs = await self._packs_of(volumes[0], packs)
        await self.forget_gone()
        done = Verified()
        chosen = self._chance.sample(packs, max(1, round(len(packs) * sample))) if packs else []
        for pack in sorted(chosen, key=lambda each: each.id):
            await self.check_pack(pack, done)
        audit = self.audit()
        for volume in volumes:
            await self.check_manifest(volume, done, audit)
            for number in sorted({*await self.suspects(volume), *([volume.newest] if volume.newest else [])}):
                await self.test_restore(volume, number, done)
        return done

    async def forget_gone(self) -> None:
        """What is there no more is not damaged any more."""
        there = {f"pack:{pack.id}" for pack in await self._catalog.packs(("stored",))}
        for volume in await self._catalog.volumes():
            there |= {f"manifest:{volume.name}", *(f"restore:{volume.name}#{n}" for n in await self.suspects(volume))}
        for check in self._findings.checks():
            if check not in there and not check.startswith("upkeep:"):
                self._findings.found(check, [])

    def audit(self) -> Audit:
        """For one round."""
        return Audit(self._catalog, self._open_pack)

    async def check_manifest(self, volume: Volume, done: Verified, audit: Audit) -> None:
        """Compare what the catalog says of a volume with what packs tell. Damage is noted and reported, not raised."""
        damage, notes = await audit.check(volume)
        for each in damage:
            await self._note(done, each)
        self._findings.found(f"manifest:{volume.name}", damage)
        done.notes += notes
        done.manifests += 1

    async def _packs_of(self, volume: Volume, packs: Sequence[Pack]) -> list[Pack]:
        """Those that hold something that the newest snapshot needs."""
        try:
            entries = await self._catalog.tree(volume.id, volume.newest)
        except VolumeDamaged:  # the manifest does not say: it may be any
            return [*packs]
        segments = await self._catalog.all_segments(volume.id, volume.newest)
        ids = {id for held in [e.parts for e in entries] + [s.ids for s in segments] for id in _split(held)}
        into = {place.pack for place in (await self._catalog.places(sorted(ids))).values()}
        return [pack for pack in packs if pack.id in into]

    # --- packs -------------------------------------------------------------------------------------------------

    async def check_pack(self, pack: Pack, done: Verified, rest: Callable[[], Awaitable[None]] | None = None) -> None:
        """Open every chunk and manifest record of a stored pack. Damage is noted and reported, not raised. ``rest`` is
        waited for after each few megabytes."""
        before = len(done.damage)
        await self._check_pack(pack, done, rest or _at_once)
        self._findings.found(f"pack:{pack.id}", done.damage[before:])

    async def _check_pack(self, pack: Pack, done: Verified, rest: Callable[[], Awaitable[None]]) -> None:
        lost: dict[bytes, str] = {}
        chunks = await self._catalog.chunks_of(pack.id)
        try:
            sealer = await self._opened_header(pack.id, done)
            for batch in _batches(chunks):
                lost |= await self._check(pack.id, sealer, batch)
                await rest()
            await self._check_manifests(pack.id, rest)
        except (VolumeDamaged, WrongKey) as error:
            fix = error.fix if isinstance(error, WrongKey) else _BACK
            await self._note(done, Damage(what=f"{error.what}: {error.why}", pack=pack.id, fix=fix))
        except BlobMissing as error:
            lost = {id: error.what for id, _ in chunks}
            await self._note(done, Damage(what=error.what, pack=pack.id, fix=_BACK))
        if lost:
            await self._name(pack.id, lost, done)
        done.packs += 1
        done.chunks += len(chunks)
        done.bytes += pack.size

    async def _opened_header(self, pack: str, done: Verified) -> Sealer:
        """A damaged header is noted; what follows it can be read all the same."""
        try:
            head = (await self._objects.get_ranges(key_of(pack), [(0, HEADER.size)]))[0]
        except StoreCorrupt:
            head = b""
        try:
            return Sealer.of(head, pack, self._keys)
        except VolumeDamaged as error:
            what = f"{error.what}: {error.why}; its chunks are read without"
            await self._note(done, Damage(what=what, pack=pack, fix=_BACK))
            return Sealer(pack, self._keys)

    async def _check(self, pack: str, sealer: Sealer, batch: Sequence[Chunk]) -> dict[bytes, str]:
        """The chunks of a batch that are not as they were written."""
        ranges = [(place.offset, place.length) for _, place in batch]
        try:
            records = await self._objects.get_ranges(key_of(pack), ranges)
        except StoreCorrupt as error:
            if len(batch) == 1:
                return {batch[0][0]: error.why}
            half = len(batch) // 2
            return await self._check(pack, sealer, batch[:half]) | await self._check(pack, sealer, batch[half:])
        return await asyncio.to_thread(self._opened, sealer, batch, records)

    def _opened(self, sealer: Sealer, batch: Sequence[Chunk], records: Sequence[bytes]) -> dict[bytes, str]:
        lost: dict[bytes, str] = {}
        for (id, place), record in zip(batch, records, strict=True):
            try:
                kind, content = sealer.open(record, place)
                if kind != CHUNK or self._id_of(content) != id:
                    lost[id] = f"at {place.offset} it holds something else"
            except VolumeDamaged as error:
                lost[id] = f"at {place.offset}: {error.why}"
        return lost

    async def _check_manifests(self, pack: str, rest: Callable[[], Awaitable[None]]) -> None:
        opened = self._open_pack(pack)
        for described in (await opened.index()).manifests:
            await opened.delta(described)
            await rest()

    async def _name(self, pack: str, lost: dict[bytes, str], done: Verified) -> None:
        """Say which files of which snapshots damaged chunks belong to, unless another copy of them is sound."""
        why = next(iter(lost.values()))
        by_volume: dict[str, list[Referrer]] = {}
        for each in await self._catalog.referrers(lost.keys()):
            by_volume.setdefault(each.volume, []).append(each)
        if not by_volume:
            what = f"{len(lost)} chunks that nothing needs: {why}"
            await self._note(done, Damage(what=what, pack=pack, fix=_BACK))
        for name, hit in by_volume.items():
            volume = await self._catalog.volume(name)
            some = await self._catalog.snapshots(volume.id, limit=2**31)
            numbers = sorted({each.number for each in some if any(_in(each.number, referrer) for referrer in hit)})
            paths = sorted({referrer.path for referrer in hit})[:_NAMED]
            what = f"{len(lost)} chunks of pack {pack} are damaged: {why}"
            await self._note(done, Damage(what=what, pack=pack, volume=name, snapshots=numbers, paths=paths, fix=_BACK))

    async def _note(self, done: Verified, damage: Damage) -> None:
        done.damage.append(damage)
        data = {"volume": damage.volume, "pack": damage.pack, "what": damage.what}
        await self._report([Event("", 0, "volume.damaged", agent=damage.volume or None, data=data)])

    # --- test restores -----------------------------------------------------------------------------------------

    async def suspects(self, volume: Volume) -> list[int]:
        """Snapshots that could not be restored when it was tried last."""
        some = self._findings.checks(f"restore:{volume.name}#")
        there = {each.number for each in await self._catalog.snapshots(volume.id, limit=2**31)} if some else set()
        return [number for number in sorted(there) if f"restore:{volume.name}#{number}" in some]

    async def test_restore(self, volume: Volume, number: int, done: Verified) -> None:
        """Restore a snapshot into a folder of its own, open its databases, remove it."""
        snapshot = await self._catalog.snapshot(volume.id, number)
        if not await asyncio.to_thread(self._fits, snapshot):
            done.notes.append(
                f"{volume.name} was not test-restored: {size(snapshot.bytes)} are more than half of what is free below "
                f"{self._work}"
            )
            return
        before = len(done.damage)
        await self._test_restore(volume, number, done)
        self._findings.found(f"restore:{volume.name}#{number}", done.damage[before:])

    async def _test_restore(self, volume: Volume, number: int, done: Verified) -> None:
        target = Path(await asyncio.to_thread(mkdtemp, prefix="verify-", dir=self._work))
        try:
            await self._lay(volume, number, target)
            count, wrong = await self._databases(target)
        except (VolumeDamaged, BlobMissing) as error:
            what = f"snapshot {number} cannot be restored: {error.what}: {error.why}"
            await self._note(done, Damage(what=what, volume=volume.name, snapshots=[number], fix=error.fix))
            return
        finally:
            await asyncio.to_thread(remove_tree, target)
        for path, why in wrong:
            what, fix = f"{shown(path)}: {why}", f"relit volume restore {volume.name} {shown(path)} --at a sound one"
            await self._note(done, Damage(what=what, volume=volume.name, snapshots=[number], paths=[path], fix=fix))
        done.databases += count
        done.restored.append((volume.name, number))
        data = {"volume": volume.name, "number": number}
        await self._report([Event("", 0, "volume.verified", agent=volume.name, data=data)])

    def _fits(self, snapshot: Snapshot) -> bool:
        self._work.mkdir(parents=True, exist_ok=True, mode=0o700)
        return snapshot.bytes < shutil.disk_usage(self._work).free * _ROOM


async def _at_once() -> None:
    """No rest."""


def _in(number: int, referrer: Referrer) -> bool:
    return referrer.since <= number and (referrer.until is None or number < referrer.until)


def _batches(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    batch: list[Chunk] = []
    size = 0
    for chunk in chunks:
        batch.append(chunk)
        size += chunk[1].length
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _split(ids: bytes) -> Collection[bytes]:
    return [ids[at : at + 16] for at in range(0, len(ids), 16)]
