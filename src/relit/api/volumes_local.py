"""Volumes in this process: every method as ``relit.api.volumes_port.Volumes`` says."""

from __future__ import annotations

import asyncio
import difflib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from relit import documents
from relit.api import volume_documents as shape
from relit.api.volumes_port import NOW
from relit.documents import Mark, Messages
from relit.errors import Conflict, Invalid, NotFound, WaitTimeout
from relit.lib.clock import Clock, iso
from relit.lib.moments import At, Named, Number, read_when
from relit.lib.names import AGENT, shown
from relit.manifest import KNOWN_GOOD, SEGMENT, Change, Entry, Snapshot, Volume
from relit.volumes.base import Catalog
from relit.volumes.going import Going
from relit.volumes.laying import Reader as ChunkReader
from relit.volumes.service import Homes
from relit.volumes.upload import Uploads
from relit.volumes.writing import ranges, split

if TYPE_CHECKING:  # commands that need none of it need not wait for it
    from relit.volumes.findings import Findings
    from relit.volumes.prune import Pruner
    from relit.volumes.rebuild import Rebuilder
    from relit.volumes.verify import Verifier

_ALL = 2**31
_FRESH_MS = 5_000  # a moment this near means the home as it is
_STORED_S = 300.0  # how long a caller waits for the blob store
_CHUNKS = 64
_ZEROS = bytes(1 << 20)


class Storing(Protocol):
    """What brings packs to the blob store."""

    done: Uploads

    async def flush(self) -> list[Snapshot]: ...


class Timeline(Protocol):
    """The journal's side of going back."""

    async def since(
        self, agent: str, to: Snapshot, messages: Messages | None
    ) -> tuple[list[documents.SinceEffect], list[documents.SinceMessage]]:
        """Effects and messages after that moment."""
        ...

    async def rewind(self, agent: str, to: Snapshot, messages: Messages) -> None:
        """Bring the journal back. The agent stands still."""
        ...


