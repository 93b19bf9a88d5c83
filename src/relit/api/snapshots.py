"""Volumes: an agent's home and its versions. Looking into files needs ``write``: a home may hold credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.responses import StreamingResponse

from relit import documents
from relit.api import volumes_port
from relit.api.operation import Call, Handle, Nothing, Operation
from relit.errors import Conflict, Invalid, ServerUnreachable, StoreUnavailable, VolumeError
from relit.lib import names
from relit.lib.moments import check_tag, fixed

_BYTES = "application/octet-stream"

Path = Annotated[str, Meta(description=r"Relative to the home; a byte that is not UTF-8 is `\xNN`, a backslash `\\`.")]
When = Annotated[
    str, Meta(min_length=1, description="A number, id or tag, `@MS`, or a time: `14:02`, `10 minutes ago`, ISO 8601.")
]


class LogQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page of snapshots."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    before: Annotated[int, Meta(ge=1)] | None = None


class FilesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which folder; ``deep``: and all below it."""

    path: Path = ""
    deep: bool = False


class FileQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which file."""

    path: Path


class DiffQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Compared with what: another snapshot, or the home as it is (``now``)."""

    to: When = volumes_port.NOW
    path: Path = ""
    text: bool = True


class StatsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one agent, or of all."""

    agent: str | None = None


class RemoveQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``home``: put the home away too."""

    home: bool = False


class TakeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A snapshot. ``wait``: until it is on the node's disk, or in the blob store."""

    note: str = ""
    wait: documents.Mark = "local"
    tag: str | None = None


class RestoreBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Back to ``at``: everything, or ``paths`` (``exact``: what came since at and below them is removed). ``full``: the
    home is laid anew, and what was there put aside. ``messages``: the journal too, and what of messages that came
    since."""

    at: When
    paths: list[Path] = []
    dry_run: bool = False
    exact: bool = False
    full: bool = False
    messages: documents.Messages | None = None


class ForkAgentBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The new agent's name, and of which moment its home is."""

    new: str
    at: When = "now"


class TagBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name for a snapshot, or one less. ``force``: known-good, although a run was unfinished."""

    tag: str
    remove: bool = False
    force: bool = False


class PinBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether it is kept whatever the tiers say."""

    pinned: bool = True


class PruneBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one agent, or of all; only said, or done."""

    agent: str | None = None
    dry_run: bool = False


class VerifyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one agent, or of all; ``sample``: the share of packs that is read."""

    agent: str | None = None
    sample: Annotated[float, Meta(gt=0, le=1)] = 1.0


def _volumes(call: Call) -> volumes_port.Volumes:
    found = call.api.parts.volumes
    if found is None:
        raise Conflict(
            "this server keeps no volumes", why="it runs without a node on this machine", fix="relit up, then again"
        )
    return found


def _at(call: Call) -> tuple[str, str]:
    return call.path("name"), _when(call, call.path("when"))


def _when(call: Call, text: str) -> str:
    try:
        return fixed(text, call.api.parts.clock.now_ms())
    except ValueError as error:
        raise Invalid(f"{text!r} names no snapshot", why=str(error)) from error


def _path(text: str) -> bytes:
    try:
        return names.given(text)
    except ValueError as error:
        raise Invalid("path is wrong", why=str(error)) from error


def _tag(text: str) -> str:
    try:
        return check_tag(text)
    except ValueError as error:
        raise Invalid("tag is wrong", why=str(error)) from error


async def list_volumes(call: Call) -> documents.Volumes:
    """All volumes with their figures."""
    return await _volumes(call).list()


async def stats(call: Call) -> documents.VolumeStats:
    """Figures of one volume, or of all."""
    return await _volumes(call).stats(call.query.agent)


async def log(call: Call) -> documents.Snapshots:
    """An agent's snapshots, newest first."""
    return await _volumes(call).log(call.path("name"), limit=call.query.limit, before=call.query.before)


async def take(call: Call) -> documents.Taken:
    """Take a snapshot now."""
    asked: TakeBody = call.body
    tag = None if asked.tag is None else _tag(asked.tag)
    return await _volumes(call).snapshot(call.path("name"), note=asked.note, wait=asked.wait, tag=tag)


async def resolve(call: Call) -> documents.Snapshot:
    """The snapshot that a number, id, tag or time means."""
    return await _volumes(call).resolve(*_at(call))


async def ls(call: Call) -> documents.Files:
    """What is in a folder of a snapshot."""
    return await _volumes(call).ls(*_at(call), _path(call.query.path), deep=call.query.deep)


async def cat(call: Call) -> StreamingResponse:
    """A file's content as it was."""
    pieces = _begun(_volumes(call).cat(*_at(call), _path(call.query.path)))
    first = await anext(pieces)  # what is wrong with the name is told as a problem, not as a torn answer
    return StreamingResponse(_all(first, pieces), media_type=_BYTES)


