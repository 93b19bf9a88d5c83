"""What tests of the catalog share: short ways to make volumes, trees, packs and snapshots."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from relit.lib.ids import new_id
from relit.manifest import ID_BYTES, Commit, Delta, Entry, Pack, Place, Segment, Snapshot, Volume
from relit.store.base import Store
from relit.store.sql.catalog import SqlCatalog
from relit.store.sql.store import SqlStore

NODE = "here"
T0 = 1_700_000_000_000


def catalog_of(store: Store) -> SqlCatalog:
    """The catalog of a store that has one."""
    assert isinstance(store, SqlStore)
    return store.catalog


def chunk(number: int) -> bytes:
    """A chunk id."""
    return number.to_bytes(ID_BYTES, "big")


def file(path: bytes, *chunks: int, **options: Any) -> Entry:
    """A file whose content are these chunks."""
    parts = b"".join(chunk(each) for each in chunks)
    given = {"mode": 0o644, "uid": 0, "gid": 0, "mtime_ns": 1, "size": len(chunks), "count": len(chunks)}
    return Entry(path=path, kind="file", parts=parts, **(given | options))


def folder(path: bytes, **options: Any) -> Entry:
    """A folder."""
    return Entry(path=path, kind="folder", **({"mode": 0o755, "uid": 0, "gid": 0, "mtime_ns": 1} | options))


def link(path: bytes, target: bytes) -> Entry:
    """A symbolic link."""
    return Entry(path=path, kind="link", mode=0o777, uid=0, gid=0, mtime_ns=1, target=target)


def segment(path: bytes, no: int, *chunks: int) -> Segment:
    """A part of a long file."""
    return Segment(path, no, b"".join(chunk(each) for each in chunks))


def pack(id: str, state: str = "stored", *, node: str = NODE, size: int = 1000, age: int = 0) -> Pack:
    """A pack; the one with the higher ``age`` was made earlier."""
    return Pack(id=id, node=node, state=state, size=size, created_at_ms=T0 - age)  # type: ignore[arg-type]


async def volume(catalog: SqlCatalog, name: str = "agent", *, node: str = NODE) -> Volume:
    """A new volume."""
    return await catalog.make_volume(Volume(id=new_id(), name=name, node=node, created_at_ms=T0))


def snapshot(home: Volume, number: int, **options: Any) -> Snapshot:
    """The values of a snapshot that is taken ``number`` seconds after ``T0``."""
    given = {"id": new_id(), "at_ms": T0 + number * 1000, "reason": "interval"}
    return Snapshot(volume=home.id, number=number, **(given | options))


def commit(home: Volume, number: int, delta: Delta | None = None, **options: Any) -> Commit:
    """A commit that writes to no pack, unless it is told to."""
    given = {"snapshot": snapshot(home, number), "delta": delta or Delta(), "at": None}
    return Commit(**(given | options))


async def take(catalog: SqlCatalog, home: Volume, number: int, *what: Entry | Segment, **options: Any) -> Snapshot:
    """Commit snapshot ``number``: these entries and segments are new; ``gone``, ``cut`` and ``full`` as in a delta."""
    delta = Delta(
        entries=[each for each in what if isinstance(each, Entry)],
        segments=[each for each in what if isinstance(each, Segment)],
        **{key: options.pop(key) for key in ("gone", "cut", "full") if key in options},
    )
    return await catalog.commit(commit(home, number, delta, **options))


async def paths(catalog: SqlCatalog, home: Volume, number: int, **options: Any) -> list[bytes]:
    """What is in the tree."""
    return [each.path for each in await catalog.tree(home.id, number, **options)]


async def add_chunks(catalog: SqlCatalog, at: Pack, *chunks: int) -> None:
    """A pack with these chunks in it, ten bytes each."""
    await catalog.load_chunks([(chunk(each), Place(at.id, each * 10, 10, 20)) for each in chunks], [at])


async def state(catalog: SqlCatalog, id: str) -> str | None:
    """A pack's state; ``None``: it is forgotten."""
    return next((each.state for each in await catalog.packs() if each.id == id), None)


async def everything(catalog: SqlCatalog, home: Volume, number: int) -> tuple[list[Entry], list[Segment]]:
    """A whole tree."""
    return await catalog.tree(home.id, number), await catalog.all_segments(home.id, number)


async def collected(ids: AsyncIterator[bytes]) -> set[bytes]:
    """Chunk ids, each once."""
    return {each async for each in ids}


async def events(store: Store, *names: str) -> list[dict[str, Any]]:
    """Data of the store's events of these names, oldest first."""
    return [each.data for each in await store.events() if each.name in names]


def numbers(found: Iterable[Snapshot]) -> list[int]:
    return [each.number for each in found]