class Care(Protocol):
    """Retention, checks, and the way back from packs alone."""

    pruner: Pruner
    verifier: Verifier
    rebuilder: Rebuilder
    findings: Findings


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Where packs go and what seals them."""

    store: str
    encrypted: bool = True
    key: str = ""


class LocalVolumes:
    """Over the service of this node's homes."""

    def __init__(
        self,
        homes: Homes,
        catalog: Catalog,
        chunks: ChunkReader,
        uploads: Storing,
        care: Callable[[], Care],
        timeline: Timeline,
        facts: Facts,
        clock: Clock,
    ) -> None:
        self._homes = homes
        self._catalog = catalog
        self._chunks = chunks
        self._uploads = uploads
        self._care = care
        self._timeline = timeline
        self._facts = facts
        self._clock = clock

    # --- looking -----------------------------------------------------------------------------------------------

    async def list(self) -> documents.Volumes:
        some = [each for each in await self._catalog.volumes() if not each.name.startswith(".")]
        damage = shape.damage(self._care().findings.all())
        return documents.Volumes(volumes=[await self._described(each) for each in some], damage=damage)

    async def _described(self, volume: Volume) -> documents.Volume:
        some = await self._catalog.snapshots(volume.id, limit=_ALL)
        newest = some[0] if some else None
        return documents.Volume(
            agent=volume.name, node=volume.node, created_at=volume.created_at_ms, origin=volume.origin,
            snapshots=len(some), newest=volume.newest, newest_at=newest.at_ms if newest else None,
            stored=next((each.number for each in some if each.stored_at_ms), 0),
            files=newest.files if newest else 0, bytes=newest.bytes if newest else 0,
            packed=sum(each.fresh for each in some), error=self._homes.state(volume),
        )  # fmt: skip

    async def log(self, agent: str, *, limit: int = 100, before: int | None = None) -> documents.Snapshots:
        volume = await self._catalog.volume(agent)
        found = await self._catalog.snapshots(volume.id, before=before, limit=limit + 1)
        shown_ones = [shape.snapshot(each, agent) for each in found[:limit]]
        return documents.Snapshots(snapshots=shown_ones, next=found[limit - 1].number if len(found) > limit else None)

    async def resolve(self, agent: str, when: str) -> documents.Snapshot:
        _, found = await self._find(agent, when)
        return shape.snapshot(found, agent)

    async def _find(self, agent: str, when: str) -> tuple[Volume, Snapshot]:
        volume = await self._catalog.volume(agent)
        asked = read_when(when, self._clock.now_ms())
        match asked:
            case Number(number):
                return volume, await self._catalog.snapshot(volume.id, number)
            case At(ms):
                found = await self._catalog.snapshot_at(volume.id, ms)
            case Named(name):
                found = await self._catalog.tagged(volume.id, name) or await self._by_id(volume, name)
        if found is None and isinstance(asked, At):
            raise NotFound(f"{agent} has no snapshot as old as {iso(asked.ms)}", fix=f"relit volume log {agent}")
        if found is None:
            raise NotFound(f"{agent} has no snapshot {when}", fix=f"relit volume log {agent}")
        return volume, found

    async def _by_id(self, volume: Volume, id: str) -> Snapshot | None:
        some = await self._catalog.snapshots(volume.id, limit=_ALL)
        return next((each for each in some if each.id == id), None)

    async def ls(self, agent: str, when: str, path: bytes = b"", *, deep: bool = False) -> documents.Files:
        volume, found = await self._find(agent, when)
        entries = await self._catalog.tree(volume.id, found.number, under=path)
        if not entries:
            raise _no_path(agent, found.number, path)
        if entries[0].kind == "folder" and not deep:
            entries = [each for each in entries[1:] if each.path.rpartition(b"/")[0] == path]
        elif entries[0].kind == "folder":
            entries = entries[1:]
        return documents.Files(snapshot=shape.snapshot(found, agent), files=[shape.file(each) for each in entries])

    async def cat(self, agent: str, when: str, path: bytes) -> AsyncIterator[bytes]:
        volume, found = await self._find(agent, when)
        entry = await self._catalog.entry(volume.id, found.number, path)
        if entry is None:
            raise _no_path(agent, found.number, path)
        if entry.kind != "file":
            raise Conflict(
                f"{shown(path)} is a {entry.kind}", why="only files have a content", fix=f"relit volume files {agent}"
            )
        async for piece in self._content(volume.id, found.number, entry):
            yield piece

    async def _content(self, volume: str, number: int, entry: Entry) -> AsyncIterator[bytes]:
        """A file's bytes in order, holes as zeros."""
        if entry.hard:
            first = await self._catalog.entry(volume, number, entry.hard)
            assert first is not None  # the manifest names no missing file
            entry = first
        at = 0
        parts = self._pieces(await self._ids(volume, number, entry))
        rest = b""
        for offset, length in ranges(entry.size, entry.holes):
            for zeros in _zeros(offset - at):
                yield zeros
            left = length
            while left:
                rest = rest or await anext(parts)
                piece, rest = rest[:left], rest[left:]
                left -= len(piece)
                yield piece
            at = offset + length
        for zeros in _zeros(entry.size - at):
            yield zeros

    async def _ids(self, volume: str, number: int, entry: Entry) -> Sequence[bytes]:
        if entry.count <= SEGMENT:
            return [*split(entry.parts)]
        segments = await self._catalog.segments(volume, number, [entry.path])
        return [id for segment in sorted(segments, key=lambda each: each.no) for id in split(segment.ids)]

    async def _pieces(self, ids: Sequence[bytes]) -> AsyncIterator[bytes]:
        for at in range(0, len(ids), _CHUNKS):
            some = ids[at : at + _CHUNKS]
            fetched = await self._chunks.fetch(some)
            found = await asyncio.to_thread(fetched.open)
            for id in some:
                yield bytes(found[id])

    async def diff(self, agent: str, a: str, b: str = NOW, path: bytes = b"", *, text: bool = True) -> documents.Diff:
        volume, before = await self._find(agent, a)
        if b == NOW:
            after, _ = await self._homes.snapshot(agent, "request")
        else:
            _, after = await self._find(agent, b)
        changes = await self._catalog.changes(volume.id, before.number, after.number, under=path)
        numbers = (before.number, after.number)
        told = [each for each in changes if not _only_touched(each)]
        found = [await self._change(volume.id, numbers, each, text=text) for each in told]
        return documents.Diff(agent=agent, a=before.number, b=None if b == NOW else after.number, changes=found)

    async def _change(self, volume: str, numbers: tuple[int, int], each: Change, *, text: bool) -> documents.Change:
        shows = text and shape.shows_text(each.before) and shape.shows_text(each.after)
        told = None
        if shows:
            sides = [
                await self._whole(volume, number, side)
                for number, side in zip(numbers, (each.before, each.after), strict=True)
            ]
            told = await asyncio.to_thread(shape.text_diff, *sides)
        return documents.Change(
            path=shown(each.path),
            before=shape.file(each.before) if each.before else None,
            after=shape.file(each.after) if each.after else None,
            text=told,
        )

    async def _whole(self, volume: str, number: int, entry: Entry | None) -> bytes:
        return b"" if entry is None else b"".join([piece async for piece in self._content(volume, number, entry)])

    async def stats(self, agent: str | None = None) -> documents.VolumeStats:
        volume = (await self._catalog.volume(agent)).id if agent else ""
        found = await self._catalog.stats(volume)
        packs = await self._catalog.packs()
        waiting = [each for each in packs if each.state in ("open", "sealed")]
        states = Counter(each.state for each in packs)
        return documents.VolumeStats(
            agent=agent or "", snapshots=found.snapshots, files=found.files, bytes=found.bytes, entries=found.entries,
            chunks=found.chunks, packed=found.packed, packs=dict(sorted(states.items())),
            pack_bytes=sum(each.size for each in packs), spool=sum(each.size for each in waiting), waiting=len(waiting),
            waiting_since=min((each.created_at_ms for each in waiting), default=None), store=self._facts.store,
            encrypted=self._facts.encrypted, key=self._facts.key, requests=self._uploads.done.requests,
            uploaded=self._uploads.done.snapshots,
        )  # fmt: skip

    # --- making and going back ---------------------------------------------------------------------------------

    async def snapshot(
        self, agent: str, *, note: str = "", wait: Mark = "local", tag: str | None = None
    ) -> documents.Taken:
        taken, created = await self._homes.snapshot(agent, "request", note, always=bool(note or tag))
        if tag is not None:
            _check_good(agent, taken, tag)
            await self._catalog.tag(taken.volume, taken.number, tag)
        if wait == "stored":
            await self._stored(taken)
        newest = await self._catalog.snapshot(taken.volume, taken.number)
        return documents.Taken(snapshot=shape.snapshot(newest, agent), created=created)

    async def _stored(self, snapshot: Snapshot) -> None:
        """Until it is in the blob store. A pack with another volume's unfinished snapshot stays open: ask again."""
        try:
            async with asyncio.timeout(_STORED_S):
                while (await self._catalog.snapshot(snapshot.volume, snapshot.number)).stored_at_ms is None:
                    if not await self._uploads.flush():
                        await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise WaitTimeout(
                f"snapshot {snapshot.number} is not in the blob store after {_STORED_S:.0f} s",
                why="it was taken, and is on this machine's disk; the blob store is slow or away",
                fix="relit volume stats shows what waits; relit doctor looks at the blob store",
            ) from error

    async def restore(
        self,
        agent: str,
        when: str,
        paths: Sequence[bytes] = (),
        *,
        dry_run: bool = False,
        exact: bool = False,
        full: bool = False,
        messages: Messages | None = None,
    ) -> documents.Restored:
        began = time.monotonic()
        _, to = await self._find(agent, when)
        for path in paths:
            await self._check_path(agent, to, path, exact=exact)
        if messages is not None and paths:
            raise Conflict("messages go back with the whole home only", fix="leave out the paths, or the messages")
        if full and paths:
            raise Conflict("only a whole home is laid anew", fix="leave out the paths, or full")
        since = await self._timeline.since(agent, to, messages)

        async def rewind() -> None:
            nonlocal since
            since = await self._timeline.since(agent, to, messages)  # the agent stands still: nothing more comes
            if messages is not None:
                await self._timeline.rewind(agent, to, messages)

        if dry_run:
            going = await self._homes.preview(agent, to.number, paths, exact=exact, full=full)
        else:
            going = await self._homes.restore(agent, to.number, paths, exact=exact, full=full, meanwhile=rewind)
        told = self._restored(agent, going, whole=not paths)
        told.effects, told.messages = since
        told.choice = messages
        told.took_ms = round((time.monotonic() - began) * 1000)
        return told

    async def _check_path(self, agent: str, to: Snapshot, path: bytes, *, exact: bool) -> None:
        """NotFound for a path of which nothing would be put back: it is mistyped, or came since."""
        if not path or await self._catalog.entry(to.volume, to.number, path) is not None:
            return
        since = await self._homes.holds(agent, path)
        if since and exact:
            return
        error = _no_path(agent, to.number, path)
        error.why = "it came since then: --exact removes it" if since else await self._near(to, path)
        raise error

    async def _near(self, to: Snapshot, path: bytes) -> str:
        """Which path was meant, perhaps: one in the same folder, or beside the first folder that is not there."""
        while path:
            above, _, _ = path.rpartition(b"/")
            entries = await self._catalog.tree(to.volume, to.number, under=above)
            names = {shown(each.path) for each in entries if each.path and each.path.rpartition(b"/")[0] == above}
            if entries:
                found = difflib.get_close_matches(shown(path), names, n=3)
                return f"did you mean {' or '.join(found)}?" if found else ""
            path = above
        return ""

    def _restored(self, agent: str, going: Going, *, whole: bool) -> documents.Restored:
        done = going.done
        return documents.Restored(
            agent=agent, to=shape.snapshot(going.to, agent), dry_run=going.after is None, whole=whole,
            written=shape.paths([each.path for each in going.written]), removed=shape.paths(going.removed),
            adjusted=shape.paths([each.path for each in going.adjusted]),
            skipped=[shape.skipped(each) for each in going.skipped],
            bytes=done.bytes_written if done else sum(each.size for each in going.written), before=going.before.number,
            number=going.after.number if going.after else None, replaced=done.rejected if done else "",
        )  # fmt: skip

    async def fork(self, agent: str, new: str, when: str) -> documents.Volume:
        if not re.fullmatch(AGENT, new):
            raise Invalid(
                f"{new!r} is no name for an agent",
                why="it has up to 63 of a-z, 0-9, dot, dash and underscore, and begins with a letter or a digit",
                fix="choose another name",
            )
        asked = read_when(when, self._clock.now_ms())
        if isinstance(asked, At) and asked.ms >= self._clock.now_ms() - _FRESH_MS and self._homes.has(agent):
            at, _ = await self._homes.snapshot(agent, "request")
        else:
            _, at = await self._find(agent, when)
        return await self._described(await self._homes.fork(agent, at.number, new))

    # --- keeping -----------------------------------------------------------------------------------------------

    async def tag(
        self, agent: str, when: str, tag: str, *, remove: bool = False, force: bool = False
    ) -> documents.Snapshot:
        volume, found = await self._find(agent, when)
        if remove and tag not in found.tags:
            raise NotFound(f"snapshot {found.number} of {agent} has no tag {tag}", fix=f"relit volume log {agent}")
        if not (remove or force):
            _check_good(agent, found, tag)
        if remove:
            await self._catalog.untag(volume.id, tag, found.number)
        else:
            await self._catalog.tag(volume.id, found.number, tag)
        return await self.resolve(agent, str(found.number))

    async def pin(self, agent: str, when: str, *, pinned: bool = True) -> documents.Snapshot:
        volume, found = await self._find(agent, when)
        await self._catalog.pin(volume.id, found.number, pinned)
        return await self.resolve(agent, str(found.number))

    async def prune(self, agent: str | None = None, *, dry_run: bool = False) -> documents.Pruned:
        return shape.pruned(await self._care().pruner.prune(agent, dry_run=dry_run), dry_run=dry_run)

    async def verify(self, agent: str | None = None, *, sample: float = 1.0) -> documents.Verified:
        return shape.verified(await self._care().verifier.verify(agent, sample=sample), await self._count(agent))

    async def rebuild(self) -> documents.Rebuilt:
        return shape.rebuilt(await self._care().rebuilder.rebuild())

    async def _count(self, agent: str | None) -> int:
        some = [each for each in await self._catalog.volumes() if agent in (None, each.name)]
        return sum([len(await self._catalog.snapshots(each.id, limit=_ALL)) for each in some])

    async def remove(self, agent: str, *, home: bool = False) -> documents.Removed:
        place, away = await self._homes.forget(agent, home=home)
        return documents.Removed(agent=agent, home=str(place or ""), put_away=away)


