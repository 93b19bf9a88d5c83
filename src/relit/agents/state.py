"""The databases of an agent that is stopped: are they sound, and what must be put right in them before a start.

A program of its own (``python -m relit.agents.state``, a ``Question`` on its standard input): a damaged file ends only
that one, and no other process has them open. Write-ahead logs are read and left as they are.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import time
from pathlib import Path

import apsw
import msgspec

from relit.agents import place
from relit.control.care import Care, Settle
from relit.errors import RelitError

MAGIC = b"SQLite format 3\0"
DEEP_S = 4.0  # for all checks of one start together; what is larger than that is believed
LIMIT_S = 30.0
_STEPS = 10_000  # of SQLite's machine between looks at the clock


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """See ``Care``."""

    home: str
    databases: list[str]
    settle: list[Settle]


async def look(care: Care) -> str:
    """What is wrong with an agent's databases, a line for each; empty for nothing. ``settle`` is done on the way."""
    question = Question(home=care.home, databases=care.databases, settle=care.settle)
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
        return ""  # too large to be looked at before a start: its agent will say
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        said = err.decode(errors="replace").strip().splitlines()[-1:]
        raise RelitError(f"the databases of {care.agent} were not looked at", why="".join(said))
    return "\n".join(msgspec.json.decode(out, type=list[str]))


# --- the program --------------------------------------------------------------------------------------------------


def main() -> None:
    """Answer the question."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    home, until = Path(question.home), time.monotonic() + DEEP_S
    faults = [fault for path in question.databases if (fault := _fault(home, path, until))]
    if not faults:
        faults = [fault for each in question.settle if (fault := _settle(home, each))]
    sys.stdout.buffer.write(msgspec.json.encode(faults))


def _fault(home: Path, path: str, until: float) -> str:
    """What is wrong with one; empty for nothing, also when it is not there yet."""
    file = _file(home, path)
    if isinstance(file, str):
        return f"{path}: {file}" if file else ""
    try:
        connection = _open(file, apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
        finally:
            connection.close()
    except apsw.InterruptError:
        return ""
    except apsw.Error as error:
        return f"{path}: {error}"
    return "" if found == ["ok"] else f"{path}: {found[0]}"


def _file(home: Path, path: str) -> Path | str:
    """The database, or what is wrong with its file; empty when there is none."""
    try:
        with place.folder_of(home, path) as (folder, name):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            with open(fd, "rb") as file:
                found, head = os.fstat(fd), file.read(len(MAGIC))
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISREG(found.st_mode):
        return "it is not a plain file"
    if found.st_size and head != MAGIC:
        return "it is no SQLite database any more"
    return home / path


def _open(file: Path, flags: int) -> apsw.Connection:
    connection = apsw.Connection(str(file), flags=flags)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(2_000)
    return connection


def _settle(home: Path, wanted: Settle) -> str:
    file = _file(home, wanted.database)
    if isinstance(file, str):
        return ""
    try:
        connection = _open(file, apsw.SQLITE_OPEN_READWRITE)
        try:
            with connection:
                connection.execute(wanted.sql)
        finally:
            connection.close()
    except apsw.SQLError:
        return ""  # another version of the agent, with other tables: there is nothing of ours in it
    except apsw.Error as error:
        return f"{wanted.database}: {error}"
    return ""


if __name__ == "__main__":
    main()
