"""``schedule``: what starts by itself."""

from __future__ import annotations

from typing import Any

import click

from relit import documents
from relit.cli.commands.aliases import Aliased
from relit.cli.commands.values import json_or_text, json_value
from relit.cli.http import segment
from relit.cli.screen import ago, short, when
from relit.cli.session import Session, pass_session


@click.group(cls=Aliased, invoke_without_command=True)
@click.pass_context
def schedule(ctx: click.Context) -> None:
    """Schedules: list, add, pause, trigger, remove. Without a verb: ls.

    Those of relit.toml are called AGENT.NAME and belong there.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_schedules)


@schedule.command("ls")
@pass_session
def list_schedules(session: Session) -> None:
    """Schedules and when they fire next."""
    found, screen = session.api().get("/v1/schedules", documents.Schedules), session.screen
    if screen.as_json:
        screen.json(found)
        return
    rows = [
        [each.name, each.target, _rhythm(each.spec), "paused" if each.paused else "ready", ago(each.next_at),
         ago(each.last_at)]
        for each in found.schedules
    ]  # fmt: skip
    screen.table(["NAME", "STARTS", "WHEN", "STATE", "NEXT", "LAST"], rows, "no schedules: relit schedule add --help")


def _rhythm(spec: dict[str, Any]) -> str:
    if every := spec.get("every"):
        return f"every {every}"
    return f"{spec.get('cron')} {spec.get('zone', 'UTC')}"


@schedule.command()
@click.argument("name")
@click.option("--agent", required=True, help="Who is started.")
@click.option("--message", help="What it is sent: JSON, or else text.")
@click.option("--workflow", help="A workflow of the agent to start, instead of sending a message.")
@click.option("--args", "arguments", metavar="JSON", help="With --workflow: its arguments.")
@click.option("--every", metavar="DURATION", help="An interval: 30m.")
@click.option("--cron", help="Five fields: '0 9 * * MON-FRI'.")
@click.option("--zone", help="IANA time zone of --cron.")
@click.option("--jitter", metavar="DURATION", help="Spread over this span, always at the same place in it.")
@click.option("--missed", type=click.Choice(["skip", "latest", "all"]), help="Firings missed while nothing ran.")
@click.option("--max", "most", type=click.IntRange(1), help="With --missed all: at most so many.")
@click.option("--window", metavar="DURATION", help="Firings missed longer ago are only recorded.")
@click.option(
    "--overlap", type=click.Choice(["skip", "queue", "cancel", "allow"]), help="When the last run is not finished."
)
@pass_session
def add(session: Session, /, name: str, message: str | None, arguments: str | None, **given: Any) -> None:
    """Add the schedule NAME, or change it."""
    given["max"] = given.pop("most")
    body = {key: value for key, value in given.items() if value is not None}
    if message is not None:
        body["message"] = json_or_text(message)
    if arguments is not None:
        value = json_value(arguments, "--args")
        body |= (
            {"kwargs": value} if isinstance(value, dict) else {"args": value if isinstance(value, list) else [value]}
        )
    made = session.api().put(f"/v1/schedules/{segment(name)}", documents.Schedule, body)
    _say(session, made)


def _say(session: Session, made: documents.Schedule) -> None:
    if session.screen.as_json:
        session.screen.json(made)
    elif made.paused:
        session.screen.line(f"{made.name} is paused")
    else:
        session.screen.line(f"{made.name} starts {made.target} {ago(made.next_at)} ({when(made.next_at)})")


@schedule.command()
@click.argument("name")
@pass_session
def pause(session: Session, name: str) -> None:
    """Let it fire no more, until it is resumed."""
    _say(session, session.api().post(f"/v1/schedules/{segment(name)}/pause", documents.Schedule))


@schedule.command()
@click.argument("name")
@pass_session
def resume(session: Session, name: str) -> None:
    """Let it fire again."""
    _say(session, session.api().post(f"/v1/schedules/{segment(name)}/resume", documents.Schedule))


@schedule.command()
@click.argument("name")
@pass_session
def trigger(session: Session, name: str) -> None:
    """Start its run now, besides its plan."""
    made = session.api().post(f"/v1/schedules/{segment(name)}/trigger", documents.Accepted)
    if session.screen.as_json:
        session.screen.json(made)
    else:
        session.screen.line(made.id)


@schedule.command("rm")
@click.argument("name")
@pass_session
def remove(session: Session, name: str) -> None:
    """Remove it. Its runs stay."""
    session.confirm(f"Remove the schedule {name}?")
    session.api().delete(f"/v1/schedules/{segment(name)}")
    if session.screen.as_json:
        session.screen.json({"removed": name})
    else:
        session.screen.note(f"{name} is removed")


@schedule.command()
@click.argument("name")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="At most so many.")
@pass_session
def log(session: Session, name: str, limit: int) -> None:
    """What became of each due moment, missed ones included."""
    path = f"/v1/schedules/{segment(name)}/firings"
    found, screen = session.api().get(path, documents.Firings, limit=limit), session.screen
    if screen.as_json:
        screen.json(found)
        return
    rows = [
        [when(each.due_at), each.outcome, short(each.run) if each.run else "", each.reason or ""]
        for each in found.firings
    ]
    screen.table(["DUE", "OUTCOME", "RUN", "REASON"], rows, "it has not fired yet")
