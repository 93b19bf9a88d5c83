"""What tests do to homes, and how they compare them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relit.errors import VolumeError
from relit.volumes.base import Changes
from relit.volumes.beneath import Beneath
from relit.volumes.watch.opening import Kind, OpenWatcher, open_watcher

Facts = dict[bytes, tuple[int, ...]]


def opened(kind: Kind) -> OpenWatcher:
    """Of that kind; without the right to it the test is skipped, except in CI."""
    try:
        return open_watcher(kind)
    except VolumeError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def covers(changes: Changes, path: bytes) -> bool:
    """Whether somebody who looks at these changes looks at that path.

    A touched path stands for what is below it only where it was no folder before, or is none now.
    """
    return changes.everything or path in changes.paths or any(path.startswith(each + b"/") for each in changes.trees)


def exchange(one: Path, other: Path) -> None:
    """Both at once; they lie in the same folder."""
    with Beneath(one.parent) as beneath:
        beneath.exchange(os.fsencode(one.name), beneath, os.fsencode(other.name))


def facts(home: Path) -> Facts:
    """Of every path, what a full comparison would look at: the inode, times, and the content's beginning."""
    found: Facts = {}
    for folder, folders, files in os.walk(os.fsencode(home)):
        for name in folders + files:
            path = os.path.join(folder, name)
            stat = os.lstat(path)
            key = (stat.st_ino, stat.st_mode, stat.st_uid)
            if not os.path.isdir(path):
                key += (stat.st_size, stat.st_mtime_ns, stat.st_nlink)
            found[os.path.relpath(path, os.fsencode(home))] = key
    return found
