"""Homes whose files are still to be laid down: a record beside the home says so, until the disk has all of them.

While it is there, an empty or missing home is no home, and no agent may start on it. A home is put in its place whole,
by one rename, and its agent starts at once; the disk has it some moments later. When the machine dies in between
(another boot), nobody can know which files are whole: they are laid down anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from relit.errors import Conflict, VolumeDamaged
from relit.lib.proc import boot_id
from relit.volumes.disk import sync_folder
from relit.volumes.syncing import only, record_of

Verdict = Literal["nothing", "lay", "sync"]


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """The files of snapshot ``number`` of a volume (its id); ``newest`` was the newest when this was noted. They are
    laid in a folder with the inode ``ino`` (0: not begun), in this life of the machine."""

    volume: str
    number: int
    newest: int
    ino: int = 0
    boot: str = msgspec.field(default_factory=boot_id)


def verdict(due: Due | None, boot: str, ino: int) -> Verdict:
    """What a start has to do. ``ino``: of the folder that is there as the home; 0: there is none."""
    if due is None:
        return "nothing"
    return "sync" if ino and (due.ino, due.boot) == (ino, boot) else "lay"


def wanted(due: Due, newest: int) -> int:
    """The snapshot to lay: a newer one is of the home as it was laid, and what its agent made of it."""
    return newest if newest > due.newest else due.number


def note(home: Path, due: Due) -> None:
    """On disk when this returns, in place of any other record."""
    _make(home.parent)
    record = record_of(os.fspath(home))
    draft = f"{record}.new"
    with open(draft, "wb") as file:
        file.write(msgspec.json.encode(due))
        file.flush()
        os.fsync(file.fileno())
    with only(os.fspath(home.parent)) as above:
        os.replace(draft, record)
        os.fsync(above)


def noted(home: Path) -> Due | None:
    """VolumeDamaged when it cannot be read."""
    record = Path(record_of(os.fspath(home)))
    try:
        return msgspec.json.decode(record.read_bytes(), type=Due)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise VolumeDamaged(
            f"{record} cannot be read: the files of a home are still to be laid down, and it does not say which",
            why=str(error),
            fix=f"relit volume restore {home.parent.name} --at WHEN",
        ) from error


def drop(home: Path) -> None:
    """Nothing is to be laid after all."""
    if os.path.exists(record := record_of(os.fspath(home))):
        with only(os.fspath(home.parent)) as above:
            os.unlink(record)
            os.fsync(above)


def decide(home: Path) -> Verdict:
    """``verdict`` on what is there now."""
    due = noted(home)
    return "nothing" if due is None else verdict(due, boot_id(), home.stat().st_ino if home.is_dir() else 0)


def to_be_laid(home: Path) -> bool:
    """Whether no agent may start there yet."""
    try:
        return decide(home) == "lay"
    except VolumeDamaged:
        return True


def check_laid(home: Path, what: str) -> None:
    """Conflict, told as ``what``, when it is still to be laid."""
    if to_be_laid(home):
        agent = home.parent.name
        raise Conflict(what, why="its home is not laid down yet", fix=f"relit volume restore {agent} --at WHEN")


def holds_something(folder: Path) -> bool:
    """Whether it is there and not empty."""
    return folder.is_dir() and any(folder.iterdir())


def _make(folder: Path) -> None:
    """A folder, and its name on disk."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)
