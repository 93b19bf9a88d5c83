"""A snapshot is of the moment in which the agent stood still, whatever it did while files were read before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kit import Kit, noise
from shapes import difference, shape

from relit.errors import FreezeFailed
from relit.volumes.lookout import SWEEP_MS


def remove(home: Path) -> None:
    (home / "late").unlink()


def replace_first_name(home: Path) -> None:
    (home / "a").unlink()
    (home / "a").write_text("another file")


def link(home: Path) -> None:
    os.link(home / "c", home / "_first")


def swap_names(home: Path) -> None:
    (home / "a").rename(home / "x")
    (home / "c").rename(home / "a")
    (home / "x").rename(home / "c")


def folder_instead(home: Path) -> None:
    (home / "late").unlink()
    (home / "late").mkdir()
    (home / "late" / "in").write_text("it")


def file_instead(home: Path) -> None:
    (home / "sub" / "one").unlink()
    (home / "sub").rmdir()
    (home / "sub").write_text("a file")


def move_away(home: Path) -> None:
    (home / "sub").rename(home.parent / "outside")


def write_over(home: Path) -> None:
    with open(home / "big", "r+b") as file:
        file.seek(1 << 20)
        file.write(b"changed")


def revert(home: Path) -> None:
    (home / "old").write_text("as it was")


EDITS = [remove, replace_first_name, link, swap_names, folder_instead, file_instead, move_away, write_over, revert]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
async def test_what_changes_while_files_are_read_is_as_it_was_when_the_agent_stood_still(
    watched: Kit, edit: Callable[[Path], None]
) -> None:
    home = watched.home()
    (home / "old").write_text("as it was")
    await watched.take()
    (home / "old").write_text("for a moment")
    (home / "late").write_text("came late")
    (home / "a").write_text("two names")
    os.link(home / "a", home / "b")
    (home / "c").write_text("one name")
    (home / "sub").mkdir()
    (home / "sub" / "one").write_text("1")
    (home / "big").write_bytes(noise(2 << 20))
    watched.still.running = True
    watched.still.before = lambda: edit(home)
    taken = await watched.take()
    watched.still.before = lambda: None
    laid = await watched.lay(taken.number, watched.base / "laid")
    assert difference(shape(laid), shape(home)) == {}
    again = await watched.take()
    assert again.number == taken.number, "nothing has changed since"


_MAPPER = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
held = mmap.mmap(fd, 0)
os.close(fd)
print("mapped", flush=True)
for line in sys.stdin:
    held[70_000:70_005] = line.strip().encode()
    print("stored", flush=True)
"""


async def test_what_a_process_stores_through_a_mapping_is_seen(watched: Kit) -> None:
    file = watched.home() / "mapped"
    file.write_bytes(noise(200_000))
    await watched.take()
    child = subprocess.Popen(
        [sys.executable, "-c", _MAPPER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "mapped\n"
        await watched.take()
        for word in ("first", "secnd"):
            child.stdin.write(word + "\n")
            child.stdin.flush()
            assert child.stdout.readline() == "stored\n"
            taken = await watched.take()
            laid = await watched.lay(taken.number, watched.base / word)
            assert (laid / "mapped").read_bytes()[70_000:70_005] == word.encode()
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()


async def test_what_is_written_under_a_name_that_is_gone_is_seen_by_the_next_sweep(watched: Kit) -> None:
    """Events name the path by which the file was opened: nothing says which other name is meant."""
    home = watched.home()
    with open(home / "draft", "wb", buffering=0) as file:
        file.write(b"one")
        os.link(home / "draft", home / "final")
        (home / "draft").unlink()
        await watched.take()
        file.write(b" two")
        watched.clock.offset += SWEEP_MS
        taken = await watched.take()
    laid = await watched.lay(taken.number, watched.base / "laid")
    assert (laid / "final").read_bytes() == b"one two"


async def test_a_snapshot_that_was_not_of_one_moment_is_none(volumes: Kit) -> None:
    (volumes.home() / "note").write_text("1")
    volumes.still.running, volumes.still.whole = True, False
    with pytest.raises(FreezeFailed):
        await volumes.take()
    assert volumes.still.freezes == 3
    volumes.still.whole = True
    assert b"note" in await volumes.tree((await volumes.take()).number)
