"""``agent exec`` and ``agent edit``."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relit.cli.exits import OK
from relit.cli.session import Session, pass_session
from relit.errors import ConfigError

if TYPE_CHECKING:
    from relit.app.agent_editing import Page
    from relit.settings import Settings


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND...", type=click.UNPROCESSED)
@pass_session
def execute(session: Session, name: str, command: tuple[str, ...]) -> int:
    """Run a command in an agent's place: its environment, folder and sandbox. The exit code is the command's.

    Programs of its kind are found by name: relit agent exec claw -- openclaw doctor
    """
    from relit.app.agent_editing import see_there
    from relit.app.agent_place import exit_code, launch
    from relit.app.vaulted import for_agent

    settings = session.settings()
    see_there(settings, name)
    asyncio.run(for_agent(settings, name, "agent exec"))
    made = launch(settings, session.environment, name, command)
    child = subprocess.Popen(made.argv, env=made.env, cwd=made.cwd)
    while True:
        try:
            return exit_code(child.wait())
        except KeyboardInterrupt:
            continue  # it is the command's: it has had it, too


@click.command()
@click.argument("name")
@click.option("--file", default="", metavar="PATH", help="Another file of its home. [default: its configuration]")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take this text; no editor is opened.",
)
@click.option("--no-restart", is_flag=True, help="It takes the change up by itself, or at its next start.")
@pass_session
def edit(session: Session, name: str, file: str, source: Path | None, no_restart: bool) -> int:
    """Edit an agent's configuration, in $VISUAL or $EDITOR.

    It is checked before it is put in place: by relit, and by the agent's own check where it has one. For an agent
    without a file of its own: its table in relit's configuration.
    """
    from relit.app.agent_editing import apply, page, see_there

    settings = session.settings()
    see_there(settings, name)
    wanted = page(settings, name, file)
    text = source.read_bytes() if source else _edited(session, settings, wanted)
    if text == wanted.text:
        session.screen.line(f"nothing changed in {wanted.file}")
        return OK
    text = _right(session, settings, wanted, text, asks=source is None)
    done = asyncio.run(apply(settings, session.environment, wanted, text, restart=not no_restart))
    if session.screen.as_json:
        session.screen.json({"name": name, "file": str(wanted.file), "restarted": done})
    else:
        session.screen.line(f"{wanted.file} is changed" + (f"; {done}" if done else ""))
    return OK


def _right(session: Session, settings: Settings, wanted: Page, text: bytes, *, asks: bool) -> bytes:
    """The text, when nothing is wrong with it (any more). ConfigError; the draft is kept."""
    from relit.app.agent_editing import faults, keep_draft

    while wrong := asyncio.run(faults(settings, session.environment, wanted, text)):
        draft = keep_draft(settings, wanted, text)
        if not asks or session.screen.as_json or not sys.stdin.isatty():
            raise ConfigError(
                f"{wanted.file} stays as it is: the new text is wrong", why=wrong,
                fix=f"mend {draft}, then: relit agent edit {wanted.agent} --from {draft}",
            )  # fmt: skip
        session.screen.note(f"that is wrong: {wrong}")
        click.confirm("Edit it again?", default=True, abort=True, err=True)
        text = _opened(session, draft)
    return text


def _edited(session: Session, settings: Settings, wanted: Page) -> bytes:
    from relit.app.agent_editing import keep_draft

    return _opened(session, keep_draft(settings, wanted, wanted.text))


def _opened(session: Session, draft: Path) -> bytes:
    """What is in the draft when the editor has ended."""
    editor = session.environment.get("VISUAL") or session.environment.get("EDITOR")
    if editor is None and not sys.stdin.isatty():
        raise click.UsageError("nobody is there to edit: name a text with --from FILE")
    words = [*shlex.split(editor or "vi"), str(draft)]
    try:
        ended = subprocess.run(words, check=False).returncode
    except OSError as error:
        raise ConfigError(
            f"the editor {words[0]} cannot be started", why=str(error), fix="export EDITOR=nano"
        ) from error
    if ended:
        raise ConfigError(f"the editor {words[0]} ended with {ended}: nothing was changed", fix=f"the draft is {draft}")
    return draft.read_bytes()
