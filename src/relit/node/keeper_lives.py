"""What the keeper remembers of a child, and how it gets that back after its own death. Standard library only."""

import fcntl
import json
import os
import struct
import time
from collections.abc import Mapping

from relit.node import kin

_STATE = "keeper.json"
_ROOM = 1 << 20  # bytes of changes after which the state file is written anew
_GET_INFO = (3 << 30) | (64 << 16) | (0xFF << 8) | 11  # PIDFD_GET_INFO with its first, 64-byte structure
_INFO_EXIT = 1 << 3
_SAVED = ("key", "name", "tag", "log", "pid", "start", "begun_ms", "ended_ms", "code", "signal", "group", "spare")


class Life:
    """One child: from before it is spawned until its end was forgotten."""

    def __init__(self, key: str, name: str, tag: str, log: str, scope: str) -> None:
        self.key, self.name, self.tag, self.log = key, name, tag, log
        self.mark = f"{scope}/{name}/{key}"
        self.pid = 0
        self.start = 0
        self.begun_ms = 0
        self.ended_ms: int | None = None
        self.code: int | None = None
        self.signal: int | None = None
        self.group: str | None = None
        self.spare = False  # it stands ready and was not started yet
        self.gate = -1  # a spare's, to let it go on by a byte …
        self.gate_inside = -1  # … which it reads from this descriptor
        self.adopted = False
        self.frozen_ms: int | None = None  # since when it stands still, on the boot clock
        self.thawed_ms = 0  # when it was last let go
        self.pidfd = -1  # only of adopted lives: our own children tell by SIGCHLD
        self.dying: set[int] = set()  # strays that were killed and are not gone yet
        self.held_until: float | None = None  # the main process ended; told when ``dying`` is empty or this passed

    @property
    def ended(self) -> bool:
        """Whether the main process is gone."""
        return self.ended_ms is not None or self.held_until is not None

    def saved(self) -> dict[str, object]:
        """As the next keeper needs it."""
        return {name: getattr(self, name) for name in _SAVED}

    def view(self) -> dict[str, object]:
        """As clients see it."""
        state = "exited" if self.ended_ms is not None else "running"
        return self.saved() | {
            "state": state,
            "adopted": self.adopted,
            "frozen_ms": self.frozen_ms,
            "thawed_ms": self.thawed_ms,
        }


def boot_ms() -> int:
    """Milliseconds since boot, suspend included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def boot_id() -> str:
    """This boot's id and pid namespace: pids mean nothing outside both."""
    return (kin.read_text("/proc/sys/kernel/random/boot_id") or "").strip() + os.readlink("/proc/self/ns/pid")


class Ledger:
    """``keeper.json``: a line for each change of a life, the last one counts. To write all of it anew at each change
    would cost a restart milliseconds. Not synced: after a power failure the processes are gone too."""

    def __init__(self, run_dir: str) -> None:
        self._path = os.path.join(run_dir, _STATE)
        self._fd = -1
        self._room = 0  # bytes until all is written anew; none also after a line that was not written

    def keep(self, key: str, lives: Mapping[str, Life]) -> None:
        """Write down what is known of one life; nothing any more if it is not in ``lives``. Raises ``OSError``."""
        line = _line(lives[key].saved() if key in lives else {"key": key, "gone": True})
        room, self._room = self._room, 0
        if room <= 0:
            return self.rewrite(lives)
        _write_all(self._fd, line)
        self._room = room - len(line)

    def rewrite(self, lives: Mapping[str, Life]) -> None:
        """Write all of it, whole or not at all. Raises ``OSError``."""
        data = b"".join([_line({"boot": boot_id()}), *(_line(life.saved()) for life in lives.values())])
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(self._path + ".new", flags, 0o600)
        try:
            _write_all(fd, data)
            os.replace(self._path + ".new", self._path)
        except OSError:
            os.close(fd)
            raise
        if self._fd != -1:
            os.close(self._fd)
        self._fd, self._room = fd, _ROOM


def _line(values: dict[str, object]) -> bytes:
    return json.dumps(values).encode() + b"\n"


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def load(run_dir: str) -> list[dict[str, object]]:
    """The lives of the keeper before us; none after a reboot or when the file is unreadable."""
    lines = [_read(line) for line in (kin.read_text(os.path.join(run_dir, _STATE)) or "").splitlines()]
    if not lines or lines[0].get("boot") != boot_id():
        return []
    last = {line["key"]: line for line in lines[1:] if isinstance(line.get("key"), str)}
    return [line for line in last.values() if not line.get("gone")]


def _read(line: str) -> dict[str, object]:
    """Empty for one that was cut short."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def restore(records: list[dict[str, object]], scope: str) -> list[Life]:
    """Lives out of the state file, mended by what /proc shows: processes that carry our mark.

    Finds children spawned in the instant before the old keeper died, and all of them when the file is lost (their
    tag is then empty, so that the node starts them afresh).
    """
    marked = _marked(scope)
    lives = {life.key: life for life in (_revive(record, scope) for record in records) if life is not None}
    for (name, key), (start, pid) in marked.items():
        life = lives.setdefault(key, Life(key, name, "", "", scope))
        if life.pid == 0:
            life.pid, life.start, life.begun_ms = pid, start, start * 1000 // os.sysconf("SC_CLK_TCK")
    for life in lives.values():
        life.adopted = True
    return [life for life in lives.values() if life.pid]  # the rest was never spawned


def _revive(record: dict[str, object], scope: str) -> Life | None:
    try:
        life = Life(str(record["key"]), str(record["name"]), str(record["tag"]), str(record["log"]), scope)
        for name in _SAVED[4:-1]:
            setattr(life, name, record[name])
        life.spare = record.get("spare") is True  # keepers before had none
        life.pid, life.start = int(life.pid), int(life.start)
    except (KeyError, TypeError, ValueError):
        return None
    return life


def _marked(scope: str) -> dict[tuple[str, str], tuple[int, int]]:
    """(name, key) → (start, pid) of the oldest process with that mark, among session leaders (as mains are)."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for pid, proc in kin.table().items():
        mark = (kin.mark_of(pid) or "").split("/") if proc.sid == pid else []
        if len(mark) == 3 and mark[0] == scope:
            who = (mark[1], mark[2])
            found[who] = min(found.get(who, (proc.start, pid)), (proc.start, pid))
    return found


def exit_of_stranger(life: Life) -> tuple[int | None, int | None]:
    """(code, signal) of an adopted process that ended; both ``None`` when nobody can tell any more."""
    status = _status_of_zombie(life)
    if status is None and life.pidfd != -1:
        status = _status_of_pidfd(life.pidfd)
    if status is None:
        return None, None
    code = os.waitstatus_to_exitcode(status)
    return (code, None) if code >= 0 else (None, -code)


def _status_of_zombie(life: Life) -> int | None:
    """The last field of stat, while its new parent has not reaped it."""
    stat = kin.read_text(f"/proc/{life.pid}/stat")
    fields = stat[stat.rindex(")") + 2 :].split() if stat else []
    return int(fields[49]) if fields and fields[0] == "Z" and int(fields[19]) == life.start else None


def _status_of_pidfd(pidfd: int) -> int | None:
    """The status that a recent kernel keeps for holders of a pidfd."""
    info = bytearray(struct.pack("=Q56x", _INFO_EXIT))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, info)
    except OSError:
        return None
    mask, status = struct.unpack("=Q52xi", info)
    return int(status) if mask & _INFO_EXIT else None