async def _begun(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, at least one: an empty file is an empty piece."""
    empty = True
    async for piece in pieces:
        empty = False
        yield piece
    if empty:
        yield b""


async def _all(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def diff(call: Call) -> documents.Diff:
    """What differs between a snapshot and another one, or the home as it is."""
    query: DiffQuery = call.query
    to = query.to if query.to == volumes_port.NOW else _when(call, query.to)
    return await _volumes(call).diff(*_at(call), to, _path(query.path), text=query.text)


async def tag(call: Call) -> documents.Snapshot:
    """Name a snapshot, or take a name off it."""
    return await _volumes(call).tag(*_at(call), _tag(call.body.tag), remove=call.body.remove, force=call.body.force)


async def pin(call: Call) -> documents.Snapshot:
    """Keep a snapshot whatever the tiers say, or no longer."""
    return await _volumes(call).pin(*_at(call), pinned=call.body.pinned)


async def restore(call: Call) -> documents.Restored:
    """Put files back as they were. Answered when it is done."""
    asked: RestoreBody = call.body
    if asked.messages is not None and asked.paths:
        raise Invalid("messages go back with the whole home only", fix="leave out paths, or messages")
    if asked.full and asked.paths:
        raise Invalid("only a whole home is laid anew", fix="leave out paths, or full")
    paths = [_path(each) for each in asked.paths]
    return await _volumes(call).restore(
        call.path("name"),
        _when(call, asked.at),
        paths,
        dry_run=asked.dry_run,
        exact=asked.exact,
        full=asked.full,
        messages=asked.messages,
    )


async def fork(call: Call) -> documents.Volume:
    """Make a new agent whose home is a snapshot of this one's."""
    return await _volumes(call).fork(call.path("name"), call.body.new, _when(call, call.body.at))


async def prune(call: Call) -> documents.Pruned:
    """Drop snapshots that no tier keeps, and packs that nothing refers to."""
    return await _volumes(call).prune(call.body.agent, dry_run=call.body.dry_run)


async def verify(call: Call) -> documents.Verified:
    """Read packs back and check every chunk."""
    return await _volumes(call).verify(call.body.agent, sample=call.body.sample)


async def rebuild(call: Call) -> documents.Rebuilt:
    """Put volumes that the store has lost back into it, out of the packs."""
    return await _volumes(call).rebuild()


async def remove(call: Call) -> documents.Removed:
    """Forget a volume with all its snapshots. The home stays, or is put away."""
    return await _volumes(call).remove(call.path("name"), home=call.query.home)


_AGENT = "/v1/agents/{name}"
_SNAPSHOT = f"{_AGENT}/snapshots/{{when}}"


def _reached(handle: Handle) -> Handle:
    """Says what is missing when the process that keeps the volumes does not answer."""

    async def asked(call: Call) -> object:
        try:
            return await handle(call)
        except ServerUnreachable as error:
            if error.arrived:  # who is told "unavailable" asks again
                raise VolumeError(
                    "the process that keeps the volumes went away before it answered: nobody knows whether it did it",
                    why=error.why,
                    fix="relit volume ls and relit volume log AGENT show what there is; then again",
                ) from error
            raise StoreUnavailable(
                "the process that keeps the volumes does not answer",
                why=error.why,
                fix="relit ps shows whether `volumes` runs; its log is agents/volumes/log/out.log of the data folder",
            ) from error

    return asked


def _row(method: str, path: str, handle: Handle, scope: str = "read", **more: object) -> Operation:
    """An operation of the tag ``volumes``, named and summed up by its handler."""
    doc = (handle.__doc__ or "").strip()
    kind = {"method": method, "path": path, "scope": scope, "summary": doc, "tag": "volumes"} | more
    return Operation(handle=_reached(handle), **kind)  # type: ignore[arg-type]


OPERATIONS = (
    _row("GET", "/v1/volumes", list_volumes, name="list_volumes", answer=documents.Volumes),
    _row("GET", "/v1/volumes/stats", stats, name="volume_stats", query=StatsQuery, answer=documents.VolumeStats),
    _row("POST", "/v1/volumes/prune", prune, "admin", name="prune", body=PruneBody, answer=documents.Pruned),
    _row("POST", "/v1/volumes/verify", verify, "admin", name="verify", body=VerifyBody, answer=documents.Verified),
    _row("POST", "/v1/volumes/rebuild", rebuild, "admin", name="rebuild", body=Nothing, answer=documents.Rebuilt),
    _row(
        "DELETE",
        "/v1/volumes/{name}",
        remove,
        "admin",
        name="remove_volume",
        query=RemoveQuery,
        answer=documents.Removed,
    ),
    _row("GET", f"{_AGENT}/snapshots", log, name="list_snapshots", query=LogQuery, answer=documents.Snapshots),
    _row("POST", f"{_AGENT}/snapshots", take, "write", name="take_snapshot", body=TakeBody, answer=documents.Taken),
    _row("GET", _SNAPSHOT, resolve, name="get_snapshot", answer=documents.Snapshot),
    _row("GET", f"{_SNAPSHOT}/files", ls, name="list_files", query=FilesQuery, answer=documents.Files),
    _row("GET", f"{_SNAPSHOT}/file", cat, "write", name="read_file", query=FileQuery, answer=_BYTES),
    _row("GET", f"{_SNAPSHOT}/diff", diff, "write", name="diff", query=DiffQuery, answer=documents.Diff),
    _row("POST", f"{_SNAPSHOT}/tag", tag, "write", name="tag_snapshot", body=TagBody, answer=documents.Snapshot),
    _row("POST", f"{_SNAPSHOT}/pin", pin, "write", name="pin_snapshot", body=PinBody, answer=documents.Snapshot),
    _row("POST", f"{_AGENT}/restore", restore, "write", name="restore", body=RestoreBody, answer=documents.Restored),
    _row("POST", f"{_AGENT}/fork", fork, "write", name="fork_agent", body=ForkAgentBody, answer=documents.Volume),
)
