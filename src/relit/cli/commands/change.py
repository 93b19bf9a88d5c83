"""``signal``, ``cancel``, ``pause``, ``resume``, ``retry``, ``fork``, ``requeue``: changing runs."""

from __future__ import annotations

from typing import Any

import click

from relit import documents
from relit.cli.commands.values import json_or_text, json_value
from relit.cli.http import segment
from relit.cli.screen import short
from relit.cli.session import Session, pass_session
from relit.errors import Conflict, NotFound, RelitError


def _change(session: Session, verb: str, runs: tuple[str, ...], said: str, body: Any = None) -> int:
    """Do ``verb`` to every run; tell each that refused; the last error decides the exit code."""
    api, screen = session.api(), session.screen
    failed: RelitError | None = None
    for run in runs:
        try:
            changed = api.post(f"/v1/runs/{segment(run)}/{verb}", documents.Run, {} if body is None else body)
        except (NotFound, Conflict) as error:
            if len(runs) == 1:
                raise
            screen.note(f"{run}: {error.what}")
            failed = error
            continue
        if screen.as_json:
            screen.row(changed)
        else:
            screen.line(f"{short(changed.id)}  {changed.target}  {said}; it is {screen.state(changed.state)}")
    if failed is not None:
        raise failed
    return 0


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--reason", default="cancelled by a person", show_default=True, help="Kept with the run.")
@pass_session
def cancel(session: Session, runs: tuple[str, ...], reason: str) -> int:
    """Cancel runs and their children. What they have done stays done."""
    return _change(session, "cancel", runs, "cancelled", {"reason": reason})


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@pass_session
def pause(session: Session, runs: tuple[str, ...]) -> int:
    """Park runs at their next step, until they are resumed."""
    return _change(session, "pause", runs, "paused")


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@pass_session
def resume(session: Session, runs: tuple[str, ...]) -> int:
    """Let parked runs go on."""
    return _change(session, "resume", runs, "resumed")


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@pass_session
def retry(session: Session, runs: tuple[str, ...]) -> int:
    """Go on from the step that failed. Finished steps are not done again."""
    return _change(session, "retry", runs, "goes on")


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--agent", help="All dead letters of this agent.")
@click.option("--all", "everything", is_flag=True, help="All dead letters there are.")
@pass_session
def requeue(session: Session, runs: tuple[str, ...], agent: str | None, everything: bool) -> int:
    """Put dead letters back into their mailbox, with their attempts reset."""
    if not runs:
        if not agent and not everything:
            raise click.UsageError("say which: RUN..., --agent NAME or --all")
        page = session.api().get("/v1/runs", documents.Runs, state="discarded", agent=agent, limit=1000)
        runs = tuple(run.id for run in page.runs)
        if not runs:
            session.screen.note("no dead letters")
            return 0
        session.confirm(f"Put {len(runs)} dead letters back?")
    return _change(session, "requeue", runs, "is back in its mailbox")


@click.command()
@click.argument("run")
@click.option("--step", type=click.IntRange(0), metavar="SEQ", help="Keep the steps up to this one; default: all.")
@click.option("--args", "arguments", metavar="JSON", help="Other arguments: a list, or an object of named ones.")
@pass_session
def fork(session: Session, run: str, step: int | None, arguments: str | None) -> None:
    """Make a new run that has the first steps of another, and goes its own way from there."""
    body: dict[str, Any] = {} if step is None else {"seq": step}
    if arguments is not None:
        value = json_value(arguments, "--args")
        body |= (
            {"kwargs": value} if isinstance(value, dict) else {"args": value if isinstance(value, list) else [value]}
        )
    forked = session.api().post(f"/v1/runs/{segment(run)}/fork", documents.Run, body)
    if session.screen.as_json:
        session.screen.json(forked)
        return
    session.screen.line(forked.id)
    session.screen.hint(f"relit tail {short(forked.id)}", f"relit show {short(forked.id)}")


@click.command()
@click.argument("run")
@click.argument("name")
@click.argument("payload", required=False)
@click.option("--id", "signal_id", help="The same id again is delivered once.")
@pass_session
def signal(session: Session, run: str, name: str, payload: str | None, signal_id: str | None) -> None:
    """Deliver the signal NAME to a run; PAYLOAD is JSON, or else text."""
    body = {"name": name, "payload": None if payload is None else json_or_text(payload), "id": signal_id}
    sent = session.api().post(f"/v1/runs/{segment(run)}/signal", documents.Delivered, body, key=signal_id)
    if session.screen.as_json:
        session.screen.json(sent)
    else:
        session.screen.line("delivered" if sent.created else "it was delivered before")
