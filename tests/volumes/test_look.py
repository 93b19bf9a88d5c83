"""Which paths are looked at when something was touched, and which of them share a file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from relit.volumes.base import Changes
from relit.volumes.beneath import Beneath
from relit.volumes.ignore import Ignore
from relit.volumes.look import firsts, sweep, touched
from relit.volumes.reading import Reader
from relit.volumes.scan import Home
from relit.volumes.tree import Tree, View


class Place:
    """A home and the tree of its last snapshot."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = Tree()
        self.beneath = Beneath(path)

    @property
    def home(self) -> Home:
        self.beneath.forget(b"")
        return Home(self.beneath, Ignore())

    def take(self) -> None:
        home = self.home
        reader = Reader(lambda data: b"%016d" % len(data), memoryview(bytearray(1 << 20)))
        self.tree.apply(reader.see(home, self.tree, sweep(home, View(self.tree)), lambda id, data: None))

    def touched(self, *paths: bytes, trees: tuple[bytes, ...] = ()) -> dict[bytes, bool]:
        """Whether the looked-at paths are there."""
        looked = touched(self.home, View(self.tree), Changes(frozenset(paths), frozenset(trees)))
        return {path: found is not None for path, found in looked.items()}

    def swept(self) -> dict[bytes, bool]:
        return {path: found is not None for path, found in sweep(self.home, View(self.tree)).items()}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").write_text("1")
    (tmp_path / "one").write_text("1")
    made = Place(tmp_path)
    made.take()
    yield made
    made.beneath.close()


def test_a_home_that_nobody_touched_is_not_looked_at(place: Place) -> None:
    assert place.swept() == place.touched() == {}


def test_a_touched_file_is_looked_at_and_the_folder_above_when_it_changed(place: Place) -> None:
    assert place.touched(b"d/e/f") == {b"d/e/f": True}
    (place.path / "d" / "e" / "g").touch()
    assert place.touched(b"d/e/g") == {b"d/e/g": True, b"d/e": True}


def test_a_new_folder_is_looked_at_with_all_that_is_in_it(place: Place) -> None:
    (place.path / "new" / "deep").mkdir(parents=True)
    (place.path / "new" / "deep" / "file").touch()
    wanted = {b"": True, b"new": True, b"new/deep": True, b"new/deep/file": True}
    assert place.touched(b"") == place.touched(b"new") == wanted
    assert place.swept() == wanted


def test_a_folder_that_is_gone_takes_all_below_with_it(place: Place) -> None:
    shutil.rmtree(place.path / "d")
    wanted = {b"d": False, b"d/e": False, b"d/e/f": False, b"": True}
    assert place.touched(b"d") == place.touched(b"") == place.swept() == wanted


def test_a_file_in_place_of_a_folder_takes_all_below_with_it(place: Place) -> None:
    shutil.rmtree(place.path / "d")
    (place.path / "d").write_text("a file")
    assert place.touched(b"d") == {b"d": True, b"d/e": False, b"d/e/f": False, b"": True}


def test_a_tree_is_looked_at_whole(place: Place) -> None:
    (place.path / "d" / "e" / "f").unlink()
    (place.path / "d" / "g").touch()
    found = place.touched(trees=(b"d",))
    assert found == {b"d": True, b"d/e": True, b"d/e/f": False, b"d/g": True}


def test_a_second_name_brings_the_first_one_in(place: Place) -> None:
    os.link(place.path / "one", place.path / "a-two")
    assert place.touched(b"a-two") == {b"a-two": True, b"one": True, b"": True}
    place.take()
    assert place.tree.entries[b"one"].hard == b"a-two"
    (place.path / "a-two").unlink()
    assert place.touched(b"a-two") == {b"a-two": False, b"one": True, b"": True}
    place.take()
    assert place.tree.entries[b"one"].hard == b""
    assert place.tree.ids(b"one") != b""


def test_the_first_name_in_byte_order_carries_the_content(place: Place) -> None:
    os.link(place.path / "one", place.path / "d" / "x")
    os.link(place.path / "one", place.path / "zz")
    looked = sweep(place.home, View(place.tree))
    assert firsts(looked) == {b"one": b"d/x", b"zz": b"d/x"}


def test_what_was_touched_after_a_reading_counts_as_changed(place: Place) -> None:
    settled = os.lstat(place.path / "one").st_ctime_ns
    looked = sweep(place.home, View(place.tree), settled)
    assert b"one" in looked
    assert sweep(place.home, View(place.tree), settled + 10**9) == {}
