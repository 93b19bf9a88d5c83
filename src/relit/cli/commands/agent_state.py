"""``agent ls``, ``start``, ``stop``, ``restart``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from relit.cli.commands.follow import DURATION
from relit.cli.exits import CONFLICT, DEGRADED, OK
from relit.cli.session import Session, pass_session
from relit.settings.noted import noted_start

if TYPE_CHECKING:
    from relit.app.agent_listing import Listed
    from relit.app.by_hand import Done, Hand

_ILL = ("down", "healing", "backing-off")
_TIMEOUT = click.option(
    "--timeout", type=DURATION, help="For it to be done. [default: what the agent may take to start or end]"
)
_OWN = ("server", "volumes", "turns", "functions", "gateway", "front")


@click.command("ls")
@pass_session
def list_agents(session: Session) -> int:
    """Agents of the configuration as they are on this machine; no server is asked. Exit code 3: one is in trouble."""
    from relit.app import node_word
    from relit.app.agent_listing import listing
    from relit.app.folder import run_dir

    settings, screen = session.settings(), session.screen
    found = listing(settings, asyncio.run(node_word.running(run_dir(settings))))
    if screen.as_json:
        screen.json({"agents": found})
    else:
        heads = ["NAME", "KIND", "VERSION", "STATE", "PID", "PORT", "HOME"]
        screen.table(heads, [_row(each) for each in found], "no agents yet. next: relit agent add NAME --kind KIND")
        for each in found:
            if each.reason:
                screen.note(screen.dim(f"{each.name}: {each.reason}"))
    return DEGRADED if any(each.state in _ILL or not each.installed for each in found) else OK


def _row(agent: Listed) -> list[str]:
    ports = ", ".join(str(port) for port in agent.ports.values())
    return [agent.name, agent.kind, agent.version, agent.state, str(agent.pid or ""), ports, agent.home]


@click.command()
@click.argument("name")
@_TIMEOUT
@pass_session
def start(session: Session, name: str, timeout: int | None) -> int:
    """Let an agent run that was stopped by hand, and wait until it is ready."""
    return _tell(session, asyncio.run(hand_of(session, name).start(_seconds(timeout))))


@click.command()
@click.argument("name")
@_TIMEOUT
@pass_session
def stop(session: Session, name: str, timeout: int | None) -> int:
    """Stop an agent until `relit agent start`: reboots and `relit up` do not start it. Its messages wait."""
    return _tell(session, asyncio.run(hand_of(session, name).stop(_seconds(timeout))))


@click.command()
@click.argument("name")
@_TIMEOUT
@pass_session
def restart(session: Session, name: str, timeout: int | None) -> int:
    """Stop an agent in good order, start it again, and wait until it is ready."""
    return _tell(session, asyncio.run(hand_of(session, name).restart(_seconds(timeout))))


def hand_of(session: Session, name: str) -> Hand:
    """A hand on an agent, or a module that runs. NotFound."""
    from relit.app import node_word
    from relit.app.by_hand import Hand
    from relit.app.folder import run_dir

    settings = session.settings()
    found = asyncio.run(node_word.running(run_dir(settings)))
    return Hand(settings, name, [each.name for each in found.instances if each.name not in _OWN])


def _seconds(timeout: int | None) -> float | None:
    return None if timeout is None else timeout / 1000


def _tell(session: Session, done: Done) -> int:
    screen = session.screen
    if screen.as_json:
        screen.json(done)
    else:
        screen.line(_said(session, done))
    return CONFLICT if done.outcome == "held" else OK


def _said(session: Session, done: Done) -> str:
    match done.outcome:
        case "stopped":
            word = "is stopped" if done.changed else "was stopped already"
            return f"{done.agent} {word}; it stays so until: relit agent start {done.agent}"
        case "held":
            return f"{done.agent} is held: {done.reason}; it starts when that is over"
        case "waits":
            return f"{done.agent} may run; no node runs here to start it: {noted_start(session.data)}"
        case "restarted":
            return f"{done.agent} runs again (pid {done.pid})"
        case "started":
            return f"{done.agent} {'runs' if done.changed else 'ran already'} (pid {done.pid})"
