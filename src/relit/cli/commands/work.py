"""``run`` and ``send``: new work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relit import documents
from relit.cli.commands.follow import DURATION, Drawn, follow_run, outcome, wait_for
from relit.cli.commands.values import json_or_text, json_value
from relit.cli.http import parse_frames, segment
from relit.cli.screen import short
from relit.cli.session import Session, pass_session
from relit.lib.ids import new_id


@click.command()
@click.argument("target")
@click.argument("arguments", required=False, metavar="[ARGS-JSON]")
@click.option("--detach", is_flag=True, help="Do not follow it: print its id and return.")
@click.option("--resume", "resumed", metavar="RUN", help="MODULE:WORKFLOW only: go on with this run.")
@click.option("--priority", type=click.IntRange(0, 100), help="0 last … 100 first.")
@click.option("--delay", metavar="DURATION", help="Start not before this long from now.")
@click.option("--run-timeout", metavar="DURATION", help="The run's own time limit.")
@click.option("--key", help="The same key again answers the first run.")
@click.option("--force", is_flag=True, help="Accept a workflow that no worker was ever seen with.")
@pass_session
def run(session: Session, /, target: str, arguments: str | None, detach: bool, resumed: str | None, **more: Any) -> int:
    """Start a workflow and follow it until it ends.

    TARGET is MODULE:WORKFLOW (runs right here, without a server) or AGENT/WORKFLOW (on the server's workers).
    ARGS-JSON: a list is the arguments, an object the named ones, anything else the one argument; - reads it.
    """
    value = None if arguments is None else json_value(arguments, "ARGS-JSON")
    args, kwargs = _arguments(value, arguments is not None)
    here = ":" in target or target.endswith(".py")
    _refuse_idle(here, resumed, {"detach": detach, **more})
    if here:
        return _here(session, target, args, kwargs, resumed)
    return _there(session, target, {"args": args, "kwargs": kwargs}, detach, more)


def _refuse_idle(here: bool, resumed: str | None, queued: dict[str, Any]) -> None:
    """Raises ``UsageError`` for an option that would do nothing."""
    idle = [name for name, value in queued.items() if value is not None and value is not False]
    if here and idle:
        name = idle[0].replace("_", "-")
        raise click.UsageError(f"--{name} is for AGENT/WORKFLOW, on the server's workers; this run starts right here")
    if resumed is not None and not here:
        raise click.UsageError("--resume is for MODULE:WORKFLOW; a run on the server's workers goes on by itself")


def _arguments(value: Any, given: bool) -> tuple[list[Any], dict[str, Any]]:
    if isinstance(value, dict):
        return [], value
    if isinstance(value, list):
        return value, {}
    return ([value] if given else []), {}


def _there(session: Session, target: str, body: dict[str, Any], detach: bool, more: dict[str, Any]) -> int:
    body |= {
        "target": target,
        "priority": more["priority"],
        "delay": more["delay"],
        "timeout": more["run_timeout"],
        "force": more["force"],
    }
    api = session.patient_api()
    made = api.post("/v1/runs", documents.Accepted, body, key=more["key"] or new_id())
    return _made(session, made) if detach else _followed(session, made)


def _made(session: Session, made: documents.Accepted) -> int:
    screen = session.screen
    if screen.as_json:
        screen.json(made)
        return 0
    screen.line(made.id)
    if not made.created:
        screen.note("the same key was used before: this is that run")
    if made.note:
        screen.note(made.note)
    screen.hint(f"relit tail {short(made.id)}", f"relit wait {short(made.id)}")
    return 0


def _followed(session: Session, made: documents.Accepted) -> int:
    session.screen.note(session.screen.dim(f"run {made.id}; Ctrl-C leaves it running"))
    try:
        return follow_run(session, session.patient_api(), made.id)
    except KeyboardInterrupt:
        session.screen.note(f"it goes on; follow it again: relit tail {short(made.id)}")
        return 130


def _here(session: Session, target: str, args: list[Any], kwargs: dict[str, Any], resumed: str | None) -> int:
    from relit.app import embedded, modules
    from relit.cli.commands.services import run_async

    module, _, name = target.partition(":")
    found = modules.load(module, Path.cwd())
    workflow = modules.find(found, name or None, module)
    drawn, screen = Drawn(session.screen), session.screen
    ids: list[str] = []

    def began(id: str) -> None:
        ids.append(id)
        screen.note(screen.dim(f"run {id}; Ctrl-C leaves it on disk, to go on later"))

    def frame(raw: bytes) -> None:
        for each in parse_frames(raw.splitlines(keepends=True)):
            drawn.frame(each)

    asked = embedded.Request(workflow, args, kwargs, resumed)
    if run_async(session, embedded.run(session.settings(), found, asked, began=began, frame=frame)):
        return drawn.code
    screen.note(f"run {ids[0]} is on disk; go on: relit run {target} --resume {short(ids[0])}")
    return 130


@click.command()
@click.argument("agent")
@click.argument("message", required=False)
@click.option("--wait", "waits", is_flag=True, help="Wait for the answer and print it.")
@click.option("--timeout", type=DURATION, help="With --wait: give up after this long (exit code 5).")
@click.option("--key", help="Messages with the same key share a place in the mailbox (key_concurrency).")
@click.option("--dedup", help="The same again within --dedup-window answers the first message.")
@click.option("--dedup-window", default="1d", show_default=True, metavar="DURATION")
@click.option("--priority", type=click.IntRange(0, 100), help="0 last … 100 first.")
@click.option("--delay", metavar="DURATION", help="Deliver not before this long from now.")
@click.option("--expire", metavar="DURATION", help="Not started by then: recorded as missed.")
@click.option("--force", is_flag=True, help="Accept an agent that no worker was ever seen with.")
@pass_session
def send(session: Session, /, agent: str, message: str | None, waits: bool, timeout: int | None, **options: Any) -> int:
    """Send a message to an agent. It is on disk when this returns; the run's id is printed.

    MESSAGE is JSON if it reads as JSON, else text; - (or nothing, when piped) reads standard input.
    """
    body = {"message": json_or_text("-" if message is None else message), **options}
    api = session.patient_api()
    made = api.post(f"/v1/agents/{segment(agent)}/messages", documents.Accepted, body, key=options["dedup"] or new_id())
    if not waits:
        return _made(session, made)
    return outcome(session.screen, wait_for(api, made.id, timeout))
