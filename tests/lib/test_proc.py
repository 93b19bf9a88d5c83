from __future__ import annotations

import os
import select
import subprocess
import sys

import msgspec

from relit.lib import proc
from relit.lib.ids import new_id


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def test_a_living_process_is_not_dead() -> None:
    assert not proc.proven_dead(proc.myself())


def test_a_killed_process_is_dead_even_before_it_is_reaped() -> None:
    child = sleeper()
    who = proc.identify(child.pid)
    assert who is not None
    assert not proc.proven_dead(who)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert proc.proven_dead(who)
    child.communicate()
    assert proc.proven_dead(who)


def test_a_pid_in_use_again_is_somebody_else() -> None:
    assert proc.proven_dead(msgspec.structs.replace(proc.myself(), start=proc.myself().start - 1))


def test_death_is_never_proven_for_another_boot_or_namespace() -> None:
    gone = msgspec.structs.replace(proc.myself(), start=1)
    assert proc.proven_dead(gone)
    assert not proc.proven_dead(msgspec.structs.replace(gone, boot="another"))
    assert not proc.proven_dead(msgspec.structs.replace(gone, namespace="pid:[1]"))


def test_start_time_is_read_behind_odd_command_names() -> None:
    with open("/proc/self/comm", "w") as comm:
        comm.write(") R 1 (")
    try:
        assert proc.start_time(os.getpid()) == proc.myself().start
    finally:
        with open("/proc/self/comm", "w") as comm:
            comm.write("python")


ORPHANS = """
import os, subprocess, sys
from relit.lib import proc
proc.mark_children(sys.argv[1])
child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
away = subprocess.Popen(["setsid", "sleep", "600"], stdout=subprocess.DEVNULL)
print(child.pid, away.pid, flush=True)
input()
"""


def test_what_a_dead_process_left_behind_is_killed_even_when_detached() -> None:
    mark = new_id()
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHANS, mark], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    left = {int(pid) for pid in parent.stdout.readline().split()}
    watched = {pid: os.pidfd_open(pid) for pid in left}
    parent.kill()
    parent.communicate()
    assert proc.kill_marked(mark + "x") == []
    assert set(proc.kill_marked(mark)) <= left
    for fd in watched.values():
        assert select.select([fd], [], [], 10)[0], "it ends"
        os.close(fd)
