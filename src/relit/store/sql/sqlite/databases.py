"""Checks SQLite files that were test-restored. Run as a program, so that a damaged file ends only that one.

``python -m relit.store.sql.sqlite.databases FOLDER`` prints how many there are, then a line for each that is not
sound: its path in hexadecimal, and why. The folder is of no further use: databases are moved about in it.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from relit.lib.superjournals import JOURNAL, relocate

MAGIC = b"SQLite format 3\0"
_SIDES = (b"", b"-wal", b"-journal")
_LIMIT_S = 600.0


def databases(folder: Path) -> Iterator[bytes]:
    """Every file below that begins as an SQLite database does, by its path in the folder."""
    left = [b""]
    while left:
        above = left.pop()
        with suppress(OSError), os.scandir(os.path.join(os.fsencode(folder), above)) as found:
            for each in sorted(found, key=lambda each: each.name):
                path = os.path.join(above, each.name)
                if each.is_dir(follow_symlinks=False):
                    left.append(path)
                elif each.is_file(follow_symlinks=False) and _is_database(each.path):
                    yield path


def _is_database(path: bytes) -> bool:
    with open(path, "rb") as file:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode) and file.read(len(MAGIC)) == MAGIC


def trouble(folder: Path, path: bytes) -> str:
    """What SQLite finds wrong with a database, its journal or write-ahead log rolled in; empty when nothing is.

    It is moved to a name that SQLite can open: it takes no odd bytes, and no long paths.
    """
    import apsw

    place = folder / "relit-check"
    for side in _SIDES:
        place.with_name(place.name + side.decode()).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            os.rename(os.path.join(os.fsencode(folder), path + side), os.fsencode(place) + side)
    try:
        connection = apsw.Connection(str(place))
        try:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
        finally:
            connection.close()
    except apsw.Error as error:
        return str(error)
    return "" if found == ["ok"] else found[0]


async def check(folder: Path) -> tuple[int, list[tuple[bytes, str]]]:
    """(how many databases are below, which are not sound and why), found by a process of its own."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relit.store.sql.sqlite.databases", str(folder), stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_LIMIT_S):
            out, _ = await child.communicate()
    except BaseException:
        child.kill()
        await child.wait()
        raise
    lines = out.decode(errors="replace").splitlines()
    if child.returncode != 0 or not lines:
        return 0, [(b"", f"the check of {folder} ended with {child.returncode}")]
    return int(lines[0]), [(bytes.fromhex(line[: line.index(" ")]), line[line.index(" ") + 1 :]) for line in lines[1:]]


def main(folder: Path) -> None:
    """Print the findings."""
    found = [*databases(folder)]
    here = os.fsencode(folder.resolve())
    relocate(here, [path + JOURNAL for path in found], here)
    sys.stdout.write(f"{len(found)}\n")
    for path in found:
        if why := trouble(folder, path):
            sys.stdout.write(f"{path.hex()} {' '.join(why.split())}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
