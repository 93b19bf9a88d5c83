"""The catalog's chunks and packs, and what two stores may do at once, on both dialects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from catalogs import (
    NODE,
    T0,
    add_chunks,
    catalog_of,
    chunk,
    collected,
    commit,
    events,
    file,
    numbers,
    pack,
    paths,
    segment,
    snapshot,
    state,
    take,
    volume,
)
from conformance import OpenStore

from relit.errors import NotFound, Overtaken
from relit.lib.ids import new_id
from relit.manifest import ID_BYTES, Delta, Pack, Place, Referrer, Snapshot, Volume, VolumeStats
from relit.store.base import Store
from relit.store.sql.catalog import SqlCatalog

ONE = chunk(1)


@pytest.fixture
def catalog(store: Store) -> SqlCatalog:
    return catalog_of(store)


@pytest.fixture
async def second(store: Store, open_store: OpenStore) -> AsyncIterator[SqlCatalog]:
    """Another process's catalog on the same database."""
    other = open_store()
    await other.start()
    try:
        yield catalog_of(other)
    finally:
        await other.stop()


# --- chunks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "known"),
    [
        (pack("p"), True),
        (pack("p", node="there"), True),
        (pack("p", "open"), True),
        (pack("p", "sealed"), True),
        (pack("p", "open", node="there"), False),
        (pack("p", "sealed", node="there"), False),
        (pack("p", "condemned"), False),
    ],
)
async def test_a_chunk_is_known_where_it_can_be_read_again(catalog: SqlCatalog, where: Pack, known: bool) -> None:
    await add_chunks(catalog, where, 1)
    assert await catalog.known([ONE, chunk(2)], NODE) == ({ONE} if known else set())
    assert await catalog.places([ONE, chunk(2)], NODE) == {ONE: Place("p", 10, 10, 20)}


async def test_nothing_is_known_of_nothing(catalog: SqlCatalog) -> None:
    assert await catalog.known([], NODE) == set()
    assert await catalog.places([]) == {}


async def test_one_good_copy_is_enough(catalog: SqlCatalog) -> None:
    await add_chunks(catalog, pack("a", "open", node="there"), 1)
    await add_chunks(catalog, pack("b"), 1)
    assert await catalog.known([ONE], NODE) == {ONE}
    await catalog.condemn(["b"], T0)
    assert await catalog.known([ONE], NODE) == set()
    await add_chunks(catalog, pack("c", "open"), 1)
    assert await catalog.known([ONE], NODE) == {ONE}
    assert await catalog.known([ONE], "elsewhere") == set()


async def test_the_best_copy_is_told(catalog: SqlCatalog) -> None:
    copies = [
        pack("a", "open"), pack("b", node="there"), pack("c", "sealed", node="there"), pack("d", "condemned"),
    ]  # fmt: skip
    for each in copies:
        await add_chunks(catalog, each, 1)

    async def best(node: str) -> str:
        return (await catalog.places([ONE], node))[ONE].pack

    assert (await best(NODE), await best("there"), await best("elsewhere"), await best("")) == ("a", "b", "b", "b")
    await catalog.condemn(["b"], T0)
    assert (await best(NODE), await best("there"), await best("elsewhere")) == ("a", "c", "a")


async def test_many_chunks_are_asked_for_at_once(catalog: SqlCatalog) -> None:
    await add_chunks(catalog, pack("p"), *range(5_000))
    wanted = [chunk(each) for each in range(4_000, 9_000)]
    found = {chunk(each) for each in range(4_000, 5_000)}
    assert await catalog.known(wanted, NODE) == found
    assert (await catalog.places(wanted)).keys() == found


async def test_the_chunks_of_a_pack_come_by_offset(catalog: SqlCatalog) -> None:
    given = [(chunk(3), Place("p", 0, 7, 8)), (chunk(1), Place("p", 7, 2, 2)), (chunk(2), Place("p", 9, 1, 2))]
    await catalog.load_chunks(given[::-1], [pack("p")])
    await catalog.load_chunks(given, [pack("p")])
    await add_chunks(catalog, pack("q"), 1)
    assert await catalog.chunks_of("p") == given
    assert await catalog.chunks_of("nothing") == []


# --- packs -----------------------------------------------------------------------------------------------------------


async def test_packs_are_listed_by_state_and_node(catalog: SqlCatalog) -> None:
    given = [pack("c", "open", age=9), pack("a", "sealed", age=8), pack("b", age=7), pack("d", node="there", age=6)]
    await catalog.put_packs(given[::-1])
    assert await catalog.packs() == given
    assert [each.id for each in await catalog.packs(["stored", "open"])] == ["c", "b", "d"]
    assert [each.id for each in await catalog.packs(["stored"], "there")] == ["d"]
    assert [each.id for each in await catalog.packs(node=NODE)] == ["c", "a", "b"]


