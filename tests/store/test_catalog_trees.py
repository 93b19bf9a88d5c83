"""The catalog's trees: staging, paging, changes, history, dropping and rebuilding, on both dialects."""

from __future__ import annotations

import time

import msgspec
import pytest
from catalogs import (
    NODE,
    T0,
    catalog_of,
    commit,
    everything,
    file,
    folder,
    link,
    numbers,
    paths,
    segment,
    snapshot,
    take,
    volume,
)
from conformance import OpenStore

from relit.errors import Conflict, NotFound, Overtaken
from relit.lib.ids import new_id
from relit.manifest import Change, Delta, Entry, ManifestRow, Volume
from relit.store.base import Store
from relit.store.sql.catalog import SqlCatalog

ODD = [b"", b"a", b"a!", b"a-b", b"a/", b"a/b", b"a/b/c", b"a0", b"a\xff", b"caf\xc3\xa9", b"caf\xe9", b"\x01", b"\xff"]


@pytest.fixture
def catalog(store: Store) -> SqlCatalog:
    return catalog_of(store)


# --- reading trees ---------------------------------------------------------------------------------------------------


async def test_entries_are_kept_as_they_were_given(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    full = Entry(
        path=b"a\xff/b", kind="file", mode=0o4755, uid=2**32 - 2, gid=7, mtime_ns=-1, size=2**50, count=1,
        parts=bytes(range(16)), holes=b"\0" * 16, hard=b"a", xattrs=b"\x80", ino=2**64 - 1, ctime_ns=3,
    )  # fmt: skip
    given = [folder(b""), full, link(b"l\xfe", b"\xff\xfe")]
    await take(catalog, home, 1, *given)
    assert await catalog.tree(home.id, 1) == given
    assert [await catalog.entry(home.id, 1, each.path) for each in given] == given
    assert await catalog.entry(home.id, 1, b"a") is None


async def test_a_tree_is_in_byte_order_and_read_by_pages(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1, *(file(each) for each in ODD))
    await take(catalog, home, 2, *(file(each, 1) for each in ODD[::2]))
    for number in (1, 2):
        assert await paths(catalog, home, number) == sorted(ODD)
        found: list[bytes] = []
        while page := await paths(catalog, home, number, after=found[-1] if found else None, limit=3):
            assert len(page) <= 3
            found += page
        assert found == sorted(ODD)


@pytest.mark.parametrize("under", ODD)
async def test_a_part_of_a_tree_is_a_path_and_what_is_below_it(catalog: SqlCatalog, under: bytes) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1, *(file(each) for each in ODD))
    inside = sorted(each for each in ODD if not under or each == under or each.startswith(under + b"/"))
    assert await paths(catalog, home, 1, under=under) == inside
    for after in (None, *sorted(ODD)):
        rest = [each for each in inside if after is None or each > after]
        assert await paths(catalog, home, 1, under=under, after=after) == rest
        assert await paths(catalog, home, 1, under=under, after=after, limit=1) == rest[:1]


async def test_a_folder_that_is_gone_can_still_be_looked_below(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1, folder(b"a"), file(b"a/b"), file(b"a0"))
    await take(catalog, home, 2, gone=[b"a", b"a/b"])
    assert await paths(catalog, home, 1, under=b"a") == [b"a", b"a/b"]
    assert await paths(catalog, home, 2, under=b"a") == []


async def test_each_snapshot_keeps_its_tree(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1, file(b"a", 1), file(b"b", 1))
    await take(catalog, home, 2, file(b"a", 2), gone=[b"b"])
    await take(catalog, home, 3)
    await take(catalog, home, 4, link(b"b", b"a"), full=True)
    trees = [await catalog.tree(home.id, number) for number in (1, 2, 3, 4)]
    assert trees == [[file(b"a", 1), file(b"b", 1)], [file(b"a", 2)], [file(b"a", 2)], [link(b"b", b"a")]]
    assert [await catalog.entry(home.id, n, b"b") for n in (1, 2, 4)] == [file(b"b", 1), None, link(b"b", b"a")]


