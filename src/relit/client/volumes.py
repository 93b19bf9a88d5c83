"""Agents' homes and their versions, from afar: ``client.volumes``.

    await client.volumes.snapshot("auditor", tag="before-upgrade")
    await client.volumes.restore("auditor", "10 minutes ago", ["notes"])

``when`` is a number, an id, a tag, or a time as people write it; a time without a zone is one of this machine's zone.
Paths are relative to the home, as bytes or text.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime
from os import fsencode
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from relit import documents
from relit.documents import Mark, Messages
from relit.errors import Invalid
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.moments import fixed
from relit.lib.names import shown
from relit.link import Link

T = TypeVar("T")

When = str | int | datetime

_LONG = 24 * 3600.0  # seconds: a restore or a check of a large volume answers when it is done
_NOW = "now"


def _when(when: When) -> str:
    """A moment as one that means the same on the server, whatever its clock and zone."""
    if isinstance(when, datetime):
        return f"@{round(when.timestamp() * 1000)}"
    if when == _NOW:
        return _NOW
    try:
        return fixed(str(when), SYSTEM_CLOCK.now_ms())
    except ValueError as error:
        raise Invalid(f"{when!r} names no snapshot", why=str(error), fix="relit volume log AGENT") from error


def _path(path: str | bytes) -> str:
    return shown(fsencode(path).strip(b"/"))


def _part(text: str) -> str:
    return quote(text, safe="")


class Volumes:
    """The volumes of a server."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def list(self) -> documents.Volumes:
        """All volumes with their figures."""
        return await self._get("/v1/volumes", documents.Volumes)

    async def log(self, agent: str, *, limit: int = 100, before: int | None = None) -> documents.Snapshots:
        """A page of an agent's snapshots, newest first."""
        return await self._get(_of(agent, "snapshots"), documents.Snapshots, limit=limit, before=before)

    async def resolve(self, agent: str, when: When) -> documents.Snapshot:
        """The snapshot that ``when`` means."""
        return await self._get(_at(agent, when), documents.Snapshot)

    async def ls(self, agent: str, when: When, path: str | bytes = b"", *, deep: bool = False) -> documents.Files:
        """What is in a folder (``deep``: and below it), or the file that ``path`` is."""
        return await self._get(_at(agent, when, "/files"), documents.Files, path=_path(path), deep=deep)

    async def cat(self, agent: str, when: When, path: str | bytes) -> AsyncIterator[bytes]:
        """A file's content in pieces."""
        query = {"path": _path(path)}
        async with aclosing(self._link.pieces(_at(agent, when, "/file"), query)) as pieces:
            async for piece in pieces:
                yield piece

    async def diff(
        self, agent: str, a: When, b: When = _NOW, path: str | bytes = b"", *, text: bool = True
    ) -> documents.Diff:
        """What differs at and below ``path``; ``b`` may be ``now``: the home as it is."""
        query = {"to": _when(b), "path": _path(path), "text": text}
        return await self._get(_at(agent, a, "/diff"), documents.Diff, **query)

    async def stats(self, agent: str | None = None) -> documents.VolumeStats:
        """Figures of one volume, or of all."""
        return await self._get("/v1/volumes/stats", documents.VolumeStats, agent=agent)

    async def snapshot(
        self, agent: str, *, note: str = "", wait: Mark = "local", tag: str | None = None
    ) -> documents.Taken:
        """Take one now. Back when it is on the node's disk, or (``stored``) in the blob store."""
        body = {"note": note, "wait": wait, "tag": tag}
        return await self._post(_of(agent, "snapshots"), documents.Taken, body)

    async def restore(
        self,
        agent: str,
        when: When,
        paths: Sequence[str | bytes] = (),
        *,
        dry_run: bool = False,
        exact: bool = False,
        full: bool = False,
        messages: Messages | None = None,
    ) -> documents.Restored:
        """Put files back as they were. ``exact``: what came since at and below ``paths`` is removed. ``full``: the
        whole home is laid anew, and what was there put aside. ``messages``: the journal goes back too, and what of
        messages since then."""
        body = {
            "at": _when(when),
            "paths": [_path(path) for path in paths],
            "dry_run": dry_run,
            "exact": exact,
            "full": full,
            "messages": messages,
        }
        return await self._post(_of(agent, "restore"), documents.Restored, body, repeatable=dry_run)

    async def fork(self, agent: str, new: str, when: When = _NOW) -> documents.Volume:
        """Make the agent ``new``, whose home is that snapshot."""
        return await self._post(_of(agent, "fork"), documents.Volume, {"new": new, "at": _when(when)})

    async def tag(
        self, agent: str, when: When, tag: str, *, remove: bool = False, force: bool = False
    ) -> documents.Snapshot:
        """Name a snapshot, or take the name off it. ``force``: known-good, although a run was unfinished."""
        body = {"tag": tag, "remove": remove, "force": force}
        return await self._post(_at(agent, when, "/tag"), documents.Snapshot, body, repeatable=not remove)

    async def pin(self, agent: str, when: When, *, pinned: bool = True) -> documents.Snapshot:
        """Keep a snapshot whatever the tiers say, or no longer."""
        return await self._post(_at(agent, when, "/pin"), documents.Snapshot, {"pinned": pinned}, repeatable=True)

    async def prune(self, agent: str | None = None, *, dry_run: bool = False) -> documents.Pruned:
        """Drop snapshots that no tier keeps, and packs that nothing refers to."""
        return await self._post("/v1/volumes/prune", documents.Pruned, {"agent": agent, "dry_run": dry_run})

    async def verify(self, agent: str | None = None, *, sample: float = 1.0) -> documents.Verified:
        """Read that share of the packs (0 … 1) back and check every chunk."""
        body = {"agent": agent, "sample": sample}
        return await self._post("/v1/volumes/verify", documents.Verified, body, repeatable=True)

    async def rebuild(self) -> documents.Rebuilt:
        """Put volumes that the store has lost back into it, out of the packs."""
        return await self._post("/v1/volumes/rebuild", documents.Rebuilt, {})

    async def remove(self, agent: str, *, home: bool = False) -> documents.Removed:
        """Forget a volume with all its snapshots. The home stays (and gets a new volume), or is put away."""
        data = await self._link.request("DELETE", f"/v1/volumes/{_part(agent)}", query={"home": home}, read=_LONG)
        return msgspec.json.decode(data, type=documents.Removed)

    async def _get(self, path: str, shape: type[T], /, **query: Any) -> T:
        return msgspec.json.decode(await self._link.request("GET", path, query=query, read=_LONG), type=shape)

    async def _post(self, path: str, shape: type[T], body: object, *, repeatable: bool = False) -> T:
        data = await self._link.request("POST", path, body=body, repeatable=repeatable, read=_LONG)
        return msgspec.json.decode(data, type=shape)


def _of(agent: str, what: str) -> str:
    return f"/v1/agents/{_part(agent)}/{what}"


def _at(agent: str, when: When, what: str = "") -> str:
    return f"{_of(agent, 'snapshots')}/{_part(_when(when))}{what}"
