"""A second node on one machine knows of the first."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from relit.lib.clock import SYSTEM_CLOCK
from relit.node import claim
from relit.node.claim import Claim

OTHER = """
import sys
from relit.lib.clock import SYSTEM_CLOCK
from relit.node.claim import Claim
mine = Claim(SYSTEM_CLOCK, sys.argv[1].replace("@", chr(0)))
print(mine.other(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", OTHER, f"@relit-test-{os.getpid()}"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "None\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_one_is_told_who_was_first_until_that_is_dead(
    other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "_AGAIN_S", 0.0)
    mine = Claim(SYSTEM_CLOCK, f"\0relit-test-{os.getpid()}")
    for _ in range(20):
        assert mine.other() == other.pid, "also when it greets nobody"
    other.kill()
    other.wait()
    assert mine.other() is None
    third = Claim(SYSTEM_CLOCK, f"\0relit-test-{os.getpid()}")
    assert third.other() is None, "it is this very process"
    mine.close()
