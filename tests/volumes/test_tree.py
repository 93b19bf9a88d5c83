"""A tree in memory, what follows from a change, and which changes can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.manifest import SEGMENT, Entry, EntryKind, Segment
from relit.volumes.intervals import Intervals
from relit.volumes.tree import Seen, Tree, View, consistent


def entry(path: bytes, kind: EntryKind = "file", *, ino: int = 0, hard: bytes = b"", size: int = 1) -> Entry:
    return Entry(path, kind, 0o600, 0, 0, 1, size if kind == "file" else 0, hard=hard, ino=ino)


def long(path: bytes, ids: bytes) -> Seen:
    count = len(ids) // 16
    parts = ids if count <= SEGMENT else b""
    return Seen(Entry(path, "file", 0o600, 0, 0, 1, count, count, parts), ids)


def ids(count: int, seed: int = 0) -> bytes:
    return b"".join(b"%016d" % (seed * 1_000_000 + no) for no in range(count))


def tree(*entries: Entry) -> Tree:
    return Tree((entry(b"", "folder"), *entries))


def test_the_first_delta_is_full_and_an_unchanged_tree_has_none() -> None:
    made = Tree()
    seen = {b"": Seen(entry(b"", "folder")), b"a": long(b"a", ids(3))}
    assert made.delta(seen).full
    made.apply(seen)
    assert made.delta(seen).empty
    assert made.ids(b"a") == ids(3)
    assert made.bytes == 3


def test_a_changed_block_of_a_long_file_costs_one_segment() -> None:
    made = tree()
    made.apply({b"db": long(b"db", ids(SEGMENT * 3 + 1))})
    changed = bytearray(ids(SEGMENT * 3 + 1))
    changed[SEGMENT * 16 * 2 : SEGMENT * 16 * 2 + 16] = b"x" * 16
    delta = made.delta({b"db": long(b"db", bytes(changed))})
    assert [each.no for each in delta.segments] == [2]
    assert delta.cut == []
    shorter = made.delta({b"db": long(b"db", ids(SEGMENT + 1))})
    assert (shorter.cut, [each.no for each in shorter.segments]) == ([(b"db", 2)], [1])
    short = made.delta({b"db": long(b"db", ids(5))})
    assert (short.cut, short.segments, short.entries[0].parts) == ([(b"db", 0)], [], ids(5))
    gone = made.delta({b"db": None})
    assert (gone.gone, gone.cut) == ([b"db"], [(b"db", 0)])


LENGTHS = st.lists(st.one_of(st.none(), st.tuples(st.integers(0, SEGMENT * 3), st.integers(0, 2))), max_size=6)


@given(versions=LENGTHS)
def test_deltas_applied_one_after_the_other_tell_every_version(versions: list[tuple[int, int] | None]) -> None:
    from relit.manifest import Snapshot

    made, intervals = tree(), Intervals()
    for number, version in enumerate(versions, 1):
        seen = {b"f": long(b"f", ids(*version)) if version is not None else None}
        delta = made.delta(seen)
        made.apply(seen)
        shot = Snapshot(id=str(number), volume="v", number=number, at_ms=number, reason="interval")
        intervals.apply(shot, delta, None)
    for number, version in enumerate(versions, 1):
        alive = [e for since, until, e in intervals.entries() if since <= number and (until is None or number < until)]
        held = [s for since, until, s in intervals.segments() if since <= number and (until is None or number < until)]
        files = [each for each in alive if each.path == b"f"]
        if version is None:
            assert (files, held) == ([], [])
        else:
            [file] = files
            found = b"".join(each.ids for each in sorted(held, key=lambda each: each.no)) or file.parts
            assert found == ids(*version)


def test_a_tree_out_of_the_catalog_is_the_one_that_was_applied() -> None:
    content = ids(SEGMENT * 2 + 3)
    one = long(b"long", content)
    segments = [Segment(b"long", no, content[no * 1024 : (no + 1) * 1024]) for no in (2, 0, 1)]
    loaded = Tree([entry(b"", "folder"), one.entry, entry(b"z", hard=b"long")], segments)
    assert loaded.ids(b"long") == content
    assert loaded.delta({b"long": one}).empty
    assert loaded.names(b"") == {b"long", b"z"}


def test_names_of_one_file_are_known_until_they_go() -> None:
    made = tree(entry(b"a", ino=7), entry(b"b", ino=7, hard=b"a"), entry(b"c", ino=7, hard=b"a"))
    assert made.same_file(7) == {b"a", b"b", b"c"}
    made.apply({b"a": None, b"b": Seen(entry(b"b", ino=7)), b"c": Seen(entry(b"c", ino=7, hard=b"b"))})
    assert made.same_file(7) == {b"b", b"c"}
    assert made.bytes == 1


def test_a_view_shows_what_was_seen_over_the_tree() -> None:
    made = tree(entry(b"d", "folder"), entry(b"d/one"), entry(b"gone"))
    view = View(made, {b"d/two": Seen(entry(b"d/two")), b"gone": None, b"d/one": Seen(entry(b"d/one", size=5))})
    assert view.names(b"d") == {b"d/one", b"d/two"}
    assert view.names(b"") == {b"d"}
    assert view.entry(b"gone") is None
    assert set(view.below(b"")) == {b"d", b"d/one", b"d/two"}
    assert {each.path: each.size for each in view.entries()} == {b"": 0, b"d": 0, b"d/one": 5, b"d/two": 1}


FOLDER, LINK = Seen(entry(b"a", "folder")), Seen(entry(b"a", "link"))


@pytest.mark.parametrize(
    ("seen", "left", "doubtful"),
    [
        ({b"a": FOLDER, b"a/b": Seen(entry(b"a/b"))}, {b"", b"a", b"a/b"}, set()),
        ({b"a": LINK, b"a/b": Seen(entry(b"a/b")), b"a/b/c": Seen(entry(b"a/b/c"))}, {b"", b"a"}, {b"a/b", b"a/b/c"}),
        ({b"x/y": Seen(entry(b"x/y"))}, {b""}, {b"x/y"}),
        ({b"d": None}, {b""}, {b"d/e", b"d/e/f"}),
        ({b"d": Seen(entry(b"d"))}, {b"", b"d"}, {b"d/e", b"d/e/f"}),
        ({b"h": Seen(entry(b"h", hard=b"none", ino=1))}, {b""}, {b"h"}),
        ({b"h": Seen(entry(b"h", hard=b"k", ino=1)), b"k": Seen(entry(b"k", ino=2))}, {b"", b"k"}, {b"h"}),
        ({b"h": Seen(entry(b"h", hard=b"k", ino=2)), b"k": Seen(entry(b"k", ino=2))}, {b"", b"h", b"k"}, set()),
    ],
)
def test_paths_that_cannot_be_of_one_moment_are_left_out(
    seen: dict[bytes, Seen | None], left: set[bytes], doubtful: set[bytes]
) -> None:
    made = tree(entry(b"d", "folder"), entry(b"d/e", "folder"), entry(b"d/e/f"))
    sure, found = consistent(made, seen)
    made.apply(sure)
    kept = {b"d", b"d/e", b"d/e/f"} if b"d" not in seen else set()
    assert set(made.entries) == left | kept
    assert found == doubtful


def test_a_further_name_whose_file_went_is_left_out() -> None:
    made = tree(entry(b"a", ino=7), entry(b"b", ino=7, hard=b"a"))
    sure, doubtful = consistent(made, {b"a": Seen(entry(b"a", ino=8))})
    assert (doubtful, sure[b"b"]) == ({b"b"}, None)
