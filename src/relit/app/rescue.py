"""What a node asks of volumes to heal an agent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from relit import documents
from relit.agents import config
from relit.api.volumes_port import NOW, Volumes
from relit.control.care import ConfigFile, KnownGood, Went
from relit.errors import Conflict, NotFound, RelitError
from relit.lib.names import given
from relit.manifest import KNOWN_GOOD

REFUSED = "refused"  # the name of the snapshot whose configuration the newest trouble began with: it is never pruned
_UNREAD = "-"  # stands for all configurations that nobody can read
_NONE = -1  # the number of no snapshot
_LOOK = 500  # snapshots that are looked through, newest first
_TRIED = 100  # of them, for an earlier configuration
_KEPT = 21  # newest ones that keep their tag
_BROKEN = 200  # configurations that were wrong in a trouble, and are remembered


async def known_good(
    volumes: Volumes, agent: str, files: Sequence[ConfigFile], *, broken: bool = False, before: Sequence[str] = ()
) -> KnownGood:
    """See ``ControlBackend``."""
    try:
        now = (await volumes.snapshot(agent)).snapshot.number
    except NotFound:
        return KnownGood()
    except RelitError as error:  # what it was is on record all the same; as it is now, it is none of those
        now, why = _NONE, f"no snapshot could be taken: {error.what}"
    else:
        why = ""
    found = (await volumes.log(agent, limit=_LOOK)).snapshots
    good = [each for each in found if KNOWN_GOOD in each.tags]
    known = KnownGood(newest=now, why=why)
    if good:
        known = msgspec.structs.replace(
            known,
            number=good[0].number,
            at_ms=good[0].at,
            older=[(each.number, each.at) for each in good[1:_KEPT]],
            others=[(each.number, each.at) for each in found if _is_before(each, good[0])][:_TRIED],
            config=await _changes(volumes, agent, good[0].number, files),
        )
    if not broken or not files:
        return msgspec.structs.replace(known, broken=list(before))
    return await _another(volumes, agent, files, known, before, found[:_TRIED])


def _is_before(snapshot: documents.Snapshot, good: documents.Snapshot) -> bool:
    return snapshot.number < good.number and KNOWN_GOOD not in snapshot.tags


async def _another(
    volumes: Volumes, agent: str, files: Sequence[ConfigFile], known: KnownGood, before: Sequence[str],
    found: Sequence[documents.Snapshot],
) -> KnownGood:  # fmt: skip
    """The configuration is wrong as it is: back to the known-good one, or where there is none, or it was as wrong, to
    the newest that was not. When all of them were, to the first of them, for good: its owner's."""
    if not before and known.newest != _NONE:
        await volumes.tag(agent, str(known.newest), REFUSED)
    said = _Said(volumes, agent, files)
    now = await said.at(known.newest)
    wrong = [*dict.fromkeys([*before, now or _UNREAD])]
    known = msgspec.structs.replace(known, broken=wrong[-_BROKEN:])
    for number in [known.number, *(each.number for each in found)]:
        if (digest := await said.at(number)) is None or digest in wrong:
            continue
        if changes := await _changes(volumes, agent, number, files):
            return _to(known, number, changes)
    for number in (await _tagged(volumes, agent), known.number):
        if await said.at(number) is not None:
            return _to(known, number, await _changes(volumes, agent, number, files))
    return msgspec.structs.replace(known, config={})


def _to(known: KnownGood, number: int, changes: dict[str, str]) -> KnownGood:
    return msgspec.structs.replace(known, was=0 if number == known.number else number, config=changes)


async def _tagged(volumes: Volumes, agent: str) -> int:
    """The snapshot with which the trouble began; 0: there is none."""
    try:
        return (await volumes.resolve(agent, REFUSED)).number
    except NotFound:
        return 0


class _Said:
    """What an agent's configuration made it do, in its snapshots. RelitError."""

    def __init__(self, volumes: Volumes, agent: str, files: Sequence[ConfigFile]) -> None:
        self._volumes, self._agent, self._files = volumes, agent, files
        self._known: dict[tuple[str, bytes], bytes | None] = {}

    async def at(self, number: int) -> str | None:
        """A digest of it in that snapshot; ``None``: it was wrong, or there is no such snapshot."""
        if number <= 0:
            return None
        whole = blake2b(digest_size=8)
        for each in self._files:
            if (essence := await self._essence(number, each)) is None:
                return None
            whole.update(blake2b(essence).digest())
        return whole.hexdigest()

    async def _essence(self, number: int, file: ConfigFile) -> bytes | None:
        data = bytearray()
        try:
            async for piece in self._volumes.cat(self._agent, str(number), given(file.path)):
                data += piece
                if len(data) > config.LARGEST:
                    return None
        except (NotFound, Conflict):  # it was not there, or no file
            return None
        key = file.path, bytes(data)
        if key not in self._known:  # most snapshots have the same
            self._known[key] = await asyncio.to_thread(config.essence, file, key[1])
        return self._known[key]


async def _changes(volumes: Volumes, agent: str, number: int, files: Sequence[ConfigFile]) -> dict[str, str]:
    """Which of the files differ from that snapshot, and how."""
    found = {each.path: await _differs(volumes, agent, number, each.path) for each in files}
    return {path: text for path, text in found.items() if text is not None}


async def _differs(volumes: Volumes, agent: str, number: int, path: str) -> str | None:
    """A diff of one file since that snapshot; ``None`` when it is the same."""
    try:
        made = await volumes.diff(agent, str(number), NOW, given(path))
    except NotFound:  # in neither
        return None
    texts = [_told(each) for each in made.changes if each.path == path and not _is_touched(each)]
    return texts[0] if texts else None


def _is_touched(change: documents.Change) -> bool:
    """Whether nothing but its time is another."""
    before, after = change.before, change.after
    if before is None or after is None or change.text != "":
        return False
    return msgspec.structs.replace(before, mtime_ns=after.mtime_ns) == after


def _told(change: documents.Change) -> str:
    if change.text is not None:
        return change.text
    return "it is gone" if change.after is None else "it is new" if change.before is None else "it is not text"


async def go_back(volumes: Volumes, agent: str, number: int, files: Sequence[str]) -> Went:
    """See ``ControlBackend``. With the whole home the journal goes back; messages that came since are kept."""
    done = await volumes.restore(
        agent, str(number), [given(each) for each in files], messages=None if files else "keep"
    )
    return Went(
        to=done.to.number,
        before=done.before or 0,
        written=len(done.written),
        removed=len(done.removed),
        replaced=done.replaced,
    )


async def mark_good(volumes: Volumes, agent: str) -> int:
    """See ``ControlBackend``."""
    taken = (await volumes.snapshot(agent)).snapshot
    if KNOWN_GOOD in taken.tags:
        return taken.number
    try:
        number = (await volumes.tag(agent, str(taken.number), KNOWN_GOOD)).number
    except Conflict:  # a run was half done
        return 0
    await _thin(volumes, agent)
    return number


async def _thin(volumes: Volumes, agent: str) -> None:
    """Take the tag off those that nobody would go back to: what has it is never pruned."""
    found = (await volumes.log(agent, limit=_LOOK)).snapshots
    for each in [each for each in found if KNOWN_GOOD in each.tags and not each.pinned][_KEPT:]:
        await volumes.tag(agent, str(each.number), KNOWN_GOOD, remove=True)
