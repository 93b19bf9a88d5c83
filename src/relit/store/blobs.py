"""Blobs: large contents under the hash of what they hold, in a folder or an S3 bucket.

A blob never changes, so putting it twice is harmless, and reading it back proves that it is whole. In a folder this
module writes by itself (new file, fsync, rename, fsync of each folder above): obstore's own folder writes reach the
disk some time later, and a row that refers to a blob must not be on disk before the blob is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore, S3Store

from relit.errors import BlobMissing, ConfigError, StoreCorrupt, StoreError, StoreFull, StoreUnavailable
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.lib.durations import to_ms

_HASH = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"([0-9a-f]{2})/([0-9a-f]{2})/(\1\2[0-9a-f]{60})")
_LEFTOVER_MS = 24 * 3_600_000
_FULL = re.compile(r"InsufficientStorage|QuotaExceeded|os error 28\b|os error 122\b|\b507\b", re.IGNORECASE)
_CONFIG_KEYS = frozenset({"endpoint", "region", "access_key_id", "secret_access_key", "session_token"})
_CLIENT_KEYS = frozenset({"allow_http", "virtual_hosted_style_request", "timeout"})


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
        self._folder: _Folder | None = None
        if self.url.startswith("s3://"):
            self._store: ObjectStore = _bucket(self.url, dict(options or {}))
        else:
            path = Path(self.url.removeprefix("file://")).expanduser().absolute()
            self._folder = _Folder(path, clock)
            self._store = _opened(path)

    async def put(self, data: bytes) -> str:
        """As ``BlobStore.put``."""
        hash = hash_of(data)
        try:
            if self._folder is not None:
                await asyncio.to_thread(self._folder.put, key_of(hash), data)
            else:
                # Overwriting with the same content is cheap, mends a damaged object and refreshes its age, so that a
                # sweep of unused blobs does not take one that was just put again.
                await obstore.put_async(self._store, key_of(hash), data)
        except (OSError, BaseError, ValueError) as error:
            raise self._explained(f"cannot store a blob of {len(data)} bytes", error) from error
        return hash

    async def get(self, hash: str) -> bytes:
        """As ``BlobStore.get``."""
        key = key_of(hash)
        try:
            data = (await (await obstore.get_async(self._store, key)).bytes_async()).to_bytes()
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._explained(f"cannot read blob {hash}", error) from error
            raise self._missing(hash) from error
        except (OSError, BaseError, ValueError) as error:
            raise self._explained(f"cannot read blob {hash}", error) from error
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
            raise self._explained(f"cannot delete blob {hash}", error) from error

    async def list(self, before_ms: int | None = None) -> AsyncIterator[str]:
        """As ``BlobStore.list``."""
        try:
            async for page in obstore.list(self._store, chunk_size=1000):
                for entry in page:
                    match = _KEY.fullmatch(entry["path"])
                    if match and (before_ms is None or entry["last_modified"].timestamp() * 1000 < before_ms):
                        yield match[3]
        except (OSError, BaseError, ValueError) as error:
            raise self._explained("cannot list blobs", error) from error

    def _missing(self, hash: str) -> BlobMissing:
        return BlobMissing(
            f"blob {hash} is not in {self.url}",
            why="the row that names it is there, its content is not: another blob store, or a backup without blobs",
            fix="point server.blobs at the store that holds it, then relit doctor",
        )

    def _explained(self, what: str, error: Exception) -> StoreError:
        # Below its first lines obstore's text is a dump of structures for its own developers.
        why = str(error).split("\n\nDebug source", maxsplit=1)[0]
        what = f"{what} in {self.url}"
        if (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or _FULL.search(why):
            return StoreFull(what, why=why, fix="free some space there; relit goes on by itself")
        if isinstance(error, (PermissionError, PermissionDeniedError, UnauthenticatedError)):
            return StoreUnavailable(
                what, why=why, fix="check the permissions or keys of server.blobs, then relit doctor"
            )
        if "NoSuchBucket" in why:
            return StoreUnavailable(what, why=why, fix="make the bucket, or correct server.blobs in relit.toml")
        return StoreUnavailable(what, why=why, fix="relit doctor")


def _bucket(url: str, options: dict[str, str]) -> ObjectStore:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if unknown := options.keys() - _CONFIG_KEYS - _CLIENT_KEYS:
        raise ConfigError(
            f"unknown option for {url}: {', '.join(sorted(unknown))}",
            fix=f"known are {', '.join(sorted(_CONFIG_KEYS | _CLIENT_KEYS))}",
        )
    config: dict[str, Any] = {key: options[key] for key in _CONFIG_KEYS & options.keys()}
    if "virtual_hosted_style_request" in options:
        config["virtual_hosted_style_request"] = _is_true(options["virtual_hosted_style_request"])
    try:
        if not bucket:
            raise ValueError("no bucket is named")
        timeout = timedelta(milliseconds=to_ms(options.get("timeout", "30s")))
        return S3Store(
            bucket,
            prefix=prefix.strip("/") or None,
            **config,
            client_options={"allow_http": _is_true(options.get("allow_http", "false")), "timeout": timeout},
            # obstore's default goes on for three minutes: a worker would rather let go of the run and try later.
            retry_config={"max_retries": 4, "retry_timeout": timeout},
        )
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"cannot use {url} as a blob store",
            why=str(error).split("\n\nDebug source", maxsplit=1)[0],
            fix='write s3://bucket/prefix; see "blobs" in the settings',
        ) from error


def _is_true(text: str) -> bool:
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _opened(path: Path) -> ObjectStore:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LocalStore(path)
    except (OSError, BaseError) as error:
        raise ConfigError(
            f"cannot use {path} as a blob store",
            why=str(error).split("\n\nDebug source", maxsplit=1)[0],
            fix="choose a folder you may write to (server.blobs in relit.toml)",
        ) from error


class _Folder:
    """Durable writes into a folder. Blocking: it runs in a thread."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._swept = False

    def put(self, key: str, data: bytes) -> None:
        """Return when ``data`` is on disk under ``key``, whole, with every folder that leads to it."""
        target = self._root / key
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._refresh(target, data):
            self._write(target, data)
        # Also when it was there: its writer may not have come as far as this yet.
        for folder in (target.parent, target.parent.parent, self._root, self._root.parent):
            _sync_folder(folder)

    def _refresh(self, target: Path, data: bytes) -> bool:
        try:
            if target.read_bytes() != data:
                return False
            os.utime(target)
        except FileNotFoundError:
            return False
        return True

    def _write(self, target: Path, data: bytes) -> None:
        drafts = self._root / "tmp"
        drafts.mkdir(mode=0o700, exist_ok=True)
        self._sweep(drafts)
        draft = drafts / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, target)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()
            raise

    def _sweep(self, drafts: Path) -> None:
        """Once for each process: remove what writers left that died in the middle."""
        if self._swept:
            return
        self._swept = True
        oldest = (self._clock.now_ms() - _LEFTOVER_MS) / 1000
        for left in drafts.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if left.stat().st_mtime < oldest:
                    left.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
