"""Homes on filesystems of several kinds, watched by one watcher."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edits_of_homes import opened

from relit.volumes.base import Changes, Watch
from relit.volumes.watch.fanotify import FanotifyWatch
from relit.volumes.watch.inotify import InotifyWatch
from relit.volumes.watch.opening import OpenWatcher, open_watcher

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts something at a new folder, until the test ends."""
    mounted: list[Path] = []

    def mount(*arguments: str) -> Path:
        where = tmp_path / f"mounted{len(mounted)}"
        where.mkdir()
        done = subprocess.run(["mount", *arguments, where], capture_output=True, text=True, check=False)
        if done.returncode:
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(done.stderr)
        mounted.append(where)
        return where

    yield mount
    for where in reversed(mounted):
        subprocess.run(["umount", where], check=True)  # fails while anything is left open there


@pytest.fixture
def auto() -> Iterator[OpenWatcher]:
    opened("fanotify").close()
    watcher = open_watcher()
    yield watcher
    watcher.close()


def works(watch: Watch, home: Path) -> None:
    """Also in folders, which fanotify must find by their handles."""
    (home / "inner").mkdir()
    assert b"inner" in watch.drain().paths
    (home / "inner" / "file").write_text("1")
    assert watch.drain() == Changes(paths=frozenset({b"inner/file"}))


def test_homes_on_several_filesystems_are_watched_by_one(auto: OpenWatcher, mount: Mount, tmp_path: Path) -> None:
    homes = [tmp_path / "home", mount("-t", "tmpfs", "tmpfs") / "home", mount("-t", "tmpfs", "tmpfs") / "home"]
    for home in homes:
        home.mkdir()
    watches = [auto.watch(home) for home in homes]
    for watch, home in zip(watches, homes, strict=True):
        assert watch.exact
        works(watch, home)
        assert all(other.drain() == Changes() for other in watches)
    for watch in watches:
        watch.close()


def test_a_filesystem_without_handles_is_watched_folder_by_folder(
    auto: OpenWatcher, mount: Mount, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    layers = f"lowerdir={tmp_path / 'lower'},upperdir={tmp_path / 'upper'},workdir={tmp_path / 'work'}"
    home = mount("-t", "overlay", "overlay", "-o", layers)
    watch = auto.watch(home)
    assert isinstance(watch, InotifyWatch)
    assert watch.exact
    assert "cannot be watched with fanotify" in caplog.text
    works(watch, home)
    watch.close()


def test_a_home_in_a_bind_mount_is_told_whoever_writes_where(auto: OpenWatcher, mount: Mount, tmp_path: Path) -> None:
    real = tmp_path / "real"
    (real / "home" / "deep").mkdir(parents=True)
    bound = mount("--bind", str(real)) / "home"
    watch, other = auto.watch(bound), auto.watch(real / "home")
    assert isinstance(watch, FanotifyWatch)
    works(watch, bound)
    assert b"inner/file" in other.drain().paths
    (real / "home" / "deep" / "file").touch()
    assert watch.drain().paths == other.drain().paths == {b"deep/file"}
    watch.close()
