"""Only processes that carry the demo's mark are found."""

from __future__ import annotations

import os
import subprocess
import sys

from relit.demo import processes
from relit.demo.processes import Found

SLEEP = [sys.executable, "-c", "import sys; sys.stdin.read()"]


def test_a_marked_process_is_found_and_killed_and_others_are_left_alone() -> None:
    env = {**os.environ, processes.MARK: "m1"}
    with (
        subprocess.Popen([*SLEEP, "worker"], env=env, stdin=subprocess.PIPE) as ours,
        subprocess.Popen(SLEEP, stdin=subprocess.PIPE) as other,
    ):
        found = processes.marked("m1")
        assert [process.pid for process in found] == [ours.pid]
        assert processes.role(found[0]) == "worker"
        processes.kill(ours.pid)
        assert ours.wait(10) == -9
        processes.kill(ours.pid)
        assert other.poll() is None
        assert processes.marked("m1") == []


def test_roles_are_told_by_the_command_line() -> None:
    assert processes.role(Found(1, ("python", "-m", "relit", "server"))) == "server"
    assert processes.role(Found(1, ("python", "-m", "relit", "up"))) == "node"
    assert processes.role(Found(1, ("python", "keeper.py"))) is None
