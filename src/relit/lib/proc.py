"""Who a process is: a pid alone names nobody, since pids are used again."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

import msgspec


class ProcessId(msgspec.Struct, frozen=True):
    """One process, ever: pid, its start time in clock ticks, the boot and the pid namespace both belong to."""

    pid: int
    start: int
    boot: str
    namespace: str


@functools.cache
def boot_id() -> str:
    """This boot's id: changes with every reboot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@functools.cache
def pid_namespace() -> str:
    """The pid namespace this process lives in, as the kernel names it."""
    return os.readlink("/proc/self/ns/pid")


def start_time(pid: int) -> int | None:
    """The start time of ``pid`` in clock ticks since boot; ``None`` when it is gone or a zombie."""
    fields = _stat(pid)
    return None if not fields or fields[0] in (b"Z", b"X") else int(fields[19])


def state_of(pid: int) -> str:
    """Its main thread's state: a letter of ``proc(5)``; empty when it is gone."""
    fields = _stat(pid)
    return fields[0].decode() if fields else ""


def cpu_ticks(pid: int) -> int:
    """Clock ticks of CPU that it and its ended children have used; 0 when it is gone."""
    return sum(map(int, _stat(pid)[11:15]))


def resident(pid: int) -> int:
    """Bytes of memory that it has; 0 when it is gone."""
    statm = _read(f"/proc/{pid}/statm")
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm else 0


def _stat(pid: int) -> list[bytes]:
    """The fields of ``/proc/PID/stat`` after the name."""
    stat = _read(f"/proc/{pid}/stat")
    return stat[stat.rindex(b")") + 2 :].split() if stat else []


def _read(path: str) -> bytes:
    """A small file of the kernel's; empty when its process is gone. A third of the time that ``pathlib`` takes."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return b""
    try:
        return os.read(fd, 4096)
    except ProcessLookupError:
        return b""
    finally:
        os.close(fd)


def identify(pid: int) -> ProcessId | None:
    """``pid`` as it is now, or ``None`` when no such process lives."""
    start = start_time(pid)
    return None if start is None else ProcessId(pid, start, boot_id(), pid_namespace())


def myself() -> ProcessId:
    """This process."""
    me = identify(os.getpid())
    assert me is not None, "a running process has a start time"
    return me


def proven_dead(process: ProcessId) -> bool:
    """Whether ``process`` certainly no longer runs.

    True when the pid is free or someone else's. A process of another machine, boot or pid namespace is never proven
    dead from here: it may live where we cannot look.
    """
    if process.namespace != pid_namespace():
        return False
    if process.boot != boot_id():
        return False  # another machine, or ours before a reboot: the lease decides
    return start_time(process.pid) != process.start


MARK = "RELIT_WORKER_ID"


def mark_children(name: str) -> None:
    """From now on every process started by this one carries ``name`` in its environment, however it detaches."""
    os.environ[MARK] = name  # noqa: TID251 - written for children, never read back


def kill_marked(name: str) -> list[int]:
    """SIGKILL every process that carries ``name``: what a dead process has left behind. Answers their pids.

    Repeats until a look finds none, since a process may start another between a look and its own end.
    """
    killed: list[int] = []
    while found := _marked(name):
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        killed += found
    return killed


def _marked(name: str) -> list[int]:
    word = f"{MARK}={name}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            environment = Path(f"/proc/{entry}/environ").read_bytes()
        except OSError:
            continue  # it has gone, is a zombie, or belongs to somebody else
        if word in environment.split(b"\0") and start_time(int(entry)) is not None:
            found.append(int(entry))
    return found