async def test_an_open_pack_grows_and_is_sealed(catalog: SqlCatalog) -> None:
    for each, size in (("open", 10), ("open", 30), ("open", 20), ("sealed", 25)):
        await catalog.put_packs([pack("p", each, size=size)])
    assert await catalog.packs() == [pack("p", "sealed", size=25)]


async def test_a_pack_never_goes_back(catalog: SqlCatalog) -> None:
    await catalog.put_packs([pack("p", "sealed", size=10)])
    await catalog.put_packs([pack("p", "open", size=99)])
    assert await state(catalog, "p") == "sealed"
    await catalog.stored("p")
    for late in ("open", "sealed"):
        await catalog.put_packs([pack("p", late, size=99)])
    assert await state(catalog, "p") == "stored"
    await catalog.condemn(["p"], T0)
    for late in ("open", "sealed", "stored"):
        await catalog.put_packs([pack("p", late, size=99)])
    assert await catalog.stored("p") == []
    [found] = await catalog.packs()
    assert (found.state, found.size) == ("condemned", 10)


async def test_storing_an_unknown_pack_does_nothing(catalog: SqlCatalog) -> None:
    assert await catalog.stored("nothing") == []


async def test_only_stored_packs_are_condemned(catalog: SqlCatalog) -> None:
    await catalog.put_packs([pack("open", "open"), pack("sealed", "sealed"), pack("p"), pack("other")])
    await catalog.condemn(["open", "sealed", "p", "unknown"], T0 + 1)
    await catalog.condemn(["p"], T0 + 2)
    assert [(each.id, each.condemned_at_ms) for each in await catalog.packs(["condemned"])] == [("p", T0 + 1)]
    assert await state(catalog, "other") == "stored"


