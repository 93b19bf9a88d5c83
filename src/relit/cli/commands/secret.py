"""``secret``: the vault. Values are read from the terminal, a file or standard input, and never shown."""

from __future__ import annotations

import asyncio
import getpass
import sys
from pathlib import Path

import click
import msgspec

from relit.cli.commands.aliases import Aliased
from relit.cli.screen import when
from relit.cli.session import Session, pass_session
from relit.errors import Conflict

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=Aliased)
def secret() -> None:
    """The vault: what `secret:NAME` in relit.toml stands for. It works on the store itself, so it is used where the
    server is."""


@secret.command("set")
@click.argument("name")
@click.option("--file", type=_FILE, metavar="FILE", help="Take its content. [default: standard input, or asked for]")
@pass_session
def set_secret(session: Session, name: str, file: Path | None) -> None:
    """Set a secret: a new one, or another value. One newline at the end is not part of it."""
    from relit.app.secret_keeping import put

    done = asyncio.run(put(session.settings(), name, _value(name, file)))
    if session.screen.as_json:
        session.screen.json(msgspec.to_builtins(done))
        return
    use = "what uses it is started again with it" if done.node else "relit up uses it"
    session.screen.note(f"{name} is sealed (version {done.version}); {use}")


@secret.command("ls")
@pass_session
def list_secrets(session: Session) -> None:
    """Every secret: where it lies, since when, and what relit.toml wants it for. No value is shown."""
    from relit.app.secret_keeping import listed

    found = asyncio.run(listed(session.settings()))
    if session.screen.as_json:
        session.screen.json({"secrets": msgspec.to_builtins(found)})
        return
    rows = [[each.name, each.place, str(each.version or ""), when(each.set_at), each.users] for each in found]
    session.screen.table(["NAME", "PLACE", "VERSION", "SET", "USED BY"], rows, "none: relit secret set NAME")


@secret.command("rm")
@click.argument("name")
@click.option("--force", is_flag=True, help="Although relit.toml wants it.")
@pass_session
def remove_secret(session: Session, name: str, force: bool) -> None:
    """Remove a secret. It cannot be had back."""
    from relit.app.secret_keeping import remove

    settings = session.settings()
    if not session.yes and not session.screen.as_json:
        click.confirm(f"Remove the secret {name}?", abort=True, err=True)
    done = asyncio.run(remove(settings, name, force=force))
    if session.screen.as_json:
        session.screen.json(msgspec.to_builtins(done))
    else:
        session.screen.note(f"{name} is gone")


@secret.command()
@click.option(
    "--was", type=_FILE, metavar="FILE", help="The passphrase of before, where vault.passphrase is a new one."
)
@pass_session
def rotate(session: Session, was: Path | None) -> None:
    """Seal every secret anew, with new data keys, under what relit.toml names now: the key file or vault.passphrase."""
    from relit.app import secret_keeping

    before = "" if was is None else _text(was.read_text())
    count = asyncio.run(secret_keeping.rotate(session.settings(), before))
    if session.screen.as_json:
        session.screen.json({"secrets": count})
    else:
        session.screen.note(f"{count} secrets are sealed anew")


@secret.command("import")
@pass_session
def import_secrets(session: Session) -> None:
    """Put what is in secrets.toml into the vault, and take it out of the file."""
    from relit.app.secret_keeping import take_in

    names = asyncio.run(take_in(session.settings()))
    if session.screen.as_json:
        session.screen.json({"secrets": names})
    else:
        session.screen.note(f"in the vault now: {', '.join(names)}" if names else "secrets.toml has none to take in")


@secret.command()
@click.argument("name", required=False, default="")
@click.option("-n", "limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="The newest so many.")
@click.option("--before", type=int, metavar="ID", help="Only those before that entry: pages through all of it.")
@pass_session
def audit(session: Session, name: str, limit: int, before: int | None) -> None:
    """Who set, read and removed secrets, and who was refused what, newest first; of one secret (or of one kind of
    refusals, such as gateway:unauthorized), if NAME is given. The trail only grows."""
    from relit.app.secret_keeping import trail

    found = asyncio.run(trail(session.settings(), name=name, before=before, limit=limit))
    if session.screen.as_json:
        session.screen.json({"entries": msgspec.to_builtins(found)})
        return
    rows = [[str(each.id), when(each.at), each.what, each.name, each.who, each.whom] for each in found]
    session.screen.table(["ID", "AT", "WHAT", "OF", "BY", "FOR"], rows, "nothing yet")


def _value(name: str, file: Path | None) -> str:
    if file is not None:
        return _text(file.read_text())
    if not sys.stdin.isatty():
        return _text(sys.stdin.read())
    value = getpass.getpass(f"{name}: ")
    if value != getpass.getpass(f"{name}, once more: "):
        raise Conflict("the two are not the same", why="nothing was set", fix=f"relit secret set {name}")
    return value


def _text(read: str) -> str:
    return read.removesuffix("\n").removesuffix("\r")
