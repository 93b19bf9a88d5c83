"""The catalog's volumes and snapshots, on both dialects: what ``relit.volumes.base.Catalog`` promises."""

from __future__ import annotations

import msgspec
import pytest
from catalogs import (
    NODE,
    T0,
    add_chunks,
    catalog_of,
    chunk,
    commit,
    events,
    file,
    numbers,
    pack,
    paths,
    snapshot,
    state,
    take,
    volume,
)
from conformance import OpenStore, add, ended, fence, running, signal_wait, step

from relit.errors import Conflict, NotFound, Overtaken
from relit.lib.ids import new_id
from relit.manifest import Delta, Pack, Place, Position, Skipped, Volume
from relit.store.base import Store
from relit.store.sql.catalog import SqlCatalog


@pytest.fixture
def catalog(store: Store) -> SqlCatalog:
    return catalog_of(store)


# --- the store and its volumes ---------------------------------------------------------------------------------------


async def test_the_store_keeps_its_identity(catalog: SqlCatalog, open_store: OpenStore) -> None:
    first = await catalog.identity()
    other = open_store()
    await other.start()
    try:
        assert first == await catalog.identity() == await catalog_of(other).identity()
    finally:
        await other.stop()


async def test_a_volume_is_found_by_its_name(catalog: SqlCatalog) -> None:
    wanted = Volume(id=new_id(), name="agent", node=NODE, created_at_ms=T0, origin="other@3")
    assert await catalog.make_volume(wanted) == wanted == await catalog.volume("agent")
    other = await volume(catalog, "again")
    assert await catalog.volumes() == [other, wanted]  # by name


async def test_a_volume_made_twice_is_the_first(catalog: SqlCatalog, store: Store) -> None:
    first = await volume(catalog)
    assert await volume(catalog) == first
    assert await events(store, "volume.made") == [{"volume": "agent", "origin": ""}]


async def test_an_unknown_volume_is_not_found(catalog: SqlCatalog) -> None:
    with pytest.raises(NotFound):
        await catalog.volume("nobody")
    with pytest.raises(NotFound):
        await catalog.remove_volume("nobody")
    with pytest.raises(NotFound):
        await catalog.stage("nobody", 1, Delta())


async def test_a_removed_volume_leaves_nothing(catalog: SqlCatalog) -> None:
    home, other = await volume(catalog), await volume(catalog, "other")
    for each in (home, other):
        await take(catalog, each, 1, file(b"a", 1))
        await take(catalog, each, 2, file(b"a", 2))
    await catalog.tag(home.id, 1, "release")
    await catalog.remove_volume("agent")
    assert [each.name for each in await catalog.volumes()] == ["other"]
    assert await catalog.snapshots(home.id) == await catalog.tree(home.id, 2) == []
    assert await catalog.tagged(home.id, "release") is None
    assert await paths(catalog, other, 2) == [b"a"]
    assert (await catalog.stats()).entries == 2


async def test_a_volume_with_a_pinned_snapshot_is_not_removed(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1, file(b"a"))
    await catalog.pin(home.id, 1, True)
    with pytest.raises(Conflict):
        await catalog.remove_volume("agent")
    assert await paths(catalog, home, 1) == [b"a"]
    await catalog.pin(home.id, 1, False)
    await catalog.remove_volume("agent")
    assert await catalog.volumes() == []


# --- commit ----------------------------------------------------------------------------------------------------------


async def test_a_snapshot_is_kept_as_it_was_given(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    given = snapshot(
        home, 1, reason="turn", files=1, bytes=7, fresh=3, freeze_us=12, quiescent=True, note="why",
        position=Position(event="e", runs={"r": 4}), skipped=[Skipped(b"\xff.sock", "a socket")], local_at_ms=T0 + 5,
    )  # fmt: skip
    answered = await catalog.commit(commit(home, 1, snapshot=given))
    assert answered == given == await catalog.snapshot(home.id, 1)
    assert (await catalog.volume("agent")).newest == 1


async def test_only_the_next_number_is_taken(catalog: SqlCatalog, store: Store) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1, file(b"a", 1))
    for number in (0, 1, 3):
        asked = commit(
            home, number, Delta(entries=[file(b"b", 2)], gone=[b"a"]), packs=[pack("p")],
            chunks=[(chunk(2), Place("p", 0, 1, 1))],
        )  # fmt: skip
        with pytest.raises(Overtaken) as caught:
            await catalog.commit(asked)
        assert caught.value.retry
    assert numbers(await catalog.snapshots(home.id)) == [1]
    assert await catalog.tree(home.id, 1) == [file(b"a", 1)]
    assert await catalog.packs() == []
    assert await catalog.places([chunk(2)]) == {}
    assert len(await events(store, "snapshot.taken")) == 1


