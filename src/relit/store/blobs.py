"""Blobs: large contents under the hash of what they hold, in a folder or an S3 bucket.

A blob never changes, so putting it twice is harmless, and reading it back proves that it is whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from relit.errors import BlobMissing, StoreCorrupt
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.store.bucket import explained, open_bucket, open_folder
from relit.store.folder import Folder

_HASH = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"([0-9a-f]{2})/([0-9a-f]{2})/(\1\2[0-9a-f]{60})")


class BlobStore(Protocol):
    """Contents by their hash. Every error is a ``RelitError``; ``retry`` says whether another try can help."""

    async def put(self, data: bytes) -> str:
        """Store ``data`` durably; answers its hash. Doing it again is harmless (and refreshes its age)."""
        ...

    async def get(self, hash: str) -> bytes:
        """The content, proven whole. Raises ``BlobMissing``, ``StoreCorrupt``, ``StoreUnavailable``."""
        ...

    async def delete(self, hash: str) -> None:
        """Remove it; what is gone already is fine."""
        ...

    def list(self, before_ms: int | None = None) -> AsyncIterator[str]:
        """All hashes, in no order; with ``before_ms`` only those last put before that moment."""
        ...


def hash_of(data: bytes) -> str:
    """The name of a content: BLAKE2b, 256 bits, in hex."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def key_of(hash: str) -> str:
    """Where a content lies below its folder or prefix: ``aa/bb/HASH``."""
    if not _HASH.fullmatch(hash):
        raise BlobMissing(
            f"there is no blob {hash!r}",
            why="that is not a content hash (64 hex digits)",
            fix="relit doctor",
        )
    return f"{hash[:2]}/{hash[2:4]}/{hash}"


class ObstoreBlobs:
    """Blobs in a folder (a path) or a bucket (``s3://bucket/prefix``).

    ``options`` for S3: ``endpoint``, ``region``, ``access_key_id``, ``secret_access_key``, ``session_token``,
    ``allow_http``, ``virtual_hosted_style_request``, ``timeout`` (of one request). What is missing comes from where
    S3 clients look for it: AWS variables, profiles of the instance.
    """

    def __init__(
        self, url: str | Path, options: Mapping[str, str] | None = None, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.url = str(url)
        self._folder: Folder | None = None
        if self.url.startswith("s3://"):
            self._store: ObjectStore = open_bucket(self.url, dict(options or {}))
        else:
            path = Path(self.url.removeprefix("file://")).expanduser().absolute()
            self._folder = Folder(path, clock)
            self._store = open_folder(path)

    async def put(self, data: bytes) -> str:
        """As ``BlobStore.put``."""
        hash = hash_of(data)
        try:
            if self._folder is not None:
                await asyncio.to_thread(self._folder.keep, key_of(hash), data)
            else:
                # Overwriting with the same content is cheap, mends a damaged object and refreshes its age, so that a
                # sweep of unused blobs does not take one that was just put again.
                await obstore.put_async(self._store, key_of(hash), data)
        except (OSError, BaseError, ValueError) as error:
            raise explained(self.url, f"cannot store a blob of {len(data)} bytes", error) from error
        return hash

    async def get(self, hash: str) -> bytes:
        """As ``BlobStore.get``."""
        key = key_of(hash)
        try:
            data = (await (await obstore.get_async(self._store, key)).bytes_async()).to_bytes()
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise explained(self.url, f"cannot read blob {hash}", error) from error
            raise self._missing(hash) from error
        except (OSError, BaseError, ValueError) as error:
            raise explained(self.url, f"cannot read blob {hash}", error) from error
        if hash_of(data) != hash:
            raise StoreCorrupt(
                f"blob {hash} in {self.url} is damaged",
                why="its content no longer matches its hash",
                fix="put back the blobs folder or bucket from a backup, then relit doctor",
            )
        return data

    async def delete(self, hash: str) -> None:
        """As ``BlobStore.delete``."""
        try:
            await obstore.delete_async(self._store, key_of(hash))
        except FileNotFoundError:
            return
        except (OSError, BaseError, ValueError) as error:
            raise explained(self.url, f"cannot delete blob {hash}", error) from error

    async def list(self, before_ms: int | None = None) -> AsyncIterator[str]:
        """As ``BlobStore.list``."""
        try:
            async for page in obstore.list(self._store, chunk_size=1000):
                for entry in page:
                    match = _KEY.fullmatch(entry["path"])
                    if match and (before_ms is None or entry["last_modified"].timestamp() * 1000 < before_ms):
                        yield match[3]
        except (OSError, BaseError, ValueError) as error:
            raise explained(self.url, "cannot list blobs", error) from error

    def _missing(self, hash: str) -> BlobMissing:
        return BlobMissing(
            f"blob {hash} is not in {self.url}",
            why="the row that names it is there, its content is not: another blob store, or a backup without blobs",
            fix="point server.blobs at the store that holds it, then relit doctor",
        )