def _no_path(agent: str, number: int, path: bytes) -> NotFound:
    return NotFound(
        f"snapshot {number} of {agent} has no {shown(path) or 'files'}", fix=f"relit volume files {agent} --at {number}"
    )


def _check_good(agent: str, found: Snapshot, tag: str) -> None:
    """Conflict for known-good when a run was half done: going back to it would not be going back to health."""
    if tag == KNOWN_GOOD and not found.quiescent:
        raise Conflict(
            f"snapshot {found.number} of {agent} is not tagged {KNOWN_GOOD}",
            why="a run of the agent was unfinished when it was taken, so its files may be half done",
            fix=f"tag one that relit volume log {agent} does not mark as mid-run; or, if you know better, "
            f"relit volume tag {agent} {found.number} {KNOWN_GOOD} --force",
        )


def _only_touched(change: Change) -> bool:
    """A folder of which only the time differs: what was made or removed in it is told on its own."""
    a, b = change.before, change.after
    if a is None or b is None or a.kind != "folder" or b.kind != "folder":
        return False
    return (a.mode, a.uid, a.gid, a.xattrs) == (b.mode, b.uid, b.gid, b.xattrs)


def _zeros(length: int) -> list[bytes]:
    whole, rest = divmod(length, len(_ZEROS))
    return [_ZEROS] * whole + ([_ZEROS[:rest]] if rest else [])
