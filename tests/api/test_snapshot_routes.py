"""Volumes over HTTP, with the client: what goes in is what comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from relit import documents
from relit.api.parts import Parts
from relit.api.server import ApiServer
from relit.api.volumes_port import Volumes
from relit.client import Client
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.errors import Conflict, Invalid, NotFound, ServerUnreachable, StoreUnavailable, VolumeError
from relit.store.sql.sqlite.store import SqliteStore
from volumes_memory import T0, MemoryVolumes


class LostVolumes(MemoryVolumes):
    """The process that keeps them may go away."""

    lost: ServerUnreachable | None = None

    async def pin(self, agent: str, when: str, *, pinned: bool = True) -> documents.Snapshot:
        if self.lost is not None:
            raise self.lost
        return await super().pin(agent, when, pinned=pinned)


@pytest.fixture
def volumes() -> LostVolumes:
    return LostVolumes()


@pytest.fixture
def parts(store: SqliteStore, volumes: MemoryVolumes) -> Parts:
    port: Volumes = volumes
    return Parts(Engine(store, Payloads()), volumes=port)


@pytest.fixture
async def client(server: ApiServer, token: str) -> AsyncIterator[Client]:
    async with Client(server.url, token, patience=0) as client:
        yield client


async def _two(client: Client, volumes: MemoryVolumes) -> None:
    """Snapshot 1 with ``one``, snapshot 2 with ``two``."""
    await client.snapshot("clerk")
    volumes.homes["clerk"] |= {b"notes/a.md": b"two\n", b"new": b"x"}
    await client.snapshot("clerk", note="second", tag="known-good")


async def test_snapshots_are_taken_and_listed(client: Client, volumes: MemoryVolumes) -> None:
    taken = await client.snapshot("clerk", wait="stored")
    assert taken.created
    assert volumes.asked == ["stored"]
    assert not (await client.snapshot("clerk")).created
    assert [each.number for each in await client.snapshots("clerk")] == [1]
    assert [each.agent for each in (await client.volumes.list()).volumes] == ["clerk"]


async def test_who_asks_is_told_to_ask_again_only_when_nothing_was_done(client: Client, volumes: LostVolumes) -> None:
    await _two(client, volumes)
    volumes.lost = ServerUnreachable("it is away", why="refused")
    with pytest.raises(StoreUnavailable, match="keeps the volumes does not answer"):
        await client.volumes.pin("clerk", 1)
    volumes.lost = ServerUnreachable("it went away", why="broken", arrived=True)
    with pytest.raises(VolumeError, match="nobody knows whether it did it") as told:
        await client.volumes.pin("clerk", 1)
    assert not told.value.retry


async def test_pages_are_linked(client: Client, volumes: MemoryVolumes) -> None:
    await _two(client, volumes)
    page = await client.volumes.log("clerk", limit=1)
    assert (page.snapshots[0].number, page.next) == (2, 2)
    rest = await client.volumes.log("clerk", limit=1, before=page.next)
    assert (rest.snapshots[0].number, rest.next) == (1, None)


@pytest.mark.parametrize(
    ("when", "number"),
    [
        (1, 1),
        ("#2", 2),
        ("known-good", 2),
        (f"@{T0 + 119_999}", 1),
        (datetime.fromtimestamp(T0 / 1000 + 120, UTC), 2),
        ("2023-11-14T23:00:00+00:00", 2),
        ("0" * 25 + "1", 1),
    ],
)
async def test_a_snapshot_has_many_names(
    client: Client, volumes: MemoryVolumes, when: str | int | datetime, number: int
) -> None:
    await _two(client, volumes)
    assert (await client.volumes.resolve("clerk", when)).number == number


async def test_files_are_seen_as_they_were(client: Client, volumes: MemoryVolumes) -> None:
    await _two(client, volumes)
    assert b"".join([piece async for piece in client.volumes.cat("clerk", 1, "notes/a.md")]) == b"one\n"
    assert b"".join([piece async for piece in client.volumes.cat("clerk", 1, b"caf\xe9")]) == b"\x00\x01"
    found = await client.volumes.ls("clerk", 2, deep=True)
    assert [each.path for each in found.files] == ["caf\\xe9", "new", "notes/a.md"]
    with pytest.raises(NotFound, match="there was no x"):
        await anext(client.volumes.cat("clerk", 1, "x"))


async def test_an_empty_file_is_a_file(client: Client, volumes: MemoryVolumes) -> None:
    volumes.homes["clerk"][b"empty"] = b""
    await client.snapshot("clerk")
    assert b"".join([piece async for piece in client.volumes.cat("clerk", 1, "empty")]) == b""


async def test_differences_are_told_with_their_text(client: Client, volumes: MemoryVolumes) -> None:
    await _two(client, volumes)
    found = await client.volumes.diff("clerk", 1, 2)
    assert [(each.path, each.before is None) for each in found.changes] == [("new", True), ("notes/a.md", False)]
    assert "-one" in (found.changes[1].text or "")
    assert (await client.volumes.diff("clerk", 2)).b is None
    assert len((await client.volumes.diff("clerk", 1, 2, "notes", text=False)).changes) == 1


async def test_a_restore_is_planned_then_done_and_can_be_taken_back(client: Client, volumes: MemoryVolumes) -> None:
    await _two(client, volumes)
    plan = await client.restore("clerk", 1, dry_run=True, messages="drop")
    assert (plan.written, plan.removed, plan.number, plan.choice) == (["notes/a.md"], ["new"], None, "drop")
    done = await client.restore("clerk", 1, paths=["notes"])
    assert volumes.homes["clerk"][b"notes/a.md"] == b"one\n"
    assert b"new" in volumes.homes["clerk"]
    await client.restore("clerk", done.before or 0)
    assert volumes.homes["clerk"][b"notes/a.md"] == b"two\n"


async def test_a_restore_of_paths_may_be_exact_and_says_what_is_not_as_it_was(
    client: Client, volumes: MemoryVolumes
) -> None:
    await _two(client, volumes)
    assert (await client.restore("clerk", 1, paths=["new"], dry_run=True)).removed == []
    done = await client.restore("clerk", 1, paths=["new"], exact=True)
    assert done.removed == ["new"]
    assert b"new" not in volumes.homes["clerk"]
    assert [(each.path, each.why) for each in done.skipped] == [("run", "stays")]


async def test_a_whole_home_may_be_laid_anew(client: Client, volumes: MemoryVolumes) -> None:
    await _two(client, volumes)
    assert (await client.volumes.restore("clerk", 1)).replaced == ""
    assert (await client.volumes.restore("clerk", 1, full=True)).replaced == "rejected/1"
    with pytest.raises(Invalid, match="only a whole home is laid anew"):
        await client.volumes.restore("clerk", 1, ["new"], full=True)


async def test_known_good_amid_a_run_needs_force(client: Client, volumes: MemoryVolumes) -> None:
    await _two(client, volumes)
    with pytest.raises(Conflict):
        await client.volumes.tag("clerk", 1, "known-good")
    assert (await client.volumes.tag("clerk", 1, "known-good", force=True)).tags == ["known-good"]


async def test_messages_go_back_with_the_whole_home_only(client: Client, volumes: MemoryVolumes) -> None:
    await _two(client, volumes)
    with pytest.raises(Invalid, match="whole home"):
        await client.restore("clerk", 1, paths=["notes"], messages="keep")


async def test_a_fork_shares_and_a_taken_name_is_refused(client: Client, volumes: MemoryVolumes) -> None:
    await _two(client, volumes)
    assert (await client.volumes.fork("clerk", "twin", 1)).origin == "clerk@1"
    with pytest.raises(Conflict):
        await client.volumes.fork("clerk", "twin")


async def test_what_is_tagged_and_pinned_is_shown(client: Client, volumes: MemoryVolumes) -> None:
    await _two(client, volumes)
    assert (await client.volumes.tag("clerk", 1, "v1")).tags == ["v1"]
    assert (await client.volumes.tag("clerk", "v1", "v1", remove=True)).tags == []
    assert (await client.volumes.pin("clerk", 1)).pinned
    with pytest.raises(Conflict):
        await client.volumes.remove("clerk")
    assert not (await client.volumes.pin("clerk", 1, pinned=False)).pinned
    await client.volumes.remove("clerk")
    with pytest.raises(NotFound):
        await client.snapshots("clerk")


async def test_keeping_house(client: Client) -> None:
    assert (await client.volumes.prune(dry_run=True)).dropped[0].why == "older than every tier"
    assert (await client.volumes.verify()).damage[0].paths == ["notes/a.md"]
    assert (await client.volumes.verify("clerk", sample=0.1)).damage == []
    assert (await client.volumes.rebuild()).snapshots == 2
    assert (await client.volumes.stats("clerk")).agent == "clerk"


async def test_what_makes_no_sense_is_refused(client: Client, http: httpx.AsyncClient, volumes: MemoryVolumes) -> None:
    await _two(client, volumes)
    with pytest.raises(Invalid, match="names no snapshot"):
        await client.volumes.resolve("clerk", "half past nine")
    with pytest.raises(Invalid, match="tag is wrong"):
        await client.volumes.tag("clerk", 1, "yesterday")
    answer = await http.get("/v1/agents/clerk/snapshots/half%20past%20nine")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    answer = await http.get("/v1/agents/clerk/snapshots/1/files", params={"path": "a\\b"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_a_server_without_volumes_says_so(store: SqliteStore, token: str) -> None:
    from relit.api.build import build

    bare = Parts(Engine(store, Payloads()))
    server = ApiServer(build(bare), port=0, closing=bare.closing.close)
    await server.start()
    try:
        async with Client(server.url, token, patience=0) as client:
            with pytest.raises(Conflict, match="keeps no volumes"):
                await client.volumes.list()
    finally:
        await server.stop()