async def test_segments_are_replaced_and_cut(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    was = [segment(b"db", no, no) for no in range(4)]
    await take(catalog, home, 1, file(b"db"), file(b"x\xff"), segment(b"x\xff", 0, 9), *was)
    await take(catalog, home, 2, segment(b"db", 1, 11))
    await take(catalog, home, 3, segment(b"db", 2, 22), cut=[(b"db", 1)])
    await take(catalog, home, 4, cut=[(b"db", 0)], gone=[b"db"])
    other = segment(b"x\xff", 0, 9)
    assert await catalog.all_segments(home.id, 1) == [*was, other]
    assert await catalog.all_segments(home.id, 2) == [was[0], segment(b"db", 1, 11), *was[2:], other]
    assert await catalog.all_segments(home.id, 3) == [was[0], segment(b"db", 2, 22), other]
    assert await catalog.all_segments(home.id, 4) == [other]


async def test_segments_of_some_files_come_by_path_and_number(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    given = [segment(path, no, no) for path in (b"a", b"a!", b"a/b", b"b\xff") for no in (0, 1, 2, 10)]
    await take(catalog, home, 1, *given[::-1])
    await take(catalog, home, 2, segment(b"a", 1, 77))
    wanted = [b"b\xff", b"a", b"nothing", b"a"]
    assert await catalog.segments(home.id, 1, wanted) == [each for each in given if each.path in wanted]
    assert (await catalog.segments(home.id, 2, wanted))[1] == segment(b"a", 1, 77)
    assert await catalog.segments(home.id, 1, []) == []


# --- staging ---------------------------------------------------------------------------------------------------------

STAGED = Delta(
    entries=[file(b"a", 2), file(b"new", 3)], gone=[b"b"], cut=[(b"db", 1)], segments=[segment(b"db", 0, 20)]
)


async def begin(catalog: SqlCatalog) -> Volume:
    home = await volume(catalog)
    await take(catalog, home, 1, file(b"a", 1), file(b"b", 1), file(b"db"), segment(b"db", 0, 1), segment(b"db", 1, 2))
    await take(catalog, home, 2, file(b"b", 2))
    return home


async def test_what_is_staged_is_not_seen(catalog: SqlCatalog) -> None:
    home = await begin(catalog)
    before = [await everything(catalog, home, number) for number in (1, 2)]
    past = [await catalog.history(home.id, path) for path in (b"a", b"b", b"new")]
    changes = await catalog.changes(home.id, 1, 2)
    await catalog.stage(home.id, 3, STAGED)
    assert [await everything(catalog, home, number) for number in (1, 2)] == before
    assert await catalog.segments(home.id, 2, [b"db"]) == before[1][1]
    assert [await catalog.history(home.id, path) for path in (b"a", b"b", b"new")] == past
    assert await catalog.changes(home.id, 1, 2) == changes
    assert numbers(await catalog.snapshots(home.id)) == [2, 1]
    assert (await catalog.volume("agent")).newest == 2
    new = Volume(id=new_id(), name="fork", node=NODE, created_at_ms=T0)
    await catalog.fork(home.id, 2, new, snapshot(new, 1))
    assert await everything(catalog, new, 1) == before[1]


@pytest.mark.parametrize("delta", [STAGED, Delta(full=True, entries=[file(b"only")])])
async def test_unstage_takes_all_of_it_back(catalog: SqlCatalog, delta: Delta) -> None:
    home = await begin(catalog)
    before = [await everything(catalog, home, number) for number in (1, 2)]
    rows = (await catalog.stats()).entries
    await catalog.stage(home.id, 3, delta)
    await catalog.unstage(home.id, 3)
    await catalog.unstage(home.id, 3)
    assert (await catalog.stats()).entries == rows
    await take(catalog, home, 3)
    assert [await everything(catalog, home, number) for number in (1, 2, 3)] == [*before, before[1]]


async def test_a_commit_shows_what_was_staged(catalog: SqlCatalog) -> None:
    home = await begin(catalog)
    before = await everything(catalog, home, 2)
    await catalog.stage(home.id, 3, Delta(entries=STAGED.entries, gone=STAGED.gone))
    await catalog.stage(home.id, 3, Delta(cut=STAGED.cut, segments=STAGED.segments))
    await take(catalog, home, 3, file(b"rest", 9), staged=True)
    assert await catalog.tree(home.id, 3) == [file(b"a", 2), file(b"db"), file(b"new", 3), file(b"rest", 9)]
    assert await catalog.all_segments(home.id, 3) == [segment(b"db", 0, 20)]
    assert await everything(catalog, home, 2) == before


async def test_staging_may_be_asked_for_again(catalog: SqlCatalog) -> None:
    home = await begin(catalog)
    for _ in range(2):
        await catalog.stage(home.id, 3, STAGED)
    rows = (await catalog.stats()).entries
    await take(catalog, home, 3, staged=True)
    assert await catalog.tree(home.id, 3) == [file(b"a", 2), file(b"db"), file(b"new", 3)]
    assert (await catalog.stats()).entries == rows


async def test_what_a_crash_left_staged_does_not_become_part_of_a_commit(catalog: SqlCatalog) -> None:
    home = await begin(catalog)
    before = await everything(catalog, home, 2)
    await catalog.stage(home.id, 3, STAGED)
    await take(catalog, home, 3, file(b"z", 5))
    tree, segments = await everything(catalog, home, 3)
    assert (tree, segments) == ([*before[0], file(b"z", 5)], before[1])


async def test_staging_is_refused_for_other_numbers_than_the_next(catalog: SqlCatalog) -> None:
    home = await begin(catalog)
    before = await everything(catalog, home, 2)
    for number in (1, 2, 4):
        with pytest.raises(Overtaken):
            await catalog.stage(home.id, number, STAGED)
    for number in (1, 2):
        with pytest.raises(Overtaken):
            await catalog.unstage(home.id, number)
    await take(catalog, home, 3)
    assert await everything(catalog, home, 2) == await everything(catalog, home, 3) == before


# --- changes and history ---------------------------------------------------------------------------------------------


async def test_changes_tell_both_ways(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1, file(b"a", 1), file(b"b", 1), file(b"same", 1))
    await take(catalog, home, 2, file(b"a", 2), file(b"c", 1), file(b"passing", 1), gone=[b"b"])
    await take(catalog, home, 3, folder(b"a"), gone=[b"passing"])
    forth = [
        Change(path=b"a", before=file(b"a", 1), after=folder(b"a")),
        Change(path=b"b", before=file(b"b", 1), after=None),
        Change(path=b"c", before=None, after=file(b"c", 1)),
    ]
    assert await catalog.changes(home.id, 1, 3) == forth
    back = [Change(path=each.path, before=each.after, after=each.before) for each in forth]
    assert await catalog.changes(home.id, 3, 1) == back
    assert await catalog.changes(home.id, 2, 2) == []


async def test_what_changed_and_changed_back_is_no_change(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1, file(b"a", 1, ino=1, ctime_ns=1), segment(b"a", 0, 1))
    await take(catalog, home, 2, segment(b"a", 0, 2), gone=[b"a"])
    await take(catalog, home, 3, file(b"a", 1, ino=2, ctime_ns=2), segment(b"a", 0, 1))
    assert await catalog.changes(home.id, 1, 3) == []
    assert [each.path for each in await catalog.changes(home.id, 1, 2)] == [b"a"]


async def test_segments_alone_make_a_change(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    db = file(b"db")
    await take(catalog, home, 1, db, file(b"d"), segment(b"db", 0, 1), segment(b"db", 1, 2))
    await take(catalog, home, 2, segment(b"db", 1, 3))
    await take(catalog, home, 3, cut=[(b"db", 1)])
    whole = [Change(path=b"db", before=db, after=db)]
    for a, b in ((1, 2), (2, 1), (2, 3), (1, 3), (3, 1)):
        assert await catalog.changes(home.id, a, b) == whole
    touched = msgspec.structs.replace(db, ctime_ns=5)
    await take(catalog, home, 4, touched, segment(b"db", 1, 2))
    assert await catalog.changes(home.id, 1, 4) == []
    assert await catalog.changes(home.id, 3, 4) == [Change(path=b"db", before=db, after=touched)]


@pytest.mark.parametrize("under", ODD)
async def test_changes_are_told_for_a_part(catalog: SqlCatalog, under: bytes) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1)
    await take(catalog, home, 2, *(file(each) for each in ODD))
    inside = sorted(each for each in ODD if not under or each == under or each.startswith(under + b"/"))
    assert [each.path for each in await catalog.changes(home.id, 1, 2, under=under)] == inside


async def test_history_tells_the_versions_of_a_path(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1, file(b"a", 1))
    await take(catalog, home, 2, file(b"b", 1))
    await take(catalog, home, 3, file(b"a", 2))
    await take(catalog, home, 4, gone=[b"a"])
    await take(catalog, home, 5, link(b"a", b"b"))
    assert await catalog.history(home.id, b"a") == [
        (1, 3, file(b"a", 1)), (3, 4, file(b"a", 2)), (5, None, link(b"a", b"b")),
    ]  # fmt: skip
    assert await catalog.history(home.id, b"nothing") == []


# --- dropping --------------------------------------------------------------------------------------------------------


async def test_dropping_keeps_what_remaining_snapshots_need(catalog: SqlCatalog) -> None:
    home, other = await volume(catalog), await volume(catalog, "other")
    for number in range(1, 8):
        for each in (home, other):
            await take(catalog, each, number, file(b"each", number), segment(b"each", 0, number))
    live = [1, 4, 7]
    kept = {number: await everything(catalog, home, number) for number in live}
    assert await catalog.drop_snapshots(home.id, [2, 3]) == [2, 3]
    assert await catalog.drop_snapshots(home.id, [6, 5, 3]) == [5, 6]
    assert numbers(await catalog.snapshots(home.id)) == live[::-1]
    assert {number: await everything(catalog, home, number) for number in live} == kept
    assert [row[:2] for row in await catalog.history(home.id, b"each")] == [(1, 2), (4, 5), (7, None)]
    assert (await catalog.stats(home.id)).entries == 6
    assert (await catalog.stats(other.id)).entries == 14
    assert [each.path for each in await catalog.changes(home.id, 1, 7)] == [b"each"]


async def test_an_interval_stays_as_long_as_one_snapshot_lies_in_it(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1, file(b"a", 1))
    for number in (2, 3):
        await take(catalog, home, number)
    await take(catalog, home, 4, gone=[b"a"])
    await catalog.drop_snapshots(home.id, [1])
    await catalog.drop_snapshots(home.id, [3])
    assert await paths(catalog, home, 2) == [b"a"]
    assert len(await catalog.history(home.id, b"a")) == 1
    await catalog.drop_snapshots(home.id, [2])
    assert await catalog.history(home.id, b"a") == []


async def test_what_is_newest_pinned_or_named_by_now_is_not_dropped(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    for number in range(1, 6):
        await take(catalog, home, number, file(b"a", number))
    await catalog.pin(home.id, 2, True)
    await catalog.tag(home.id, 3, "known-good")
    await catalog.tag(home.id, 4, "release")
    assert await catalog.drop_snapshots(home.id, [1, 2, 3, 4, 5, 99]) == [1]
    assert numbers(await catalog.snapshots(home.id)) == [5, 4, 3, 2]
    assert await catalog.tree(home.id, 4) == [file(b"a", 4)]
    await catalog.tag(home.id, 3, "release")  # it moves
    await catalog.pin(home.id, 2, False)
    assert await catalog.drop_snapshots(home.id, [2, 3, 4]) == [2, 4]
    assert (await catalog.snapshot(home.id, 3)).tags == ["known-good", "release"]


async def test_what_is_staged_outlives_a_drop(catalog: SqlCatalog) -> None:
    home = await begin(catalog)
    await take(catalog, home, 3)
    before = await everything(catalog, home, 3)
    await catalog.stage(home.id, 4, STAGED)
    await catalog.drop_snapshots(home.id, [1, 2])
    assert await everything(catalog, home, 3) == before
    await take(catalog, home, 4, staged=True)
    assert await paths(catalog, home, 4) == [b"a", b"db", b"new"]
    await catalog.stage(home.id, 5, Delta(full=True))
    await catalog.drop_snapshots(home.id, [3])
    await catalog.unstage(home.id, 5)
    assert await paths(catalog, home, 4) == [b"a", b"db", b"new"]


# --- rows ------------------------------------------------------------------------------------------------------------


async def rows_of(catalog: SqlCatalog, home: Volume) -> list[ManifestRow]:
    return [row async for page in catalog.rows(home.id) for row in page]


async def test_rows_are_told_as_they_lie_there(catalog: SqlCatalog) -> None:
    home, other = await volume(catalog), await volume(catalog, "other")
    for each in (home, other):
        await take(catalog, each, 1, file(b"a", 1), file(b"db"), segment(b"db", 0, 2), segment(b"db", 1, 3))
        await take(catalog, each, 2, file(b"a", 4), segment(b"db", 1, 5))
    await catalog.stage(home.id, 3, Delta(entries=[file(b"b", 6)], gone=[b"a"]))
    found = [(row.path, row.no, row.since, row.until) for row in await rows_of(catalog, home)]
    entries = [(b"a", -1, 1, 2), (b"a", -1, 2, 3), (b"b", -1, 3, None), (b"db", -1, 1, None)]
    assert found == [*entries, (b"db", 0, 1, None), (b"db", 1, 1, 2), (b"db", 1, 2, None)]
    bodies = [row.body for row in await rows_of(catalog, other)]
    assert msgspec.msgpack.decode(bodies[0], type=Entry) == file(b"a", 1)
    assert bodies[-1] == segment(b"db", 1, 5).ids


async def test_trees_are_replaced_while_no_snapshot_came(catalog: SqlCatalog, store: Store) -> None:
    home = await begin(catalog)
    await take(catalog, home, 3)
    entries = [(1, 3, file(b"new", 1)), (3, None, file(b"new", 2))]
    with pytest.raises(Overtaken):
        await catalog.replace_trees(home.id, 2, entries, [])
    assert b"new" not in await paths(catalog, home, 3)
    await catalog.tag(home.id, 1, "named")
    await catalog.replace_trees(home.id, 3, entries, [(2, None, segment(b"new", 0, 9))])
    trees = [await everything(catalog, home, number) for number in (1, 2, 3)]
    assert [tree for tree, _ in trees] == [[file(b"new", 1)], [file(b"new", 1)], [file(b"new", 2)]]
    assert [len(segments) for _, segments in trees] == [0, 1, 1]
    assert (await catalog.snapshot(home.id, 1)).tags == ["named"]
    assert [each.data["volume"] for each in await store.events() if each.name == "volume.mended"] == [home.name]
    with pytest.raises(NotFound):
        await catalog.replace_trees("nobody", 1, [], [])


# --- rebuilding, size ------------------------------------------------------------------------------------------------


async def test_a_volume_is_loaded_as_it_was(catalog: SqlCatalog) -> None:
    home = await begin(catalog)
    await take(catalog, home, 3, link(b"a", b"b"), gone=[b"db"], cut=[(b"db", 0)])
    await catalog.tag(home.id, 1, "known-good")
    await catalog.pin(home.id, 2, True)
    home = await catalog.volume("agent")
    snapshots = await catalog.snapshots(home.id)
    trees = {number: await everything(catalog, home, number) for number in (1, 2, 3)}
    entries = [row for path in (b"a", b"b", b"db") for row in await catalog.history(home.id, path)]
    segments = [(1, 3, each) for each in await catalog.all_segments(home.id, 1)]
    with pytest.raises(Conflict):
        await catalog.load(home, [(each, None) for each in snapshots], entries, segments)
    await catalog.pin(home.id, 2, False)
    await catalog.remove_volume("agent")
    await catalog.load(home, [(each, None) for each in snapshots], entries, segments)
    assert await catalog.volume("agent") == home
    assert await catalog.snapshots(home.id) == snapshots
    assert {number: await everything(catalog, home, number) for number in (1, 2, 3)} == trees
    await take(catalog, home, 4, full=True)
    assert await paths(catalog, home, 4) == []


@pytest.mark.slow
async def test_a_large_snapshot_is_staged_and_committed_in_seconds(catalog: SqlCatalog) -> None:
    home = await volume(catalog)
    entries = [file(b"folder-%03d/file-%05d" % (no % 200, no), no) for no in range(20_000)]
    began = time.monotonic()
    for at in range(0, len(entries), 5_000):
        await catalog.stage(home.id, 1, Delta(full=at == 0, entries=entries[at : at + 5_000]))
    await take(catalog, home, 1, staged=True)
    await catalog.commit(commit(home, 2, Delta(entries=[file(b"one")], gone=[entries[0].path])))
    took = time.monotonic() - began
    assert await catalog.tree(home.id, 1) == sorted(entries, key=lambda each: each.path)
    assert len(await catalog.tree(home.id, 2)) == 20_000
    assert took < 15  # a second or two on an idle machine


async def test_two_stores_see_one_catalog(catalog: SqlCatalog, open_store: OpenStore) -> None:
    home = await volume(catalog)
    await take(catalog, home, 1, file(b"a"))
    other = open_store()
    await other.start()
    try:
        await take(catalog_of(other), home, 2, file(b"b"))
    finally:
        await other.stop()
    assert await paths(catalog, home, 2) == [b"a", b"b"]
