"""The catalog against a model: whatever order snapshots, forks and drops come in, every tree is as it was taken.

The model keeps each snapshot's whole tree in a dictionary. It knows nothing of intervals.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from catalogs import NODE, T0, collected, commit, file, folder, link, numbers, segment, snapshot
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from relit.lib.ids import new_id
from relit.manifest import ID_BYTES, Change, Delta, Entry, Segment, Snapshot, Volume
from relit.store.sql.postgres.store import PostgresStore
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.sql.store import SqlStore
from relit.store.wakeups import Wakeups

PATHS = [b"a", b"a-b", b"a/b\xff", b"a0"]
SEGMENTS = 4
MANY_SNAPSHOTS, SNAPSHOTS_OF_A_PAGE = 25, 7
pick = st.integers(0, 10**6)
names = st.sampled_from(PATHS)

Key = tuple[bytes, int]


@dataclass(frozen=True)
class Tree:
    entries: dict[bytes, Entry] = field(default_factory=dict)
    segments: dict[Key, Segment] = field(default_factory=dict)

    def after(self, delta: Delta) -> Tree:
        """This tree, changed as a delta says."""
        entries = {} if delta.full else dict(self.entries)
        segments = {} if delta.full else dict(self.segments)
        cut = dict(delta.cut)
        segments = {key: each for key, each in segments.items() if key[1] < cut.get(key[0], SEGMENTS)}
        entries = {path: each for path, each in entries.items() if path not in delta.gone}
        entries |= {each.path: each for each in delta.entries}
        segments |= {(each.path, each.no): each for each in delta.segments}
        return Tree(entries, segments)

    def listed(self) -> tuple[list[Entry], list[Segment]]:
        return [self.entries[path] for path in sorted(self.entries)], [
            self.segments[key] for key in sorted(self.segments)
        ]

    def ids(self) -> set[bytes]:
        held = [each.parts for each in self.entries.values()] + [each.ids for each in self.segments.values()]
        return {ids[at : at + ID_BYTES] for ids in held for at in range(0, len(ids), ID_BYTES)}

    def differs(self, other: Tree) -> list[Change]:
        """What a comparison must tell: times that only show a touch do not count."""
        found = []
        for path in sorted(self.entries.keys() | other.entries.keys()):
            was, now = self.entries.get(path), other.entries.get(path)
            if _shown(was) != _shown(now) or self.content(path) != other.content(path):
                found.append(Change(path=path, before=was, after=now))
        return found

    def content(self, path: bytes) -> dict[int, bytes]:
        return {no: each.ids for (owner, no), each in self.segments.items() if owner == path}


def _shown(entry: Entry | None) -> Entry | None:
    return msgspec.structs.replace(entry, ino=0, ctime_ns=0) if entry else None


@dataclass
class ModelVolume:
    volume: Volume
    trees: dict[int, Tree] = field(default_factory=dict)
    newest: int = 0
    staged: Delta | None = None
    tags: dict[int, set[str]] = field(default_factory=dict)

    def tree(self) -> Tree:
        return self.trees.get(self.newest, Tree())


@st.composite
def changes_of_a_tree(draw: st.DrawFn) -> list[tuple[bytes, str, int]]:
    """(path, what happens to it, a number for the new content), one for each path at most."""
    what = st.sampled_from(["file", "touch", "folder", "link", "long", "long", "longer", "longer", "shorter", "gone"])
    paths = draw(st.lists(names, max_size=3, unique=True))
    return [(path, draw(what), draw(st.integers(1, 40))) for path in paths]


def delta_of(tree: Tree, wanted: list[tuple[bytes, str, int]], *, full: bool) -> Delta:
    """A delta as a capture would make it: segments never stay behind without their file."""
    made = Delta(full=full, entries=[], segments=[], gone=[], cut=[])
    for path, what, content in wanted:
        _add(made, Tree() if full else tree, path, what, content)
    return made


def _add(delta: Delta, tree: Tree, path: bytes, what: str, content: int) -> None:
    was = tree.entries.get(path)
    length = len(tree.content(path))
    if what == "touch" and was is not None:
        delta.entries.append(msgspec.structs.replace(was, ctime_ns=content))
    elif what == "longer" and 0 < length < SEGMENTS:
        delta.segments.append(segment(path, length, content))  # its segments alone differ
    elif what == "shorter" and length > 1:
        delta.cut.append((path, length - 1))
    else:
        _replace(delta, tree, path, what, content)


def _replace(delta: Delta, tree: Tree, path: bytes, what: str, content: int) -> None:
    if tree.content(path):
        delta.cut.append((path, 0))
    if what == "gone":
        if path in tree.entries:
            delta.gone.append(path)
    elif what == "folder":
        delta.entries.append(folder(path))
    elif what == "link":
        delta.entries.append(link(path, b"%d" % content))
    elif what == "long":
        delta.entries.append(file(path))
        delta.segments.extend(segment(path, no, content + no) for no in range(1 + content % SEGMENTS))
    else:
        delta.entries.append(file(path, content, content + 1))


class CatalogMachine(RuleBasedStateMachine):
    """Rules pick volumes and snapshots by number so that hypothesis can shrink."""

    make: Callable[[], Awaitable[SqlStore]]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = self.do(type(self).make())
        self.catalog = self.store.catalog
        self.volumes: list[ModelVolume] = []
        self.count = 0
        self.add_volume()

    def do(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        assert self.do(self.store.check()) == []
        self.do(self.store.stop())
        self.loop.close()

    def new_volume(self) -> Volume:
        self.count += 1
        return Volume(id=new_id(), name=f"agent-{self.count}", node=NODE, created_at_ms=T0)

    def add_volume(self) -> None:
        self.volumes.append(ModelVolume(self.do(self.catalog.make_volume(self.new_volume()))))

    def choose(self, number: int) -> ModelVolume:
        return self.volumes[number % len(self.volumes)]

    def all_snapshots(self, volume: str) -> list[Snapshot]:
        """A page at a time."""
        found: list[Snapshot] = []
        while page := self.do(
            self.catalog.snapshots(volume, before=found[-1].number if found else None, limit=SNAPSHOTS_OF_A_PAGE)
        ):
            found += page
        return found

    # --- rules -------------------------------------------------------------------------------------------------

    @rule(number=pick, wanted=st.lists(changes_of_a_tree(), min_size=1, max_size=5))
    @precondition(lambda self: all(len(each.trees) < MANY_SNAPSHOTS for each in self.volumes))
    def take_some(self, number: int, wanted: list[list[tuple[bytes, str, int]]]) -> None:
        for each in wanted:
            self.take(number, each, full=False, again=False)

    @rule(number=pick, wanted=changes_of_a_tree(), full=st.booleans(), again=st.booleans())
    def take(self, number: int, wanted: list[tuple[bytes, str, int]], full: bool, again: bool) -> None:
        chosen = self.choose(number)
        delta = delta_of(chosen.tree(), wanted, full=full)
        asked = commit(chosen.volume, chosen.newest + 1, delta)
        for _ in range(2 if again else 1):
            assert self.do(self.catalog.commit(asked)) == asked.snapshot
        chosen.staged = None  # it did not say that it had staged anything
        chosen.trees[chosen.newest + 1] = chosen.tree().after(delta)
        chosen.newest += 1

    @rule(number=pick, wanted=changes_of_a_tree(), full=st.booleans(), times=st.integers(1, 2))
    def stage(self, number: int, wanted: list[tuple[bytes, str, int]], full: bool, times: int) -> None:
        chosen = self.choose(number)
        if chosen.staged is not None:
            return
        chosen.staged = delta_of(chosen.tree(), wanted, full=full)
        for _ in range(times):
            self.do(self.catalog.stage(chosen.volume.id, chosen.newest + 1, chosen.staged))

    @rule(number=pick)
    def unstage(self, number: int) -> None:
        chosen = self.choose(number)
        self.do(self.catalog.unstage(chosen.volume.id, chosen.newest + 1))
        chosen.staged = None

    @rule(number=pick)
    def take_what_is_staged(self, number: int) -> None:
        chosen = self.choose(number)
        if chosen.staged is None:
            return
        self.do(self.catalog.commit(commit(chosen.volume, chosen.newest + 1, staged=True)))
        chosen.trees[chosen.newest + 1] = chosen.tree().after(chosen.staged)
        chosen.newest, chosen.staged = chosen.newest + 1, None

    @rule(number=pick, which=pick)
    @precondition(lambda self: len(self.volumes) < 2)
    def fork(self, number: int, which: int) -> None:
        chosen, new = self.choose(number), self.new_volume()
        if not chosen.trees:
            return
        at = sorted(chosen.trees)[which % len(chosen.trees)]
        self.do(self.catalog.fork(chosen.volume.id, at, new, snapshot(new, 1, reason="fork")))
        self.volumes.append(ModelVolume(new, {1: chosen.trees[at]}, 1))

    @rule(
        number=pick, some=st.sets(st.integers(0, 9), min_size=1, max_size=4), any_of_them=pick.map(lambda n: n % 8 == 7)
    )
    def drop(self, number: int, some: set[int], any_of_them: bool) -> None:
        chosen = self.choose(number)
        kept = {chosen.newest} | {n for n, tags in chosen.tags.items() if tags}
        found = sorted(chosen.trees.keys() - (set() if any_of_them else kept))
        wanted = list({found[place % len(found)] for place in some if found})
        gone = self.do(self.catalog.drop_snapshots(chosen.volume.id, wanted))
        assert gone == sorted(set(wanted) - kept)
        for n in gone:
            del chosen.trees[n]

    @rule(number=pick, which=pick, word=st.sampled_from(["known-good", "release", "other"]))
    def tag(self, number: int, which: int, word: str) -> None:
        chosen = self.choose(number)
        if not chosen.trees:
            return
        at = sorted(chosen.trees)[which % len(chosen.trees)]
        self.do(self.catalog.tag(chosen.volume.id, at, word))
        for tags in chosen.tags.values() if word != "known-good" else ():
            tags.discard(word)
        chosen.tags.setdefault(at, set()).add(word)

    @rule(number=pick)
    @precondition(lambda self: len(self.volumes) > 1)
    def remove(self, number: int) -> None:
        chosen = self.volumes.pop(number % len(self.volumes))
        self.do(self.catalog.remove_volume(chosen.volume.name))

    # --- what must always hold -----------------------------------------------------------------------------------

    @invariant()
    def every_tree_is_as_it_was_taken(self) -> None:
        for each in self.volumes:
            for number, tree in each.trees.items():
                found = (
                    self.do(self.catalog.tree(each.volume.id, number)),
                    self.do(self.catalog.all_segments(each.volume.id, number)),
                )
                assert found == tree.listed()

    @invariant()
    def snapshots_are_those_that_were_not_dropped(self) -> None:
        for each in self.volumes:
            found = self.all_snapshots(each.volume.id)
            assert numbers(found) == sorted(each.trees, reverse=True)
            assert {one.number: set(one.tags) for one in found if one.tags} == {n: t for n, t in each.tags.items() if t}
            assert self.do(self.catalog.volume(each.volume.name)).newest == each.newest

    @invariant()
    def changes_are_what_differs(self) -> None:
        for each in self.volumes:
            for a, b in itertools.pairwise([*sorted(each.trees), *sorted(each.trees)[:1]]):
                assert self.do(self.catalog.changes(each.volume.id, a, b)) == each.trees[a].differs(each.trees[b])

    @rule(number=pick, path=names)
    def look_at_one_path(self, number: int, path: bytes) -> None:
        chosen = self.choose(number)
        history = self.do(self.catalog.history(chosen.volume.id, path))
        for n, tree in chosen.trees.items():
            entry = tree.entries.get(path)
            assert self.do(self.catalog.entry(chosen.volume.id, n, path)) == entry
            assert [e for since, until, e in history if since <= n and (until is None or n < until)] == [
                each for each in [entry] if each
            ]
            inside = [p for p in sorted(tree.entries) if not path or p == path or p.startswith(path + b"/")]
            assert [e.path for e in self.do(self.catalog.tree(chosen.volume.id, n, under=path))] == inside

    @invariant()
    def exactly_what_trees_need_is_referred_to(self) -> None:
        needed = {id for each in self.volumes for tree in each.trees.values() for id in tree.ids()}
        for each in self.volumes:
            if each.staged is not None:
                needed |= Tree().after(each.staged).ids()
        assert self.do(collected(self.catalog.references())) == needed


BUDGET = settings(
    max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_catalog_on_sqlite_agrees_with_the_model() -> None:
    with tempfile.TemporaryDirectory(prefix="relit-") as folder:
        counted = itertools.count()

        async def make() -> SqlStore:
            store = SqliteStore(Path(folder) / f"{next(counted)}.db", wakeups=Wakeups())
            await store.start()
            return store

        machine = type("SqliteCatalog", (CatalogMachine,), {"make": staticmethod(make)})
        run_state_machine_as_test(machine, settings=BUDGET)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(120)
def test_the_catalog_on_postgres_agrees_with_the_model(postgres_url: str) -> None:
    counted = itertools.count()

    async def make() -> SqlStore:
        store = PostgresStore(postgres_url, schema=f"catalog_{os.getpid()}_{next(counted)}")
        await store.start()
        return store

    machine = type("PostgresCatalog", (CatalogMachine,), {"make": staticmethod(make)})
    run_state_machine_as_test(machine, settings=settings(BUDGET, max_examples=3))
