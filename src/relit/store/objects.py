"""Named contents in a folder or an S3 bucket, and whose they are.

An object is whole or not there: a folder gets a finished file by its new name, a bucket shows a large upload only
when its last part has arrived. What was answered is durable.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import ObjectStore

from relit.errors import BlobMissing, ConfigError, Conflict, StoreCorrupt
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.lib.ranges import read_ranges
from relit.manifest import ObjectInfo
from relit.store.bucket import explained, open_bucket, open_folder
from relit.store.folder import DRAFTS, Folder

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_PART = 8 << 20  # of a large upload; two at once bound its memory
_GAP = 1 << 20  # reading over a gap this small is cheaper than another request
_OUTSIDE = re.compile(r"InvalidRange|Range Not Satisfiable|\b416\b")

T = TypeVar("T")


class Objects(Protocol):
    """The same seam as ``relit.volumes.base.Objects``, which this layer cannot see."""

    url: str

    async def put(self, key: str, data: bytes, *, absent: bool = False) -> None: ...

    async def put_file(self, key: str, path: Path) -> None: ...

    async def get(self, key: str) -> bytes: ...

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]: ...

    def local(self, key: str) -> Path | None: ...

    async def head(self, key: str) -> ObjectInfo | None: ...

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]: ...

    async def delete(self, key: str) -> None: ...


def open_objects(url: str, options: Mapping[str, str] | None = None) -> Objects:
    """The store at a folder's path or ``s3://bucket/prefix``; ``options`` as ``server.blobs`` has them."""
    if url.startswith("s3://"):
        return S3Objects(url, options)
    return FolderObjects(Path(url.removeprefix("file://")))


