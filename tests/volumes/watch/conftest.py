"""A home that is watched in each of the two ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from edits_of_homes import opened

from relit.volumes.base import Watch
from relit.volumes.watch.opening import OpenWatcher


@pytest.fixture(params=["fanotify", "inotify"])
def watcher(request: pytest.FixtureRequest) -> Iterator[OpenWatcher]:
    made = opened(request.param)
    yield made
    made.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With some files from before the watch."""
    home = tmp_path / "agents" / "home"
    (home / "src" / "deep").mkdir(parents=True)
    (home / "src" / "deep" / "code.py").write_text("1")
    (home / "notes").write_text("old")
    (home / "other").mkdir()
    return home


@pytest.fixture
def watch(watcher: OpenWatcher, home: Path) -> Iterator[Watch]:
    watch = watcher.watch(home, [b"cache"])
    assert watch.exact
    yield watch
    watch.close()
