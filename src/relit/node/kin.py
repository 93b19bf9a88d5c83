"""Process trees: who belongs to a life, and how all of it is killed. Standard library only: the keeper uses it.

Where a cgroup v2 tree is writable (no controllers needed) each life has a group of its own: nothing leaves it, and
``cgroup.kill`` ends it at once. Elsewhere a life's members are found in /proc: descendants of its main process, its
session, and whoever carries its mark in the environment (children that called setsid and lost their parent). They
are stopped first, until no new ones appear, and then killed, so that none can fork away meanwhile.
"""

import os
import signal
import time

MARK = "RELIT_LIFE"
NOBODY = -1  # instead of a pid that may have been used again
_ROUNDS = 100  # of stopping newly found members; each round that finds one has stopped it, so this ends


class Proc:
    """One line of the process table."""

    __slots__ = ("pgid", "pid", "ppid", "sid", "start", "state")

    def __init__(self, pid: int, state: str, ppid: int, pgid: int, sid: int, start: int) -> None:
        self.pid, self.state, self.ppid, self.pgid, self.sid, self.start = pid, state, ppid, pgid, sid, start


def read_text(path: str) -> str | None:
    """The file's text, or ``None`` when it (or its process) is gone or not ours to read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return None


def complain(text: str) -> None:
    """Into the keeper's log, unless that lies on a full disk: nothing else may fail for that."""
    try:
        os.write(2, f"keeper: {text}\n".encode())
    except OSError:
        pass


def look(pid: int) -> Proc | None:
    """The process as it is now, zombies included."""
    stat = read_text(f"/proc/{pid}/stat")
    return _proc(pid, stat) if stat else None