class FolderObjects:
    """Objects as files of a folder."""

    def __init__(self, path: Path, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._root = path.expanduser().absolute()
        self.url = str(self._root)
        open_folder(self._root)
        self._folder = Folder(self._root, clock)

    async def put(self, key: str, data: bytes, *, absent: bool = False) -> None:
        """Store, by rename; with ``absent`` by a link, which never replaces."""
        await self._do(key, "store", lambda: self._folder.put(_checked(key), data, absent=absent))

    async def put_file(self, key: str, path: Path) -> None:
        """Store a file's content: a hard link on the same filesystem, else a copy."""
        await self._do(key, "store", lambda: self._folder.adopt(_checked(key), path))

    async def get(self, key: str) -> bytes:
        """The whole content."""
        return await self._do(key, "read", (self._root / _checked(key)).read_bytes)

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of the content; a file that ends before them is StoreCorrupt."""
        found = await self._do(key, "read", lambda: _read_ranges(self._root / _checked(key), ranges))
        return _whole(self.url, key, ranges, found)

    def local(self, key: str) -> Path | None:
        """The file of that key."""
        return self._root / _checked(key)

    async def head(self, key: str) -> ObjectInfo | None:
        """Size and age, or None."""
        try:
            return await self._do(key, "look for", lambda: _info(key, (self._root / _checked(key)).stat()))
        except BlobMissing:
            return None

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """All below a folder, by key."""
        for info in await self._do(prefix, "list", lambda: sorted(self._walk(prefix), key=lambda each: each.key)):
            yield info

    async def delete(self, key: str) -> None:
        """Remove; what is gone already is fine."""
        await self._do(key, "delete", lambda: (self._root / _checked(key)).unlink(missing_ok=True))

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        os.stat(self._root)  # a folder that is not mounted must not look like an empty one
        top = self._root / prefix.strip("/")
        if not top.exists():
            return
        for where, folders, files in os.walk(top, onerror=_unless_gone):
            relative = Path(where).relative_to(self._root)
            if not relative.parts and DRAFTS in folders:
                folders.remove(DRAFTS)
            for name in files:
                try:
                    yield _info(str(relative / name), (Path(where) / name).stat())
                except FileNotFoundError:  # deleted since the folder was read
                    continue

    async def _do(self, key: str, verb: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except FileExistsError as error:
            raise _taken(self.url, key) from error
        except FileNotFoundError as error:
            if verb in ("read", "look for") and self._root.is_dir():
                raise _missing(self.url, key) from error
            raise explained(self.url, f"cannot {verb} object {key!r}", error) from error
        except OSError as error:
            raise explained(self.url, f"cannot {verb} object {key!r}", error) from error


class S3Objects:
    """Objects of an S3 bucket below a prefix."""

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        self.url = url
        self._store: ObjectStore = open_bucket(url, dict(options or {}))

    async def put(self, key: str, data: bytes, *, absent: bool = False) -> None:
        """Store in one request."""
        mode: Literal["create", "overwrite"] = "create" if absent else "overwrite"
        await self._do(key, "store", lambda: obstore.put_async(
            self._store, _checked(key), data, mode=mode, use_multipart=False))  # fmt: skip

    async def put_file(self, key: str, path: Path) -> None:
        """Store a file's content, a large one in parts: it is there when the last one is."""
        size = (await self._do(key, "store", lambda: asyncio.to_thread(os.stat, path))).st_size
        await self._do(key, "store", lambda: obstore.put_async(
            self._store, _checked(key), path, use_multipart=size > _PART, chunk_size=_PART, max_concurrency=2
        ))  # fmt: skip

    async def get(self, key: str) -> bytes:
        """The whole content."""
        return await self._do(key, "read", lambda: self._get(_checked(key)))

    async def _get(self, key: str) -> bytes:
        return (await (await obstore.get_async(self._store, key)).bytes_async()).to_bytes()

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of the content, near ones in one request; an object that ends before them is StoreCorrupt."""
        asked = [each for each in ranges if each[1]]  # the library refuses a range of nothing
        if not asked:
            return [b""] * len(ranges)
        got = iter(await self._do(key, "read", lambda: obstore.get_ranges_async(
            self._store, _checked(key),
            starts=[each[0] for each in asked], lengths=[each[1] for each in asked], coalesce=_GAP,
        )))  # fmt: skip
        return _whole(self.url, key, ranges, [next(got).to_bytes() if each[1] else b"" for each in ranges])

    def local(self, key: str) -> Path | None:
        """None: it is elsewhere."""
        return None

    async def head(self, key: str) -> ObjectInfo | None:
        """Size and age, or None."""
        try:
            meta = await self._do(key, "look for", lambda: obstore.head_async(self._store, _checked(key)))
        except BlobMissing:
            return None
        return ObjectInfo(key, meta["size"], int(meta["last_modified"].timestamp() * 1000))

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """All below a prefix that ends where a ``/`` is."""
        try:
            async for page in obstore.list(self._store, prefix.strip("/") or None, chunk_size=1000):
                for each in page:
                    yield ObjectInfo(each["path"], each["size"], int(each["last_modified"].timestamp() * 1000))
        except (OSError, BaseError, ValueError) as error:
            raise explained(self.url, f"cannot list objects below {prefix!r}", error) from error

    async def delete(self, key: str) -> None:
        """Remove; what is gone already is fine."""
        try:
            await self._do(key, "delete", lambda: obstore.delete_async(self._store, _checked(key)))
        except BlobMissing:
            return

    async def _do(self, key: str, verb: str, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        except (AlreadyExistsError, PreconditionError) as error:
            raise _taken(self.url, key) from error
        except (OSError, BaseError, ValueError) as error:
            if isinstance(error, FileNotFoundError) and verb != "store" and "NoSuchBucket" not in str(error):
                raise _missing(self.url, key) from error
            if verb == "read" and _OUTSIDE.search(str(error)):
                raise _short(self.url, key) from error
            raise explained(self.url, f"cannot {verb} object {key!r}", error) from error


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key) or key.split("/", 1)[0] == DRAFTS:
        raise ConfigError(f"{key!r} is no name for an object", why="names are parts of A-Z a-z 0-9 . _ - between /")
    return key


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a folder deleted since its parent was read is fine
        raise error


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, stat.st_size, stat.st_mtime_ns // 1_000_000)


def _read_ranges(path: Path, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    with path.open("rb") as file:
        return read_ranges(file.fileno(), ranges)


def _whole(url: str, key: str, ranges: Sequence[tuple[int, int]], found: list[bytes]) -> list[bytes]:
    if any(len(data) != length for (_, length), data in zip(ranges, found, strict=True)):
        raise _short(url, key)
    return found


def _short(url: str, key: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"object {key} in {url} is damaged", why="it is shorter than what was stored", fix="relit volume verify"
    )


def _taken(url: str, key: str) -> Conflict:
    return Conflict(f"object {key} is in {url} already", why="it was to be stored only if nothing was there")


def _missing(url: str, key: str) -> BlobMissing:
    return BlobMissing(
        f"object {key} is not in {url}",
        why="it was deleted there, or this is another blob store",
        fix="point volumes.store (or server.blobs) at the store that holds it, then relit volume verify",
    )
