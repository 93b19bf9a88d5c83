"""``agent add``, ``install``, ``rm``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relit.cli.commands.follow import DURATION
from relit.cli.exits import OK
from relit.cli.homes import ask
from relit.cli.progress import Steps
from relit.cli.session import Session, pass_session
from relit.lib.durations import size
from relit.settings.noted import noted_start

if TYPE_CHECKING:
    from relit.app.agent_adding import Added
    from relit.settings import Settings


@click.command()
@click.argument("name")
@click.argument("command", nargs=-1, metavar="[-- COMMAND...]")
@click.option("--kind", required=True, help="openclaw, hermes, command, python, or NAME of a file kinds/NAME.toml.")
@click.option("--version", help="Of what the kind installs. [default: the one that the kind's file names]")
@click.option("--model", help="A table of [models]; 'own': what the agent's own configuration says. [default: default]")
@click.option("--entry", metavar="MODULE:OBJECT", help="python: its code.")
@click.option("--start/--no-start", default=True, show_default=True, help="Let it run, or leave it stopped by hand.")
@click.option("--timeout", type=DURATION, help="For it to be ready. [default: what it may take to start]")
@pass_session
def add(
    session: Session, name: str, command: tuple[str, ...], kind: str, version: str | None, model: str | None,
    entry: str | None, start: bool, timeout: int | None,
) -> int:  # fmt: skip
    """Add an agent: install what its kind needs, write agents.d/NAME.toml beside the configuration file, make its home,
    and let it run where a node does.

    --kind command takes the program after --. An add that is interrupted leaves no agent.
    """
    from relit.app.agent_adding import Wanted
    from relit.app.agent_adding import add as put

    settings = session.settings()
    folder = _folder(session, settings) if kind in ("command", "python") else ""
    wanted = Wanted(
        name=name, kind=kind, version=version or "", model=model or "", command=command, entry=entry or "",
        folder=folder, start=start,
    )  # fmt: skip
    with Steps(session) as steps:
        made = asyncio.run(put(settings, session.environment, wanted, steps.install))
    return tell_added(session, made, timeout)


def _folder(session: Session, settings: Settings) -> str:
    """Code and commands work where they were added."""
    from relit.app.agent_files import config_of

    here = Path.cwd()
    return "" if config_of(settings, session.environment).parent == here else str(here)


def tell_added(session: Session, made: Added, timeout: int | None) -> int:
    """What was made; then wait for it, and what is next."""
    screen = session.screen
    if screen.as_json:
        screen.row({"event": "added", **built(made)})
    else:
        ports = ", ".join(f"{label} {port}" for label, port in made.ports.items())
        kept = " (its home from before)" if made.kept_home else ""
        screen.line(f"{made.name} is added: {made.kind} {made.version}".rstrip())
        screen.pairs([("file", made.file), ("home", made.home + kept), ("ports", ports)])
    if made.node and made.start:
        _await(session, made.name, timeout)
    screen.note(screen.dim(f"next: {_next(session, made)}"))
    return OK


def _await(session: Session, name: str, timeout: int | None) -> None:
    from relit.cli.commands.agent_state import hand_of

    with Steps(session) as steps:
        steps.step(f"{name} starts")
        found = asyncio.run(hand_of(session, name).ready(None if timeout is None else timeout / 1000))
    if session.screen.as_json:
        session.screen.row({"event": "ready", "name": name, "pid": found.pid})
    else:
        session.screen.line(f"{name} runs (pid {found.pid})")


def _next(session: Session, made: Added) -> str:
    talk = f"relit send {made.name} hello" if made.talks else f"relit logs {made.name}"
    if not made.start:
        return f"relit agent start {made.name} · {talk}"
    return talk if made.node else f"{noted_start(session.data)} · {talk}"


@click.command()
@click.argument("name")
@pass_session
def install(session: Session, name: str) -> int:
    """Install what an agent's kind needs, again: what is missing or damaged is made anew.

    Agents are stopped only when the new one is whole; when it cannot be made, they run on with what is there.
    """
    from relit.app.agent_files import see_known
    from relit.app.agent_installing import mend

    settings, screen = session.settings(), session.screen
    see_known(settings, name)
    with Steps(session) as steps:
        done = asyncio.run(mend(settings, session.environment.all, name, steps.install))
    if screen.as_json:
        screen.row({"event": "installed", **built(done)})
        return OK
    if done.outcome == "nothing":
        screen.line(f"{name} needs nothing: kind {done.kind} installs nothing")
        return OK
    for trouble in done.troubles:
        screen.note(f"it was damaged: {trouble}")
    said = {"whole": "is whole", "installed": "is installed", "mended": "is installed anew"}[done.outcome]
    screen.line(f"{done.kind} {done.version} {said}: {done.path} ({size(done.size_bytes)})")
    if done.restarted:
        screen.line(f"restarted: {', '.join(done.restarted)}")
    return OK


def built(value: object) -> dict[str, object]:
    import msgspec

    found: dict[str, object] = msgspec.to_builtins(value)
    return found


@click.command("rm")
@click.argument("name")
@click.option("--home", is_flag=True, help="Forget its snapshots too, and put its home away (it is renamed).")
@pass_session
def remove(session: Session, name: str, home: bool) -> int:
    """Stop an agent and take it out of the configuration. Its home and its snapshots stay, unless --home."""
    from relit.app.agent_adding import free_ports
    from relit.app.agent_adding import remove as take_out
    from relit.app.agent_files import see_known

    settings, screen = session.settings(), session.screen
    see_known(settings, name)
    also = "its snapshots are forgotten" if home else "its home and snapshots stay"
    session.confirm(f"Stop {name} and remove it ({also})?")
    done = dict(asyncio.run(take_out(settings, session.environment, name)))
    if home:
        gone = ask(session, lambda volumes: volumes.remove(name, home=True))
        done["home"] = gone.home
        free_ports(settings, name)
    if screen.as_json:
        screen.json({**done, "put_away": home})
    else:
        screen.line(f"{name} is removed: {done['file']} is gone")
        screen.note(f"its home {'is now' if home else 'stays'}: {done['home']}")
    return OK