def _proc(pid: int, stat: str) -> Proc:
    fields = stat[stat.rindex(")") + 2 :].split()
    return Proc(pid, fields[0], int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def alive(pid: int, start: int) -> bool:
    """Whether that very process (not a later one with its pid) lives."""
    proc = look(pid)
    return proc is not None and proc.start == start and proc.state not in "ZX"


def gone(pid: int, start: int) -> bool:
    """Whether that very process has ended for certain: not when nothing can be read of it, for want of descriptors."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="surrogateescape") as file:
            proc = _proc(pid, file.read())
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False
    return proc.start != start or proc.state in "ZX"


def look_alive(pid: int) -> Proc | None:
    """The same, but no zombies. A process whose first thread ended looks like one while its other threads go on."""
    proc = look(pid)
    return None if proc is None or (proc.state in "ZX" and _threads(pid) <= 1) else proc


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def table() -> dict[int, Proc]:
    """Every living process that can be seen."""
    found = (look_alive(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {proc.pid: proc for proc in found if proc is not None}


def mark_of(pid: int) -> str | None:
    """The life whose mark the process carries in its environment."""
    return mark_in(read_text(f"/proc/{pid}/environ") or "")


def mark_in(environ: str) -> str | None:
    """The same, out of its environment."""
    for entry in environ.split("\0"):
        if entry.startswith(MARK + "="):
            return entry[len(MARK) + 1 :]
    return None


def own_children() -> set[int] | None:
    """Pids of this process's children (orphans that came to it included), or ``None`` where the kernel hides them."""
    me = os.getpid()
    text = read_text(f"/proc/{me}/task/{me}/children")
    return None if text is None else {int(pid) for pid in text.split()}


def members(main: int, mark: str, processes: dict[int, Proc], marks: dict[int, str | None]) -> set[int]:
    """The pids that belong to a life, out of a process table; no I/O.

    ``main`` may be a zombie; it is ``NOBODY`` once it was reaped, because its number may be someone else's by now.
    """
    spared = {0, 1, os.getpid()}
    found = {
        pid
        for pid, proc in processes.items()
        if (main != NOBODY and main in (pid, proc.sid, proc.pgid)) or marks.get(pid) == mark
    } - spared
    while True:
        young = {pid for pid, proc in processes.items() if proc.ppid in found} - found - spared
        if not young:
            return found
        found |= young


def find_members(main: int, mark: str) -> set[int]:
    """The living processes of a life, from /proc."""
    processes = table()
    return members(main, mark, processes, {pid: mark_of(pid) for pid in processes})


def send(pid: int, number: int) -> bool:
    """Send a signal; false when nobody is there (or it is not ours to signal)."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_walk(main: int, mark: str) -> set[int]:
    """Stop, then kill, every member of a life. Returns the pids that were killed."""
    stopped: set[int] = set()
    for _ in range(_ROUNDS):
        fresh = find_members(main, mark) - stopped
        if not fresh:
            break
        for pid in fresh:
            send(pid, signal.SIGSTOP)
        stopped |= fresh
    return {pid for pid in stopped if send(pid, signal.SIGKILL)}


class Groups:
    """Cgroup v2 groups, one per life, below the group that we began in. ``usable`` is false where we may not make any.

    A child is born in its parent's group, so we wait in the next life's. To move from group to group the kernel waits
    until all CPUs have passed a quiet point, some 10 ms after a quiet spell: too long for when somebody died.
    """

    def __init__(self, scope: str, wanted: bool) -> None:
        self._home = own_group()
        self._base = f"{self._home}/relit-{scope}"
        self._next: str | None = None  # the empty group that we are in
        self.usable = wanted and self._home is not None and self._probe()

    def _probe(self) -> bool:
        try:
            os.makedirs(self._base, 0o700, exist_ok=True)
        except OSError:
            return False
        return os.path.exists(f"{self._base}/cgroup.kill")  # whether we may move, ``prepare`` finds out

    def take(self) -> str | None:
        """The group in which the next child will be born. Once it lives, call ``prepare``."""
        self.prepare()
        group, self._next = self._next, None
        return group

    def prepare(self) -> None:
        """Wait in an empty group. If that fails no more groups are used: we may be in one that is a life's."""
        if not self.usable or self._next is not None:
            return
        group = f"{self._base}/{time.monotonic_ns()}"
        try:
            os.makedirs(group, 0o700)
            write(f"{group}/cgroup.procs", "0")
        except OSError:
            self.usable = False
            return
        self._next = group

    def go_home(self) -> None:
        """Leave the group that is meant for a life: before a fork of our own, and at the end. Raises ``OSError``."""
        if self._next is not None:
            write(f"{self._home}/cgroup.procs", "0")
            discard(self._next)
            self._next = None

    def sweep(self) -> None:
        """Remove groups that are empty; one with a process in it stays, and is not left frozen."""
        for entry in os.scandir(self._base) if os.path.isdir(self._base) else ():
            if entry.is_dir():
                thaw_group(entry.path)
                discard(entry.path)

    def close(self) -> None:
        """Remove all groups. The kernel keeps a group until whoever inherited its last zombie has reaped it."""
        self.go_home()
        for _ in range(20):
            self.sweep()
            discard(self._base)
            if not os.path.isdir(self._base):
                return
            time.sleep(0.005)


def own_group() -> str | None:
    """The folder of the cgroup v2 group that we are in."""
    path = next((line[3:] for line in (read_text("/proc/self/cgroup") or "").splitlines() if line[:3] == "0::"), None)
    for line in (read_text("/proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        if path is not None and after.startswith("cgroup2 "):
            return (before.split()[4] + path).rstrip("/")
    return None


def group_pids(group: str) -> set[int]:
    """The living processes of a group and of the groups that they made in it."""
    found = {int(pid) for pid in (read_text(f"{group}/cgroup.procs") or "").split()}
    try:
        with os.scandir(group) as entries:
            inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return found  # the group is gone
    return found.union(*map(group_pids, inner))


def kill_group(group: str) -> set[int] | None:
    """Kill everything in a group at once. ``None`` when the kernel cannot, or when we are in it ourselves."""
    pids = group_pids(group)
    if os.getpid() in pids:
        return None
    try:
        write(f"{group}/cgroup.kill", "1")
    except OSError:
        return None
    return pids


def thaw_group(group: str) -> None:
    """Let a frozen group go on."""
    try:
        write(f"{group}/cgroup.freeze", "0")
    except OSError:
        pass  # the group is gone, and all its processes with it


def discard(group: str | None) -> None:
    """Remove an empty group. One that still has a dying process is left for ``sweep``."""
    if group is not None:
        try:
            os.rmdir(group)
        except OSError:
            pass


def write(path: str, text: str) -> None:
    """Write to a file of the kernel's."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
