"""What differs between two snapshots, from the rows that begin or end between them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from relit.errors import VolumeDamaged
from relit.manifest import Change, Entry
from relit.store.sql.tx import Row

_entry = msgspec.msgpack.Decoder(Entry)


def entry_of(body: bytes) -> Entry:
    """The entry in a row. VolumeDamaged."""
    try:
        return _entry.decode(body)
    except msgspec.MsgspecError as error:
        raise VolumeDamaged(
            "a row of the manifest cannot be read",
            why=str(error),
            fix="relit volume verify tells whose; relit volume rebuild puts it right",
        ) from error


def changed(entries: Sequence[Row], segments: Sequence[Row], low: int, high: int) -> dict[bytes, Change | None]:
    """By path. ``entries``: (since, until, body); ``segments``: (path, no, since, until, ids).

    ``None``: its entry is the same at both, its segments are not. What only tells whether a file was touched (inode,
    ctime) is no difference.
    """
    before: dict[bytes, Entry] = {}
    after: dict[bytes, Entry] = {}
    for since, until, body in entries:
        entry = entry_of(body)
        if _covers(since, until, low):
            before[entry.path] = entry
        if _covers(since, until, high):
            after[entry.path] = entry
    deep = _deep(segments, low, high)
    found: dict[bytes, Change | None] = dict.fromkeys(deep)
    for path in before.keys() | after.keys():
        was, now = before.get(path), after.get(path)
        if path in deep or _shown(was) != _shown(now):
            found[path] = Change(path=path, before=was, after=now)
    return found


def _deep(segments: Sequence[Row], low: int, high: int) -> set[bytes]:
    """Files whose long lists of chunks differ."""
    before: dict[tuple[bytes, int], bytes] = {}
    after: dict[tuple[bytes, int], bytes] = {}
    for path, no, since, until, ids in segments:
        if _covers(since, until, low):
            before[path, no] = ids
        if _covers(since, until, high):
            after[path, no] = ids
    return {key[0] for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def _covers(since: int, until: int | None, number: int) -> bool:
    return since <= number and (until is None or until > number)


def _shown(entry: Entry | None) -> Entry | None:
    return msgspec.structs.replace(entry, ino=0, ctime_ns=0) if entry else None
