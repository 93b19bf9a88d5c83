"""Whatever is done to a home, what is told covers what a full comparison finds."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from edits_of_homes import covers, exchange, facts, opened
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relit.volumes.base import Changes, Watch
from relit.volumes.watch.opening import Kind

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
INSIDE = PATHS.map(lambda path: "home/" + path)
ANYWHERE = st.one_of(INSIDE, INSIDE, INSIDE, PATHS.map(lambda path: "out/" + path))
EDITS = st.one_of(
    st.tuples(st.just("write"), ANYWHERE, st.just("")),
    st.tuples(st.just("folders"), ANYWHERE, st.just("")),
    st.tuples(st.just("remove"), ANYWHERE, st.just("")),
    st.tuples(st.just("mode"), ANYWHERE, st.just("")),
    st.tuples(st.just("rename"), ANYWHERE, ANYWHERE),
    st.tuples(st.just("exchange"), INSIDE, INSIDE),
    st.tuples(st.just("link"), INSIDE, INSIDE),
    st.tuples(st.just("swap home"), st.just("home"), st.just("out")),
    st.tuples(st.just("drain"), st.just(""), st.just("")),
)


def edit(base: Path, what: str, one: Path, other: Path) -> None:
    """One edit, if it can be done."""
    if what == "write":
        one.parent.mkdir(parents=True, exist_ok=True)
        one.write_text("x" * (1 + (one.stat().st_size if one.exists() else 0)))
    elif what == "folders":
        one.mkdir(parents=True)
    elif what == "remove":
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    elif what == "mode":
        one.chmod(one.stat().st_mode ^ 0o010)
    elif what == "rename":
        other.parent.mkdir(parents=True, exist_ok=True)
        one.rename(other)
    elif what == "link":
        os.link(one, other)
    elif what == "exchange" and one.parent == other.parent:
        exchange(one, other)
    elif what == "swap home":
        exchange(base / "home", base / "out")


def compare(watch: Watch, home: Path, before: dict[bytes, tuple[int, ...]]) -> dict[bytes, tuple[int, ...]]:
    """What changed is told; a file that only has other names now is known by them."""
    changes = watch.drain()
    now = facts(home)
    for path in before.keys() | now.keys():
        was, found = before.get(path), now.get(path)
        if was is not None and found is not None and was[:-1] == found[:-1]:
            continue
        assert covers(changes, path) or removed_above(changes, path, was, found), (path, was, found, changes)
    return now


def removed_above(changes: Changes, path: bytes, was: object, found: object) -> bool:
    """What was below a folder that was moved away is found missing by looking at that folder's path."""
    above = [path[:at] for at, byte in enumerate(path) if byte == ord("/")]
    return was is not None and found is None and any(each in changes.paths for each in above)


@pytest.mark.parametrize("kind", ["fanotify", "inotify"])
@given(edits=st.lists(EDITS, max_size=40))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_told_covers_what_changed(kind: Kind, edits: list[tuple[str, str, str]]) -> None:
    watcher = opened(kind)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for each in ("home/a/a", "home/b", "out/a/b"):
            (base / each).mkdir(parents=True)
        watch = watcher.watch(base / "home")
        before = facts(base / "home")
        for what, one, other in [*edits, ("drain", "", "")]:
            with suppress(OSError):
                edit(base, what, base / one, base / other)
            if what == "drain":
                before = compare(watch, base / "home", before)
    watcher.close()
