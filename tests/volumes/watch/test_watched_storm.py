"""Folders change places while they are being watched: afterwards every one of them is watched where it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edits_of_homes import covers

from relit.volumes.base import Changes
from relit.volumes.watch.opening import OpenWatcher

STORM = """
import os, random, shutil, sys, time
dice = random.Random(int(sys.argv[2]))
os.chdir(sys.argv[1])
def path():
    tops = ("home", "home", "out")
    return "/".join(dice.choice("abc" if at else tops) for at in range(dice.randint(2, 5)))
end = time.monotonic() + 1.5
while time.monotonic() < end:
    try:
        what = dice.random()
        if what < 0.48: os.makedirs(path(), exist_ok=True)
        elif what < 0.97: os.rename(path(), path())
        else: shutil.rmtree(path())
    except OSError:
        pass
"""


def test_after_a_storm_of_renames_every_folder_is_watched(watcher: OpenWatcher, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    watch = watcher.watch(home)
    storms = [subprocess.Popen([sys.executable, "-c", STORM, tmp_path, str(seed)]) for seed in (1, 2)]
    drained = 0
    while any(storm.poll() is None for storm in storms):
        drained += watch.drain() != Changes()
    assert drained
    assert all(storm.wait() == 0 for storm in storms)
    watch.drain()
    assert watch.drain() == Changes()
    folders = [Path(folder) for folder, _, _ in os.walk(home)]
    assert len(folders) > 1
    for folder in folders:
        (folder / "proof").touch()
    changes = watch.drain()
    assert not changes.everything
    assert not changes.trees
    for folder in folders:
        assert covers(changes, os.fsencode((folder / "proof").relative_to(home)))
