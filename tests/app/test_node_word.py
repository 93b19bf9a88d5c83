"""What commands say to the node that runs here."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from relit.app.node_word import heeds

STATUS = "Name:\tpython\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigCgt:\t{caught:016x}\n"
HUP, KILL = 1 << signal.SIGHUP - 1, 1 << signal.SIGKILL - 1


@pytest.mark.parametrize(
    ("pending", "shared", "caught", "said"),
    [
        (0, 0, HUP, True),
        (0, 0, 0, False),
        (KILL, 0, HUP, False),
        (0, KILL, HUP, False),
        (1 << signal.SIGCHLD - 1, 0, HUP, True),
    ],
)
def test_a_node_that_is_killed_already_is_not_spoken_to(pending: int, shared: int, caught: int, said: bool) -> None:
    assert heeds(STATUS.format(pending=pending, shared=shared, caught=caught)) is said


def test_what_the_kernel_says_of_a_process_is_understood() -> None:
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        assert heeds(Path(f"/proc/{os.getpid()}/status").read_text())
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert not heeds(Path(f"/proc/{os.getpid()}/status").read_text())
    finally:
        signal.signal(signal.SIGHUP, before)
