"""The databases of an agent that is stopped: are they sound, and what must be put right in them before a start.

A program of its own (``python -m relit.agents.state``, a ``Question`` on its standard input): a damaged file ends only
that one. A command of ``relit agent exec`` may use them meanwhile: its locks are waited for. Write-ahead logs are
read and left as they are.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import sys
import time
from pathlib import Path
from typing import Literal, NamedTuple

import apsw
import msgspec

from relit.agents import place
from relit.control.care import Care, Settle
from relit.errors import RelitError

MAGIC = b"SQLite format 3\0"
DEEP_S = 4.0  # for all checks of one start together; what is larger than that is believed
LOCKED_S = 8.0  # since the beginning: so long they may be locked
LIMIT_S = 30.0
_STEPS = 10_000  # of SQLite's machine between looks at the clock


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """See ``Care`` and ``look``."""

    home: str
    databases: list[str]
    settle: list[Settle]
    locked_s: float


Cause = Literal["blocked", "damaged", "unusable"]  # the first of them counts where databases have several
_ORDER: tuple[Cause, ...] = ("blocked", "damaged", "unusable")


class Fault(msgspec.Struct, frozen=True):
    """What is wrong. ``damaged``: it is no sound database any more; ``blocked``: somebody has it locked; ``unusable``:
    it cannot be read or written, whatever is in it."""

    cause: Cause
    what: str


async def look(care: Care, *, locked_s: float = LOCKED_S) -> Fault | None:
    """What is wrong with an agent's databases, a line for each. ``settle`` is done on the way. ``locked_s``: so long
    locks are waited for, all in all."""
    question = Question(home=care.home, databases=care.databases, settle=care.settle, locked_s=locked_s)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        "relit.agents.state",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            out, err = await child.communicate(msgspec.json.encode(question))
    except TimeoutError:
        return None  # too large to be looked at before a start: its agent will say
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        said = err.decode(errors="replace").strip().splitlines()[-1:]
        raise RelitError(f"the databases of {care.agent} were not looked at", why="".join(said))
    found = msgspec.json.decode(out, type=list[Fault])
    cause = min((each.cause for each in found), key=_ORDER.index, default=None)
    return None if cause is None else Fault(cause, "\n".join(each.what for each in found))


# --- the program --------------------------------------------------------------------------------------------------


def main() -> None:
    """Answer the question."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    home, now = Path(question.home), time.monotonic()
    until = _Until(deep=now + DEEP_S, locked=now + question.locked_s)
    faults = [fault for path in question.databases if (fault := _fault(home, path, until))]
    if not faults:
        faults = [fault for each in question.settle if (fault := _settle(home, each, until))]
    sys.stdout.buffer.write(msgspec.json.encode(faults))


class _Until(NamedTuple):
    """When checks, and waiting for locks, have to be over."""

    deep: float
    locked: float


def _fault(home: Path, path: str, until: _Until) -> Fault | None:
    """What is wrong with one; ``None`` also when it is not there yet."""
    file = _file(home, path)
    if not isinstance(file, Path):
        return file
    try:
        found = _checked(file, until)
    except (apsw.InterruptError, apsw.SQLError):  # it is large, or calls functions that only its agent has: believed
        return None
    except apsw.Error as error:
        return _told(error, file, path)
    return None if found == "ok" else Fault("damaged", f"{path}: {found}")


def _checked(file: Path, until: _Until) -> str:
    connection = _open(file, until)
    try:
        connection.set_progress_handler(lambda: time.monotonic() > until.deep, _STEPS)
        return str(connection.execute("PRAGMA quick_check(1)").get)
    finally:
        connection.close()


def _file(home: Path, path: str) -> Path | Fault | None:
    """The database, or what is wrong with its file; ``None`` when there is none."""
    try:
        with place.folder_of(home, path) as (folder, name):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            found = os.fstat(fd)
            head = os.pread(fd, len(MAGIC), 0) if stat.S_ISREG(found.st_mode) else b""
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Fault("unusable", f"{path}: {_why(error, home / path, home)}")
    if not stat.S_ISREG(found.st_mode):
        return Fault("damaged", f"{path}: it is not a plain file")
    if found.st_size and head != MAGIC:
        return Fault("damaged", f"{path}: it is no SQLite database any more")
    return home / path


def _why(error: OSError, file: Path, home: Path) -> str:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        for each in (file, *file.parents):
            if each.is_symlink():
                return f"{each} is a symlink, and none is followed in a home: put what it leads to in its place"
            if each == home:
                break
    return error.strerror or str(error)


def _open(file: Path, until: _Until) -> apsw.Connection:
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(max(0, round((until.locked - time.monotonic()) * 1000)))
    return connection


def _settle(home: Path, wanted: Settle, until: _Until) -> Fault | None:
    file = _file(home, wanted.database)
    if not isinstance(file, Path):
        return None
    try:
        connection = _open(file, until)
        try:
            connection.execute("BEGIN IMMEDIATE")  # one that reads first is not let wait for its lock
            connection.execute(wanted.sql).fetchall()
            connection.execute("COMMIT")
        finally:
            connection.close()
    except apsw.SQLError:
        return None  # another version of the agent, with other tables: there is nothing of ours in it
    except apsw.Error as error:
        return _told(error, file, wanted.database)
    return None


def _told(error: apsw.Error, file: Path, path: str) -> Fault:
    match error:
        case apsw.CorruptError() | apsw.NotADBError():
            return Fault("damaged", f"{path}: {error}")
        case apsw.BusyError() | apsw.LockedError() | apsw.ProtocolError():
            who = ", ".join(_holders(file)) or "another process"
            return Fault("blocked", f"{path}: {who} has it locked (a command of relit agent exec?)")
    return Fault("unusable", f"{path}: {error}")


def _holders(file: Path) -> list[str]:
    """Who has it locked for writing, as far as the kernel tells."""
    try:
        found = [os.stat(each) for each in (file, f"{file}-shm") if os.path.exists(each)]
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        places = {f"{os.major(at.st_dev):02x}:{os.minor(at.st_dev):02x}:{at.st_ino}" for at in found}
        pids = {int(each[4]) for each in locks if each[1] == "POSIX" and each[3] == "WRITE" and each[5] in places}
        return [f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})" for pid in sorted(pids)]
    except OSError:  # it is gone by now
        return []


if __name__ == "__main__":
    main()
