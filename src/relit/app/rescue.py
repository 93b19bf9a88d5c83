"""What a node asks of volumes to heal an agent."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from relit import documents
from relit.api.volumes_port import NOW, Volumes
from relit.control.care import KnownGood, Went
from relit.errors import Conflict, NotFound, RelitError
from relit.lib.names import given
from relit.manifest import KNOWN_GOOD

_NONE = -1  # the number of no snapshot
_LOOK = 500  # snapshots that are looked through, newest first
_TRIED = 100  # of them, for an earlier configuration
_KEPT = 21  # newest ones that keep their tag


async def known_good(volumes: Volumes, agent: str, files: Sequence[str], *, broken: bool = False) -> KnownGood:
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
    if known.config or not broken:
        return known
    return await _unproven(volumes, agent, files, known, found[:_TRIED])


def _is_before(snapshot: documents.Snapshot, good: documents.Snapshot) -> bool:
    return snapshot.number < good.number and KNOWN_GOOD not in snapshot.tags


async def _unproven(
    volumes: Volumes, agent: str, files: Sequence[str], known: KnownGood, found: Sequence[documents.Snapshot]
) -> KnownGood:
    """None is known to be good, or its configuration is as broken: one that was another may still be better."""
    for each in found:
        if config := await _changes(volumes, agent, each.number, files):
            return msgspec.structs.replace(known, was=each.number, config=config)
    return known


async def _changes(volumes: Volumes, agent: str, number: int, files: Sequence[str]) -> dict[str, str]:
    """Which of the files differ from that snapshot, and how."""
    found = {path: await _differs(volumes, agent, number, path) for path in files}
    return {path: text for path, text in found.items() if text is not None}


async def _differs(volumes: Volumes, agent: str, number: int, path: str) -> str | None:
    """A diff of one file since that snapshot; ``None`` when it is the same."""
    try:
        made = await volumes.diff(agent, str(number), NOW, given(path))
    except NotFound:  # in neither
        return None
    texts = [_told(each) for each in made.changes if each.path == path]
    return texts[0] if texts else None


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
