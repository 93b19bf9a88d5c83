"""More events than the kernel keeps: nothing is missed silently."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relit.volumes.base import Changes
from relit.volumes.watch.fanotify import Fanotify
from relit.volumes.watch.inotify import Inotify
from relit.volumes.watch.maps import Mappings

_MORE = 17_000  # than the 16,384 that wait in a queue


@pytest.fixture(params=[Fanotify, Inotify])
def limited(request: pytest.FixtureRequest) -> Iterator[Fanotify | Inotify]:
    try:
        watcher = Fanotify(Mappings(), unlimited=False) if request.param is Fanotify else Inotify(Mappings())
    except PermissionError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"needs root: {error}")
    yield watcher
    watcher.close()


def flood(watcher: Fanotify | Inotify, home: Path) -> None:
    """Files are made while nobody reads the queue."""
    with watcher._reading.lock:
        for number in range(_MORE):
            os.close(os.open(home / str(number), os.O_CREAT | os.O_RDONLY))
        (home / "late").mkdir()


def test_lost_events_make_every_home_count_as_changed_whole(limited: Fanotify | Inotify, tmp_path: Path) -> None:
    home, quiet = tmp_path / "home", tmp_path / "quiet"
    home.mkdir()
    quiet.mkdir()
    watch, other = limited.watch(home), limited.watch(quiet)
    flood(limited, home)
    assert watch.drain().everything
    assert other.drain().everything
    assert watch.exact
    assert watch.drain() == other.drain() == Changes()
    (home / "late" / "file").touch()
    (quiet / "file").touch()
    assert watch.drain().paths == {b"late/file"}
    assert other.drain().paths == {b"file"}


FEW = """
import os, sys
from pathlib import Path
from relit.volumes.watch.opening import open_watcher
Path("/proc/sys/user/max_inotify_watches").write_text("20")
home, large, late = (Path(sys.argv[1], name) for name in ("home", "large", "late"))
for number in range(30):
    (large / str(number)).mkdir(parents=True)
home.mkdir(), late.mkdir()
watcher = open_watcher("auto")
assert watcher.ways == ("inotify", "sweep"), watcher.ways
watch, swept, growing = watcher.watch(home), watcher.watch(large), watcher.watch(late)
assert (watch.exact, swept.exact, growing.exact) == (True, False, True)
assert swept.drain().everything
for number in range(30):
    (late / str(number)).mkdir()
assert growing.drain().everything and not growing.exact
(home / "inner").mkdir()
assert watch.drain().trees == {b"inner"} and watch.exact
(home / "inner" / "file").touch()
assert watch.drain().paths == {b"inner/file"}
watcher.close()
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs util-linux")
def test_too_many_folders_for_inotify_make_a_home_swept_and_leave_the_others_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", FEW, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare failed" in done.stderr and os.environ.get("CI") != "true":
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert "large cannot be watched with inotify: No space left on device" in done.stderr
    assert "late has more folders than may be watched" in done.stderr
