"""Checks SQLite files that were test-restored. Run as a program, so that a damaged file ends only that one.

``python -m relit.store.sql.sqlite.databases FOLDER`` prints how many there are, then a line for each that is not sound.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

MAGIC = b"SQLite format 3\0"
_LIMIT_S = 600.0


def databases(folder: Path) -> Iterator[Path]:
    """Every file below that begins as an SQLite database does."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as file:
                if file.read(len(MAGIC)) == MAGIC:
                    yield path


def trouble(path: Path) -> str:
    """What SQLite finds wrong with a database, its journal or write-ahead log rolled in; empty when nothing is."""
    import apsw

    try:
        connection = apsw.Connection(str(path))
        try:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
        finally:
            connection.close()
    except apsw.Error as error:
        return str(error)
    return "" if found == ["ok"] else found[0]


async def check(folder: Path) -> tuple[int, list[str]]:
    """(how many databases are below, what is wrong with which), found by a process of its own."""
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
        return 0, [f"the check of {folder} ended with {child.returncode}"]
    return int(lines[0]), lines[1:]


def main(folder: Path) -> None:
    """Print the findings."""
    found = [*databases(folder)]
    sys.stdout.write(f"{len(found)}\n")
    for path in found:
        if why := trouble(path):
            sys.stdout.write(f"{path.relative_to(folder)}: {why}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
