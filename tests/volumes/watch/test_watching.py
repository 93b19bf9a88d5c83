"""Whatever touches a path is told, whichever way it is watched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from edits_of_homes import covers, exchange

from relit.volumes.base import Changes, Watch
from relit.volumes.watch.opening import OpenWatcher

Edit = Callable[[Path], object]
FILE_EDITS: dict[str, tuple[Edit, bytes]] = {
    "write": (lambda home: (home / "notes").write_text("new"), b"notes"),
    "create": (lambda home: (home / "src" / "new").touch(), b"src/new"),
    "remove": (lambda home: (home / "notes").unlink(), b"notes"),
    "truncate": (lambda home: os.truncate(home / "src" / "deep" / "code.py", 0), b"src/deep/code.py"),
    "mode": (lambda home: (home / "notes").chmod(0o600), b"notes"),
    "times": (lambda home: os.utime(home / "notes", (1, 1)), b"notes"),
    "xattr": (lambda home: os.setxattr(home / "notes", "user.a", b"1"), b"notes"),
    "owner": (lambda home: os.chown(home / "notes", os.getuid(), os.getgid()), b"notes"),
    "symlink": (lambda home: (home / "link").symlink_to("notes"), b"link"),
    "hard link": (lambda home: os.link(home / "notes", home / "src" / "same"), b"src/same"),
    "fifo": (lambda home: os.mkfifo(home / "pipe"), b"pipe"),
    "folder's mode": (lambda home: (home / "src" / "deep").chmod(0o711), b"src/deep"),
    "home's mode": (lambda home: home.chmod(0o711), b""),
    "odd name": (lambda home: (home / os.fsdecode(b"a\nb\xff\\012 (deleted)")).touch(), b"a\nb\xff\\012 (deleted)"),
}


@pytest.mark.parametrize("name", FILE_EDITS)
def test_every_kind_of_edit_is_told(watch: Watch, home: Path, name: str) -> None:
    edit, path = FILE_EDITS[name]
    edit(home)
    changes = watch.drain()
    assert path in changes.paths
    assert not changes.everything
    assert watch.drain() == Changes()


def test_nothing_is_told_when_only_reading(watch: Watch, home: Path) -> None:
    for path in home.rglob("*"):
        path.is_file() and path.read_bytes()
    assert watch.drain() == Changes()


def test_a_write_through_a_descriptor_opened_before_the_watch_is_told(watcher: OpenWatcher, home: Path) -> None:
    with open(home / "notes", "ab", buffering=0) as file:
        watch = watcher.watch(home)
        file.write(b"more")
        assert watch.drain().paths == {b"notes"}


def test_a_renamed_file_is_told_under_both_names_and_written_under_the_new(watch: Watch, home: Path) -> None:
    with open(home / "notes", "ab", buffering=0) as file:
        (home / "notes").rename(home / "src" / "moved")
        assert {b"notes", b"src/moved"} <= watch.drain().paths
        file.write(b"more")
        assert watch.drain().paths == {b"src/moved"}


def test_folders_made_at_once_with_a_file_in_them_are_told(watch: Watch, home: Path) -> None:
    (home / "a" / "b" / "c").mkdir(parents=True)
    (home / "a" / "b" / "c" / "file").touch()
    assert covers(watch.drain(), b"a/b/c/file")
    (home / "a" / "b" / "c" / "file").write_text("later")
    assert b"a/b/c/file" in watch.drain().paths


def test_a_renamed_folder_is_a_tree_at_its_new_place(watch: Watch, home: Path) -> None:
    (home / "src" / "deep" / "code.py").write_text("2")
    (home / "src").rename(home / "lib")
    changes = watch.drain()
    assert {b"src", b"lib"} <= changes.paths
    assert b"lib" in changes.trees
    (home / "lib" / "deep" / "code.py").write_text("3")
    assert watch.drain().paths == {b"lib/deep/code.py"}


def test_paths_learned_before_a_folder_moved_are_not_used_after(watch: Watch, home: Path) -> None:
    (home / "src" / "deep" / "code.py").write_text("2")
    watch.drain()
    (home / "src").rename(home / "lib")
    (home / "lib" / "deep" / "new").touch()
    changes = watch.drain()
    assert covers(changes, b"lib/deep/new")
    (home / "lib").rename(home / "src")
    watch.drain()
    (home / "src" / "deep" / "code.py").write_text("4")
    assert watch.drain().paths == {b"src/deep/code.py"}


def test_a_folder_that_moves_in_is_a_tree_and_one_that_moves_out_is_silent(
    watch: Watch, home: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (outside / "inner" / "file").write_text("1")
    assert watch.drain() == Changes()
    outside.rename(home / "in")
    assert b"in" in watch.drain().trees
    (home / "in" / "inner" / "file").write_text("2")
    assert watch.drain().paths == {b"in/inner/file"}
    (home / "in").rename(outside)
    assert watch.drain().paths == {b"in"}
    (outside / "inner" / "file").write_text("3")
    assert watch.drain() == Changes()


def test_two_folders_that_change_places_are_both_watched_on(watch: Watch, home: Path) -> None:
    exchange(home / "src", home / "other")
    changes = watch.drain()
    assert {b"src", b"other"} <= changes.trees
    (home / "other" / "deep" / "code.py").write_text("2")
    (home / "src" / "fresh").touch()
    assert watch.drain().paths == {b"other/deep/code.py", b"src/fresh"}


def test_a_folder_removed_and_made_again_is_watched(watch: Watch, home: Path) -> None:
    (home / "other").rmdir()
    (home / "other").mkdir()
    (home / "other" / "one").touch()
    assert covers(watch.drain(), b"other/one")
    (home / "other" / "two").touch()
    assert watch.drain().paths == {b"other/two"}


def test_a_folder_that_moved_into_a_new_one_before_that_was_seen_is_watched_there(watch: Watch, home: Path) -> None:
    (home / "new").mkdir()
    (home / "src").rename(home / "new" / "src")
    assert covers(watch.drain(), b"new/src/deep/code.py")
    (home / "new" / "src" / "deep" / "code.py").write_text("2")
    (home / "new" / "src" / "fresh").touch()
    assert watch.drain().paths == {b"new/src/deep/code.py", b"new/src/fresh"}


def test_what_is_skipped_is_not_told_until_it_moves_out(watch: Watch, home: Path) -> None:
    (home / "cache" / "inner").mkdir(parents=True)
    (home / "cache" / "inner" / "file").touch()
    assert watch.drain() == Changes(paths=frozenset({b"cache"}))
    (home / "cache" / "inner" / "file").write_text("x")
    assert watch.drain() == Changes()
    (home / "cache" / "inner").rename(home / "kept")
    changes = watch.drain()
    assert b"kept" in changes.trees
    (home / "kept" / "file").write_text("y")
    assert watch.drain().paths == {b"kept/file"}


def test_other_folders_beside_the_home_are_not_told(watch: Watch, home: Path) -> None:
    beside = home.parent / "home2"
    beside.mkdir()
    (beside / "notes").touch()
    beside.rename(home.parent / "home3")
    assert watch.drain() == Changes()


def test_a_closed_watch_knows_nothing_any_more(watch: Watch) -> None:
    watch.close()
    watch.close()
    assert watch.drain().everything
    assert not watch.exact