async def test_a_reprieved_pack_may_be_referred_to_again(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    await add_chunks(catalog, pack("p"), 1)
    await catalog.condemn(["p"], T0)
    await catalog.reprieve(["p", "unknown"])
    assert await catalog.packs() == [pack("p")]
    await take(catalog, home, 1, file(b"a", 1), reused=[ONE], into=["p"])
    assert not await catalog.bury("p")


async def test_only_condemned_packs_are_buried(catalog: SqlCatalog) -> None:
    for each in (pack("p"), pack("q"), pack("open", "open")):
        await add_chunks(catalog, each, 1, 2)
    for each in ("p", "open", "unknown"):
        assert not await catalog.bury(each)
    await catalog.condemn(["p"], T0)
    assert await catalog.bury("p")
    assert not await catalog.bury("p")
    assert await catalog.chunks_of("p") == []
    assert (await catalog.places([ONE]))[ONE].pack == "q"
    assert sorted(each.id for each in await catalog.packs()) == ["open", "q"]


async def test_what_a_pack_holds_is_replaced(catalog: SqlCatalog) -> None:
    for each in (pack("p"), pack("q")):
        await add_chunks(catalog, each, 1, 2)
    now = [(chunk(2), Place("p", 5, 7, 8)), (chunk(3), Place("p", 12, 1, 1))]
    await catalog.replace_chunks("p", now[::-1])
    await catalog.replace_chunks("unknown", [(chunk(9), Place("unknown", 0, 1, 1))])
    assert await catalog.chunks_of("p") == now
    assert len(await catalog.chunks_of("q")) == 2
    assert await catalog.chunks_of("unknown") == []


# --- what is referred to ---------------------------------------------------------------------------------------------


async def test_references_are_of_all_intervals(catalog: SqlCatalog) -> None:
    home, other = await volume(catalog), await volume(catalog, "other")
    await take(catalog, home, 1, file(b"a", 1, 2), file(b"db"), segment(b"db", 0, 3, 4))
    await take(catalog, home, 2, file(b"a", 5), segment(b"db", 0, 3, 6))
    await take(catalog, other, 1, file(b"a", 7))
    await catalog.stage(other.id, 2, Delta(entries=[file(b"b", 8)], segments=[segment(b"db", 0, 9)]))
    assert await collected(catalog.references()) == {chunk(each) for each in range(1, 10)}
    await catalog.drop_snapshots(home.id, [1])
    await catalog.unstage(other.id, 2)
    assert await collected(catalog.references()) == {chunk(each) for each in (3, 5, 6, 7)}
    await catalog.remove_volume("other")
    assert await collected(catalog.references()) == {chunk(each) for each in (3, 5, 6)}


async def test_references_are_told_by_how_they_begin(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    ids = [bytes([no]) * ID_BYTES for no in (0, 1, 255)]
    await take(catalog, home, 1, file(b"a", *(int.from_bytes(id, "big") for id in ids)))
    assert [await collected(catalog.references(id[:1])) for id in ids] == [{id} for id in ids]
    assert await collected(catalog.references(b"\x01\x02")) == set()
    assert await collected(catalog.references()) == set(ids)


@pytest.mark.slow
async def test_references_are_read_by_pages(catalog: SqlCatalog) -> None:
    home, other = await volume(catalog), await volume(catalog, "other")
    await take(catalog, home, 1, *(file(b"%05d" % no, no) for no in range(20_001)))
    await take(catalog, other, 1, *(segment(b"db", no, 30_000 + no) for no in range(20_001)))
    wanted = {chunk(no) for no in range(20_001)} | {chunk(30_000 + no) for no in range(20_001)}
    assert await collected(catalog.references()) == wanted
    assert (await catalog.stats(home.id)).entries == (await catalog.stats(other.id)).entries == 20_001


async def test_referrers_are_the_versions_that_need_a_chunk(catalog: SqlCatalog) -> None:
    home, other = await volume(catalog), await volume(catalog, "other")
    await take(catalog, home, 1, file(b"a", 1, 2), file(b"db", mtime_ns=1), segment(b"db", 0, 3, 4))
    await take(catalog, home, 2, file(b"a", 1), file(b"db", mtime_ns=2), segment(b"db", 1, 1))
    await take(catalog, home, 3, file(b"db", mtime_ns=3), gone=[b"a"], cut=[(b"db", 1)])
    await take(catalog, other, 1, file(b"\xff", 1))
    await catalog.stage(other.id, 2, Delta(entries=[file(b"new", 1)], gone=[b"\xff"]))

    def told(name: str, path: bytes, since: int, until: int | None) -> Referrer:
        return Referrer(volume=name, path=path, since=since, until=until)

    assert await catalog.referrers({chunk(2)}) == [told("agent", b"a", 1, 2)]
    assert await catalog.referrers([chunk(4), chunk(9)]) == [told("agent", b"db", 1, None)]
    assert await catalog.referrers([ONE]) == [
        told("agent", b"a", 1, 2), told("agent", b"a", 2, 3), told("agent", b"db", 2, 3),
        told("other", b"\xff", 1, None),
    ]  # fmt: skip
    assert await catalog.referrers([]) == []


async def test_stats_count_each_chunk_once(catalog: SqlCatalog) -> None:
    home, other = await volume(catalog), await volume(catalog, "other")
    empty = await volume(catalog, "empty")
    for each in (pack("p"), pack("q")):
        await add_chunks(catalog, each, 1, 2, 3)
    for each, ids in ((home, (1, 2)), (other, (2, 3))):
        delta = Delta(entries=[file(b"a", *ids), file(b"b", *ids)], segments=[segment(b"db", 0, 2)])
        await catalog.commit(commit(each, 1, delta, snapshot=snapshot(each, 1, files=2, bytes=50)))
    await catalog.commit(commit(home, 2, snapshot=snapshot(home, 2, files=3, bytes=60)))
    assert await catalog.stats(home.id) == VolumeStats(
        volume=home.id, snapshots=2, files=3, bytes=60, entries=3, chunks=2, packed=20
    )
    assert await catalog.stats() == VolumeStats(
        volume="", snapshots=3, files=5, bytes=110, entries=6, chunks=3, packed=30
    )
    assert await catalog.stats(empty.id) == VolumeStats(
        volume=empty.id, snapshots=0, files=0, bytes=0, entries=0, chunks=0, packed=0
    )


# --- two at once -----------------------------------------------------------------------------------------------------


async def test_one_of_two_commits_wins_each_number(catalog: SqlCatalog, second: SqlCatalog, store: Store) -> None:
    home = await volume(catalog)
    for number in range(1, 9):
        asked = [commit(home, number, Delta(entries=[file(b"%d-%d" % (number, no), no)])) for no in (0, 1)]
        answers = await asyncio.gather(catalog.commit(asked[0]), second.commit(asked[1]), return_exceptions=True)
        won = [each for each in answers if isinstance(each, Snapshot)]
        assert len(won) == 1
        assert [type(each) for each in answers if each not in won] == [Overtaken]
        winner = answers.index(won[0])
        assert (await paths(second, home, number))[-1] == b"%d-%d" % (number, winner)
    assert numbers(await catalog.snapshots(home.id)) == list(range(8, 0, -1))
    assert len(await catalog.tree(home.id, 8)) == 8
    assert [each["number"] for each in await events(store, "snapshot.taken")] == list(range(1, 9))


async def test_one_commit_asked_for_twice_at_once_is_one(catalog: SqlCatalog, second: SqlCatalog) -> None:
    home = await volume(catalog)
    for number in range(1, 9):
        asked = commit(home, number, Delta(entries=[file(b"a", number)]))
        answers = await asyncio.gather(catalog.commit(asked), second.commit(asked), catalog.commit(asked))
        assert answers == [asked.snapshot] * 3


async def test_volumes_made_at_once_are_one(catalog: SqlCatalog, second: SqlCatalog) -> None:
    for no in range(8):
        found = await asyncio.gather(volume(catalog, f"agent-{no}"), volume(second, f"agent-{no}"))
        assert found[0] == found[1]


async def prune(catalog: SqlCatalog, id: str) -> bool:
    """Both phases without a grace: what is needed is found anew after the condemnation."""
    await catalog.condemn([id], T0)
    if ONE in await collected(catalog.references()):
        await catalog.reprieve([id])
        return False
    return await catalog.bury(id)


@pytest.mark.parametrize("staged", [False, True])
async def test_what_a_commit_reuses_is_never_buried(catalog: SqlCatalog, second: SqlCatalog, staged: bool) -> None:
    homes = [await volume(catalog, f"agent-{no}") for no in range(12)]
    for no, home in enumerate(homes):
        await add_chunks(catalog, pack(f"p{no}"), 1)
        delta = Delta(entries=[file(b"a", 1)])
        if staged:
            await catalog.stage(home.id, 1, delta)
        asked = commit(home, 1, Delta() if staged else delta, reused=[ONE], staged=staged)
        committing, pruning = catalog.commit(asked), prune(second, f"p{no}")
        both = (committing, pruning) if no % 2 else (pruning, committing)
        answers = await asyncio.gather(*both, return_exceptions=True)
        taken = any(isinstance(each, Snapshot) for each in answers)
        buried = True in answers
        assert taken or any(isinstance(each, Overtaken) for each in answers)
        assert not (taken and buried)
        assert (f"p{no}" in {each.id for each in await catalog.packs()}) is not buried
        if taken:
            await catalog.remove_volume(home.name)
        else:
            await catalog.unstage(home.id, 1)
        await clear(catalog, f"p{no}")


async def clear(catalog: SqlCatalog, id: str) -> None:
    """Nothing of this round is left for the next."""
    await catalog.condemn([id], T0)
    await catalog.bury(id)


async def test_processes_that_hold_volumes_in_opposite_orders_are_both_answered(
    catalog: SqlCatalog, second: SqlCatalog
) -> None:
    """PostgreSQL ends it as a deadlock: the loser's commits are tried again."""
    homes = [await volume(catalog, f"agent-{no}") for no in range(6)]
    forth = [take(catalog, home, 1, file(b"first")) for home in homes]
    back = [take(second, home, 1, file(b"second")) for home in homes[::-1]]
    answers = await asyncio.gather(*forth, *back, return_exceptions=True)
    for home in homes:
        [won] = [each for each in answers if isinstance(each, Snapshot) and each.volume == home.id]
        assert won == await catalog.snapshot(home.id, 1)
        assert len(await catalog.tree(home.id, 1)) == 1
    assert sum(isinstance(each, Overtaken) for each in answers) == 6


async def test_a_fork_and_a_drop_at_once_leave_whole_trees(catalog: SqlCatalog, second: SqlCatalog) -> None:
    home = await volume(catalog)
    for number in range(1, 10):
        await take(catalog, home, number, *(file(b"%02d" % no, number, no) for no in range(30)))
    for number in range(1, 9):
        new = Volume(id=new_id(), name=f"fork-{number}", node=NODE, created_at_ms=T0)
        answers = await asyncio.gather(
            catalog.fork(home.id, number, new, snapshot(new, 1)),
            second.drop_snapshots(home.id, [number]),
            return_exceptions=True,
        )
        assert answers[1] == [number]
        if isinstance(answers[0], Snapshot):
            assert await catalog.tree(new.id, 1) == [file(b"%02d" % no, number, no) for no in range(30)]
        else:
            assert await catalog.tree(new.id, 1) == []


async def test_a_name_that_is_given_at_once_with_a_drop_is_on_a_snapshot_that_is_there(
    catalog: SqlCatalog, second: SqlCatalog
) -> None:
    home = await volume(catalog)
    for number in range(1, 10):
        await take(catalog, home, number, file(b"a", number))
    for number in range(1, 9):
        naming, dropping = second.tag(home.id, number, f"v{number}"), catalog.drop_snapshots(home.id, [number])
        both = (naming, dropping) if number % 2 else (dropping, naming)
        answers = await asyncio.gather(*both, return_exceptions=True)
        gone = [number] in answers
        assert gone == any(isinstance(each, NotFound) for each in answers)
        tagged = await catalog.tagged(home.id, f"v{number}")
        assert (tagged is None) == gone