async def test_a_commit_asked_for_twice_is_answered_as_the_first(catalog: SqlCatalog, store: Store) -> None:
    home = await volume(catalog)
    asked = commit(home, 1, Delta(entries=[file(b"a", 1)]))
    first = await catalog.commit(asked)
    await take(catalog, home, 2, gone=[b"a"])
    assert await catalog.commit(asked) == first
    assert (await paths(catalog, home, 1), await paths(catalog, home, 2)) == ([b"a"], [])
    assert [each["number"] for each in await events(store, "snapshot.taken")] == [1, 2]


async def test_a_commit_asked_for_again_tells_what_became_of_it(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    asked = commit(home, 1)
    await catalog.commit(asked)
    await catalog.tag(home.id, 1, "release")
    assert await catalog.commit(asked) == await catalog.snapshot(home.id, 1)


async def test_a_commit_records_what_was_taken(catalog: SqlCatalog, store: Store) -> None:
    home = await volume(catalog)
    await catalog.commit(commit(home, 1, snapshot=snapshot(home, 1, reason="turn", files=3, fresh=9, freeze_us=40)))
    [told] = [each for each in await store.events() if each.name == "snapshot.taken"]
    assert told.agent == "agent"
    assert told.data == {"volume": "agent", "number": 1, "reason": "turn", "files": 3, "fresh": 9, "freeze_us": 40}


@pytest.mark.parametrize("ending", ["condemn", "bury"])
async def test_a_commit_is_refused_when_a_chunk_it_reuses_is_going(catalog: SqlCatalog, ending: str) -> None:
    home = await volume(catalog)
    await add_chunks(catalog, pack("old"), 1, 2)
    await catalog.condemn(["old"], T0)
    if ending == "bury":
        assert await catalog.bury("old")
    with pytest.raises(Overtaken):
        await take(catalog, home, 1, file(b"a", 1), reused=[chunk(1)])
    assert await catalog.snapshots(home.id) == await catalog.tree(home.id, 1) == []
    await add_chunks(catalog, pack("new"), 1)
    await take(catalog, home, 1, file(b"a", 1), reused=[chunk(1)])


async def test_a_commit_is_refused_when_a_pack_it_wrote_to_is_going(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    await catalog.put_packs([pack("old"), pack("open", "open")])
    await catalog.condemn(["old"], T0)
    for into in (["old"], ["open", "old"], ["unknown"]):
        with pytest.raises(Overtaken):
            await take(catalog, home, 1, file(b"a"), into=into)
    assert await catalog.snapshots(home.id) == []
    await take(catalog, home, 1, file(b"a"), into=["open", "fresh"], packs=[pack("fresh", "open")])
    assert await state(catalog, "fresh") == "open"


async def test_a_commit_brings_its_chunks_and_packs(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    at = Place("p", 4, 5, 6)
    await take(catalog, home, 1, file(b"a", 1), chunks=[(chunk(1), at)], packs=[pack("p", "open", size=9)])
    assert await catalog.places([chunk(1)], NODE) == {chunk(1): at}
    await take(catalog, home, 2, packs=[pack("p", "open", size=90)], into=["p"])
    assert [each.size for each in await catalog.packs()] == [90]


# --- finding snapshots -----------------------------------------------------------------------------------------------


async def test_snapshots_are_listed_newest_first_by_pages(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    taken = [await take(catalog, home, number) for number in range(1, 6)]
    assert await catalog.snapshots(home.id) == taken[::-1]
    assert numbers(await catalog.snapshots(home.id, limit=2)) == [5, 4]
    assert numbers(await catalog.snapshots(home.id, before=4, limit=2)) == [3, 2]
    assert numbers(await catalog.snapshots(home.id, since_ms=T0 + 4000)) == [5, 4]


async def test_a_snapshot_is_found_by_moment(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    for number in (1, 2, 3):
        await take(catalog, home, number)
    at = [await catalog.snapshot_at(home.id, T0 + ms) for ms in (999, 1000, 1999, 2000, 9999)]
    assert [each and each.number for each in at] == [None, 1, 1, 2, 3]


async def test_an_unknown_snapshot_is_not_found(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1)
    with pytest.raises(NotFound):
        await catalog.snapshot(home.id, 2)
    with pytest.raises(NotFound):
        await catalog.tag(home.id, 2, "x")
    with pytest.raises(NotFound):
        await catalog.pin(home.id, 2, True)


# --- tags and pins ---------------------------------------------------------------------------------------------------


async def test_a_tag_moves(catalog: SqlCatalog, store: Store) -> None:
    home = await volume(catalog)
    for number in (1, 2):
        await take(catalog, home, number)
        await catalog.tag(home.id, number, "release")
        await catalog.tag(home.id, number, "release")
    assert [each.tags for each in await catalog.snapshots(home.id)] == [["release"], []]
    found = await catalog.tagged(home.id, "release")
    assert found is not None
    assert (found.number, found.tags) == (2, ["release"])
    assert {"volume": "agent", "number": 2, "what": "tagged release"} in await events(store, "snapshot.tagged")


async def test_known_good_stands_on_many(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    for number in (1, 2, 3):
        await take(catalog, home, number)
    for number in (1, 2):
        await catalog.tag(home.id, number, "known-good")
    await catalog.tag(home.id, 1, "alpha")
    assert [each.tags for each in await catalog.snapshots(home.id)] == [[], ["known-good"], ["alpha", "known-good"]]
    found = await catalog.tagged(home.id, "known-good")
    assert found is not None
    assert found.number == 2


async def test_tags_are_taken_from_one_or_all(catalog: SqlCatalog, store: Store) -> None:
    home = await volume(catalog)
    for number in (1, 2, 3):
        await take(catalog, home, number)
        await catalog.tag(home.id, number, "known-good")
    await catalog.untag(home.id, "known-good", 2)
    assert [each.tags for each in await catalog.snapshots(home.id)] == [["known-good"], [], ["known-good"]]
    await catalog.untag(home.id, "known-good")
    assert await catalog.tagged(home.id, "known-good") is None
    assert {"volume": "agent", "number": 2, "what": "lost known-good"} in await events(store, "snapshot.tagged")


async def test_tags_of_two_volumes_are_apart(catalog: SqlCatalog) -> None:
    home, other = await volume(catalog), await volume(catalog, "other")
    for each in (home, other):
        await take(catalog, each, 1)
    await catalog.tag(home.id, 1, "release")
    assert await catalog.tagged(other.id, "release") is None
    assert (await catalog.snapshot(other.id, 1)).tags == []


async def test_a_pin_is_set_and_taken(catalog: SqlCatalog, store: Store) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1)
    for pinned in (True, True, False):
        await catalog.pin(home.id, 1, pinned)
        assert (await catalog.snapshot(home.id, 1)).pinned is pinned
    assert [each["what"] for each in await events(store, "snapshot.tagged")] == ["pinned", "pinned", "unpinned"]


# --- stored ----------------------------------------------------------------------------------------------------------


def at(place: Pack) -> Place:
    return Place(place.id, 0, 10, 10)


async def test_a_snapshot_is_stored_with_its_pack(catalog: SqlCatalog, store: Store) -> None:
    home = await volume(catalog)
    here = pack("p", "open")
    await take(catalog, home, 1, packs=[here], at=at(here))
    await take(catalog, home, 2, packs=[here], at=at(here))
    await catalog.tag(home.id, 2, "release")
    assert [(each.number, each.tags) for each in await catalog.unstored(NODE)] == [(1, []), (2, ["release"])]
    done = await catalog.stored("p")
    assert done == [await catalog.snapshot(home.id, 1), await catalog.snapshot(home.id, 2)]
    assert all(each.stored_at_ms for each in done)
    assert await state(catalog, "p") == "stored"
    assert await catalog.unstored(NODE) == []
    assert await catalog.stored("p") == []
    assert await events(store, "snapshot.stored") == [{"volume": "agent", "number": n} for n in (1, 2)]


async def test_a_snapshot_waits_for_earlier_packs(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    first, second, third = pack("z", "sealed", age=3), pack("y", "sealed", age=2), pack("x", "open", age=1)
    for number, each in enumerate((first, second, third), 1):
        await take(catalog, home, number, packs=[each], at=at(each))
    assert await catalog.stored("y") == []
    assert numbers(await catalog.stored("z")) == [1, 2]
    assert numbers(await catalog.stored("x")) == [3]


async def test_packs_of_other_nodes_do_not_hold_up(catalog: SqlCatalog) -> None:
    home, there = await volume(catalog), await volume(catalog, "other", node="there")
    early, late = pack("a", "sealed", node="there", age=9), pack("b", "sealed", age=1)
    await take(catalog, there, 1, packs=[early], at=at(early))
    await take(catalog, home, 1, packs=[late], at=at(late))
    assert [each.volume for each in await catalog.stored("b")] == [home.id]
    assert [each.volume for each in await catalog.unstored("there")] == [there.id]
    assert await catalog.unstored(NODE) == []


async def test_a_fork_is_stored_once_it_is_described(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    first, second = pack("p", "open", age=2), pack("q", "open", age=1)
    await take(catalog, home, 1, file(b"a", 1), packs=[first], at=at(first))
    new = Volume(id=new_id(), name="fork", node=NODE, created_at_ms=T0)
    await catalog.fork(home.id, 1, new, snapshot(new, 1, reason="fork"))
    assert [each.volume for each in await catalog.undescribed(NODE)] == [new.id]
    assert [each.volume for each in await catalog.stored("p")] == [home.id]
    assert [each.volume for each in await catalog.unstored(NODE)] == [new.id]
    await catalog.described(new.id, 1, at(second), [second])
    assert await catalog.undescribed(NODE) == []
    assert [each.volume for each in await catalog.stored("q")] == [new.id]


# --- fork ------------------------------------------------------------------------------------------------------------


async def test_a_fork_goes_its_own_way(catalog: SqlCatalog, store: Store) -> None:
    home = await volume(catalog)
    first = await catalog.commit(
        commit(home, 1, Delta(entries=[file(b"a", 1)]), snapshot=snapshot(home, 1, files=1, bytes=7, quiescent=True))
    )
    await take(catalog, home, 2, file(b"a", 2), file(b"b", 3))
    new = Volume(id=new_id(), name="fork", node=NODE, created_at_ms=T0, origin="agent@1")
    made = await catalog.fork(home.id, 1, new, snapshot(new, 1, reason="fork"))
    assert (made.files, made.bytes, made.quiescent) == (first.files, first.bytes, True)
    assert made == await catalog.snapshot(new.id, 1)
    assert await catalog.volume("fork") == msgspec.structs.replace(new, newest=1)
    assert await catalog.tree(new.id, 1) == await catalog.tree(home.id, 1)
    await take(catalog, new, 2, file(b"c", 9), gone=[b"a"])
    await catalog.drop_snapshots(home.id, [1])
    assert (await paths(catalog, new, 1), await paths(catalog, new, 2)) == ([b"a"], [b"c"])
    assert await paths(catalog, home, 2) == [b"a", b"b"]
    assert {"volume": "fork", "origin": "agent@1"} in await events(store, "volume.made")


async def test_a_fork_needs_a_free_name_and_a_snapshot(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1, file(b"a"))
    await volume(catalog, "taken")
    for name, number, error in (("taken", 1, Conflict), ("agent", 1, Conflict), ("free", 2, NotFound)):
        new = Volume(id=new_id(), name=name, node=NODE, created_at_ms=T0)
        with pytest.raises(error):
            await catalog.fork(home.id, number, new, snapshot(new, 1))
    assert [each.name for each in await catalog.volumes()] == ["agent", "taken"]


async def test_a_fork_asked_for_twice_is_answered_as_the_first(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1, file(b"a"))
    new = Volume(id=new_id(), name="fork", node=NODE, created_at_ms=T0)
    first = snapshot(new, 1, reason="fork")
    assert await catalog.fork(home.id, 1, new, first) == await catalog.fork(home.id, 1, new, first)
    assert len(await catalog.volumes()) == 2


# --- the journal -----------------------------------------------------------------------------------------------------


async def test_a_position_tells_the_agents_unfinished_runs(catalog: SqlCatalog, store: Store) -> None:
    done = await ended(store)
    at_work = await running(store)
    await store.append(fence(at_work), [step(1), step(2)])
    asleep = await running(store)
    await store.append(fence(asleep), [step(1)])
    assert await store.suspend(fence(asleep), [signal_wait()], "signal")
    queued, other = await add(store), await add(store, agent="b")
    position = await catalog.position("a")
    assert position == Position(event=await store.last_event(), runs={at_work.id: 2, asleep.id: 1, queued: 0})
    assert (await catalog.position("b")).runs == {other: 0}
    assert done.id not in position.runs
    assert (await catalog.position("nobody")).runs == {}
