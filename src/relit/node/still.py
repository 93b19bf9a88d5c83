"""Making a process tree stand still, and letting it go on. Standard library only: the keeper and its guard use it.

A life with a cgroup v2 group of its own is frozen by ``cgroup.freeze``: the kernel does it, at once and unseen by the
processes. Elsewhere every process of the tree gets SIGSTOP, until all threads stand and no new process appears.

What is about to be stopped is written down first (``save``), so that whoever finds the note can undo it: the keeper,
its guard when the keeper was killed, the client that had asked, or the next keeper. Letting go twice is harmless. A
process that had stopped itself is not in the note, and stays stopped.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterable

from relit.node import kin

FREEZE_S = 0.1  # longer than this nobody waits: it is undone, and the freeze has failed
STOP_S = 0.2  # by signals: on a busy machine every process needs its turn to stop
_VFORK_S = 0.02  # a process inside vfork cannot stop until its child has called exec: both go on, and are stopped anew
_PAUSE_S = 0.0002
_EXEC_S = 0.1
_YOUNG = 100  # clock ticks of 10 ms
_NOTE = "frozen.json"
_STANDS = "TtZX"  # states of a thread that runs no code of its own


class Still:
    """One life that stands still (or is about to): all that is needed to let it go."""

    __slots__ = ("group", "key", "name", "pids", "until_ms")

    def __init__(
        self, key: str, name: str, group: str | None, until_ms: int, pids: Iterable[tuple[int, int]] = ()
    ) -> None:
        self.key, self.name, self.group, self.until_ms = key, name, group, until_ms
        self.pids = list(pids)  # (pid, start) of those that we stopped

    def view(self) -> dict[str, object]:
        """As it is written down and told."""
        return {"how": "signals" if self.group is None else "cgroup"} | {n: getattr(self, n) for n in self.__slots__}


def read(view: dict[str, object]) -> Still:
    """A record out of its view. Raises ``ValueError``, ``KeyError`` or ``TypeError``."""
    pids = [(int(pid), int(start)) for pid, start in view["pids"]]  # type: ignore[attr-defined]
    group = None if view["group"] is None else str(view["group"])
    return Still(str(view["key"]), str(view["name"]), group, int(view["until_ms"]), pids)  # type: ignore[call-overload]


# --- standing still ------------------------------------------------------------------------------------------------


def freeze_group(group: str) -> bool:
    """Freeze everything in a group, and wait until it is. False: it would not, or we are in it; nothing is frozen."""
    until = time.monotonic() + FREEZE_S
    if os.getpid() in kin.group_pids(group):
        return False
    try:
        kin.write(f"{group}/cgroup.freeze", "1")
        while not _frozen(group):
            if time.monotonic() > until:
                kin.thaw_group(group)
                return False
            time.sleep(_PAUSE_S)  # its notifications come up to 10 ms late
    except OSError:
        return False
    return True


def _frozen(group: str) -> bool:
    return "frozen 1" in (kin.read_text(f"{group}/cgroup.events") or "")


def stop(still: Still, main: int, mark: str, note: Callable[[], None]) -> set[int] | None:
    """Stop every process of a tree by signals; answers which stand. ``None``: they would not, and nothing is stopped.

    ``note`` is called whenever ``still`` has more pids, before these are stopped.
    """
    until = time.monotonic() + STOP_S
    while time.monotonic() < until:
        stopped = _stop_once(still, main, mark, note, until)
        if stopped is not None:
            return stopped
        let_go(still)
        still.pids = []
        time.sleep(_PAUSE_S)
    return None


def _stop_once(still: Still, main: int, mark: str, note: Callable[[], None], until: float) -> set[int] | None:
    processes = kin.table()
    newest = max(each.start for each in processes.values())
    marks = {pid: _mark(each, newest) for pid, each in processes.items()}
    stopped: set[int] = set()
    while True:
        fresh = kin.members(main, mark, processes, marks) - stopped
        if not fresh:
            return stopped
        still.pids += [(pid, processes[pid].start) for pid in fresh if processes[pid].state != "T"]
        note()
        for pid in fresh:
            kin.send(pid, signal.SIGSTOP)
        stopped |= fresh
        if not _all_stand(fresh, until):
            return None
        _add_new(processes, marks)  # after all stand: whoever was forking has finished


def _add_new(processes: dict[int, kin.Proc], marks: dict[int, str | None]) -> None:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in processes and (proc := kin.look_alive(int(name))) is not None:
            processes[proc.pid] = proc
            marks[proc.pid] = _mark(proc, proc.start)


def _mark(proc: kin.Proc, newest: int) -> str | None:
    """Its mark. One that executes a program at this very moment has no environment for an instant, which is long on a
    busy machine: it is looked at again, if it may be an orphan of the tree. Others are found by their parents."""
    until = time.monotonic() + _EXEC_S
    young, now = newest - proc.start <= _YOUNG, kin.look(proc.pid)
    while True:
        environ = kin.read_text(f"/proc/{proc.pid}/environ")
        orphan = now is not None and now.ppid in (1, os.getpid())
        if environ != "" or not young or not orphan or time.monotonic() > until:
            return kin.mark_in(environ or "")
        time.sleep(_PAUSE_S)
        now = kin.look(proc.pid)


def _all_stand(pids: set[int], until: float) -> bool:
    """Wait for it; not for long when all that do not stand are deep in the kernel, as in vfork."""
    began, running = time.monotonic(), set(pids)
    while running:
        states = {pid: moving(pid) for pid in running}
        running = {pid for pid, each in states.items() if each}
        now = time.monotonic()
        if running and (now > until or (now > began + _VFORK_S and {*"".join(states.values())} == {"D"})):
            return False
        if running:
            time.sleep(_PAUSE_S)
    return True


def moving(pid: int) -> str:
    """The states of its threads that do not stand. None of a process that is gone."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return ""
    stats = (kin.read_text(f"/proc/{pid}/task/{thread}/stat") for thread in threads)
    states = (stat[stat.rindex(")") + 2] for stat in stats if stat)
    return "".join(state for state in states if state not in _STANDS)


# --- letting go ----------------------------------------------------------------------------------------------------


def still_stands(still: Still) -> bool:
    """Whether nobody let it go meanwhile. Those that were killed count as standing: they write no more."""
    if still.group is not None:
        return _frozen(still.group) or not os.path.isdir(still.group)
    return not any(moving(pid) for pid, start in still.pids if kin.alive(pid, start))


def let_go(still: Still) -> None:
    """Let it go on, children before their parents: none then sees that its child was stopped."""
    if still.group is not None:
        kin.thaw_group(still.group)
    for pid, start in sorted(still.pids, key=lambda each: (each[1], each[0]), reverse=True):
        proc = kin.look(pid)
        if proc is not None and proc.start == start:
            kin.send(pid, signal.SIGCONT)


# --- the note ------------------------------------------------------------------------------------------------------


def save(run_dir: str, boot: str, stills: Iterable[Still]) -> None:
    """Write down what is about to stand still, whole or not at all. Raises ``OSError``."""
    path = os.path.join(run_dir, _NOTE)
    views = [still.view() for still in stills]
    if not views:
        if os.path.lexists(path):
            os.unlink(path)
        return
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(json.dumps({"boot": boot, "frozen": views}))
    os.replace(path + ".new", path)


def load(run_dir: str, boot: str) -> list[Still]:
    """What a keeper before us left frozen; nothing after a reboot."""
    try:
        note = json.loads(kin.read_text(os.path.join(run_dir, _NOTE)) or "{}")
        return [read(view) for view in note["frozen"]] if note.get("boot") == boot else []
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
