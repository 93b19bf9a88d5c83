"""A clone that is seen at its original's path."""

from __future__ import annotations

from relit.control.box import Box
from relit.drivers.machine import Found
from relit.drivers.sandbox import view, wrap

FOUND = Found(bwrap="/usr/bin/bwrap", works=True, pids=True, network=True)
BOX = Box(home="/data/agents/bob/home", tmp="/data/agents/bob.trial/tmp", stand_in="/data/agents/bob.trial/home")


def test_a_clone_is_seen_at_the_path_of_its_original() -> None:
    assert view(BOX, FOUND).behind("/data/agents/bob/home/state/x") == "/data/agents/bob.trial/home/state/x"


def test_the_original_is_not_bound() -> None:
    words = wrap(["true"], BOX, FOUND)
    at = words.index("/data/agents/bob.trial/home")
    assert words[at - 1 : at + 2] == ["--bind", "/data/agents/bob.trial/home", "/data/agents/bob/home"]
    assert words.count("/data/agents/bob/home") == 1
