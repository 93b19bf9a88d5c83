"""What a process holds can be kept out of swap."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOCKS = """
done = memlock.lock()
kept = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmLck"))
print(done, int(kept) > 1000)
"""
IMPORTS = "import ctypes, os, resource\nfrom pathlib import Path\nfrom relit.lib import memlock\n"
NOBODY = "resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))\nif os.geteuid() == 0: os.setuid(65534)\n"


def said(program: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(os.geteuid() != 0, reason="root may")
def test_all_that_it_holds_is_locked() -> None:
    assert said(IMPORTS + LOCKS) == ["True", "True"]


def test_who_may_not_is_told_and_goes_on() -> None:
    assert said(IMPORTS + NOBODY + LOCKS) == ["False", "False"]
