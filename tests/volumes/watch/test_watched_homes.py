"""Homes that move, vanish, come back, lie in each other; and many of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edits_of_homes import exchange

from relit.volumes.base import Changes, Watch
from relit.volumes.watch.opening import OpenWatcher, open_watcher


def works(watch: Watch, home: Path) -> None:
    """Events come, one by one."""
    assert watch.drain() == Changes()
    (home / "proof").touch()
    assert watch.drain().paths == {b"proof"}


def test_a_home_exchanged_with_a_sibling_counts_as_changed_whole(watch: Watch, home: Path) -> None:
    sibling = home.parent / "staged"
    (sibling / "src").mkdir(parents=True)
    exchange(home, sibling)
    assert watch.drain().everything
    works(watch, home)
    (sibling / "notes").write_text("the old home is no business of ours")
    assert watch.drain() == Changes()


def test_a_home_exchanged_and_exchanged_back_counts_as_changed_whole(watch: Watch, home: Path) -> None:
    sibling = home.parent / "staged"
    sibling.mkdir()
    exchange(home, sibling)
    exchange(home, sibling)
    assert watch.drain().everything
    works(watch, home)


def test_a_home_removed_and_made_again_counts_as_changed_whole(watch: Watch, home: Path) -> None:
    shutil.rmtree(home)
    assert watch.drain().everything
    assert watch.drain().everything
    home.mkdir()
    assert watch.drain().everything
    works(watch, home)


def test_a_home_whose_folder_above_moved_counts_as_changed_whole(watch: Watch, home: Path) -> None:
    away = home.parent.with_name("away")
    home.parent.rename(away)
    assert watch.drain().everything
    (away / "home" / "notes").write_text("written while away")
    away.rename(home.parent)
    assert watch.drain().everything
    works(watch, home)


def test_a_home_behind_a_symlink_is_found_and_found_again(watcher: OpenWatcher, home: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(home.parent)
    watch = watcher.watch(link / "home")
    works(watch, home)
    elsewhere = tmp_path / "elsewhere" / "home"
    elsewhere.mkdir(parents=True)
    link.unlink()
    link.symlink_to(elsewhere.parent)
    assert watch.drain().everything
    works(watch, elsewhere)


def test_a_home_may_come_later(watcher: OpenWatcher, tmp_path: Path) -> None:
    watch = watcher.watch(tmp_path / "later")
    assert watch.drain().everything
    (tmp_path / "later").mkdir()
    assert watch.drain().everything
    works(watch, tmp_path / "later")


def test_a_home_within_a_home_is_told_to_both(watcher: OpenWatcher, home: Path) -> None:
    outer, inner = watcher.watch(home), watcher.watch(home / "src")
    (home / "src" / "deep" / "code.py").write_text("2")
    assert outer.drain().paths == {b"src/deep/code.py"}
    assert inner.drain().paths == {b"deep/code.py"}
    inner.close()
    (home / "src" / "deep" / "code.py").write_text("3")
    assert outer.drain().paths == {b"src/deep/code.py"}


def test_two_hundred_homes_are_told_each_its_own(watcher: OpenWatcher, tmp_path: Path) -> None:
    homes = [tmp_path / str(number) for number in range(200)]
    for home in homes:
        (home / "a" / "b").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    watches = [watcher.watch(home) for home in homes]
    assert len(os.listdir("/proc/self/fd")) <= before + 5, "not one for each"
    for number, home in enumerate(homes):
        (home / "a" / "b" / str(number)).touch()
    for number, watch in enumerate(watches):
        assert watch.drain() == Changes(paths=frozenset({b"a/b/%d" % number}))
    for watch in watches[:100]:
        watch.close()
    for watch, home in list(zip(watches, homes, strict=True))[100:]:
        works(watch, home)


def test_a_closed_watcher_leaves_no_descriptor(watcher: OpenWatcher, home: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    watch, other = watcher.watch(home), watcher.watch(home)
    watch.drain()
    watch.close()
    other.close()
    assert len(os.listdir("/proc/self/fd")) == before
    late = watcher.watch(home)
    watcher.close()
    watcher.close()
    assert len(os.listdir("/proc/self/fd")) < before
    assert late.drain().everything
    assert not late.exact
    late.close()


def test_a_sweeping_watch_always_says_everything(home: Path) -> None:
    watcher = open_watcher("sweep")
    watch = watcher.watch(home)
    assert not watch.exact
    assert watch.drain().everything
    assert watch.mapped() == frozenset()
    watcher.close()
