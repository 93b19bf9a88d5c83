"""``key``: the key that opens this store's packs. It never passes through the server."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relit.cli.commands.aliases import Aliased
from relit.cli.session import Session, pass_session
from relit.cli.volume_checks import EXPORTED
from relit.errors import Conflict, NotFound, RelitError, WrongKey

if TYPE_CHECKING:
    from relit.volumes.keys import Keys

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group(cls=Aliased)
def key() -> None:
    """The key that opens the packs: export, import. Without it no snapshot can be read, by anybody."""


@key.command("export")
@click.argument("file", required=False, type=_FILE)
@pass_session
def export_key(session: Session, file: Path | None) -> None:
    """Write the key to FILE (made, mode 0600) or to standard output. Keep it apart from the packs."""
    text = _keys(session).export()
    if file is None:
        session.screen.line(text)
        _note(session)
        return
    _write(file, text)
    _note(session)
    session.screen.note(f"the key is in {file}; whoever has it and the packs can read every snapshot")


@key.command("import")
@click.argument("file", required=False, type=_FILE)
@pass_session
def import_key(session: Session, file: Path | None) -> None:
    """Make the key in FILE (or on standard input) this data folder's. Another one there is not replaced."""
    keys = keys_in(file)
    place = session.data / "key"
    if place.exists():
        if _keys(session).id != keys.id:
            raise Conflict(
                f"{place} holds another key",
                why="packs that it sealed could not be read any more",
                fix=f"relit key export KEEP, mv {place} away, then again",
            )
        session.screen.note("it is this data folder's key already")
        return
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(place, keys.export())
    session.screen.note(f"key {keys.id} is in {place}")


@key.command("show-id")
@pass_session
def show_id(session: Session) -> None:
    """The key's id, by which two keys can be compared. It does not tell the key."""
    id = _keys(session).id
    if session.screen.as_json:
        session.screen.json({"key": id})
    else:
        session.screen.line(id)


def keys_in(file: Path | None) -> Keys:
    """What ``export`` wrote into a file, or what comes on standard input."""
    from relit.volumes.keys import Keys

    return Keys.parse((sys.stdin.read() if file is None else _read(file)).strip())


def _note(session: Session) -> None:
    """The doctor asks for a copy of the key until there was one."""
    try:
        (session.data / EXPORTED).write_text(_keys(session).id + "\n")
    except OSError as error:
        session.screen.note(f"that it was exported could not be noted, relit doctor goes on asking: {error}")


def _keys(session: Session) -> Keys:
    place = session.data / "key"
    if not place.exists():
        raise NotFound(
            f"there is no key at {place}",
            why="the first snapshot makes it; with a passphrase there is none",
            fix="relit volume snapshot AGENT",
        )
    from relit.volumes.keys import Keys

    return Keys.load(place)


def _read(file: Path) -> str:
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise WrongKey(f"{file} can be read by others", fix=f"chmod 600 {file}")
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"cannot read {file}", why=str(error), fix=f"ls -l {file}") from error


def _write(file: Path, text: str) -> None:
    """A new file, whole on disk, for its owner alone."""
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as out:
            out.write(text + "\n")
            out.flush()
            os.fsync(out.fileno())
    except FileExistsError as error:
        raise Conflict(f"{file} is there already", why="a key is never overwritten", fix="name another file") from error
    except OSError as error:
        raise RelitError(
            f"cannot write {file}", why=error.strerror or str(error), fix=f"ls -ld {file.parent}"
        ) from error
