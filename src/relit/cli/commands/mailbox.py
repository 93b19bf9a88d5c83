"""``mailbox``: look, limit, pause."""

from __future__ import annotations

from typing import Any

import click

from relit import documents
from relit.cli.commands.aliases import Aliased
from relit.cli.http import segment
from relit.cli.screen import ago
from relit.cli.session import Session, pass_session


@click.group(cls=Aliased, invoke_without_command=True)
@click.pass_context
def mailbox(ctx: click.Context) -> None:
    """Mailboxes: list, limit, pause. Without a verb: ls."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_mailboxes)


@mailbox.command("ls")
@pass_session
def list_mailboxes(session: Session) -> None:
    """Mailboxes and how full they are."""
    screen = session.screen
    found = session.api().get("/v1/mailboxes", documents.Mailboxes)
    if screen.as_json:
        screen.json(found)
        return
    screen.table(
        ["MAILBOX", "STATE", "QUEUED", "ACTIVE", "PARKED", "DEAD", "OLDEST", "AT ONCE", "DEPTH", "RATE"],
        [
            [
                box.name,
                "paused" if box.paused else "open",
                str(box.queued),
                str(box.active),
                str(box.parked),
                str(box.dead),
                ago(box.oldest_at),
                _limit(box.concurrency),
                _limit(box.depth),
                "" if box.rate is None else f"{box.rate:g}/s",
            ]
            for box in found.mailboxes
        ],
        "no mailboxes: the first message to an agent makes one",
    )


def _limit(value: int | None) -> str:
    return "any" if value is None else str(value)


@mailbox.command()
@click.argument("name")
@pass_session
def pause(session: Session, name: str) -> None:
    """Start no more of its messages; they are still accepted."""
    _toggle(session, name, "pause")


@mailbox.command()
@click.argument("name")
@pass_session
def resume(session: Session, name: str) -> None:
    """Go on with its messages."""
    _toggle(session, name, "resume")


def _toggle(session: Session, name: str, verb: str) -> None:
    box = session.api().post(f"/v1/mailboxes/{segment(name)}/{verb}", documents.Mailbox)
    if session.screen.as_json:
        session.screen.json(box)
    else:
        session.screen.line(f"{box.name} is {'paused' if box.paused else 'open'}, {box.queued} messages wait")


@mailbox.command("set")
@click.argument("name")
@click.option("--concurrency", help="Messages at once, or none (no limit).")
@click.option("--key-concurrency", help="Messages at once with the same key, or none.")
@click.option("--depth", help="Waiting messages, or none.")
@click.option("--rate", help="Messages a second, or none.")
@click.option("--burst", help="Messages that may start before the rate holds.")
@pass_session
def set_limits(session: Session, /, name: str, **limits: str | None) -> None:
    """Change limits until the next start; relit.toml holds those that stay."""
    body = {key: _number(key, text) for key, text in limits.items() if text is not None}
    if not body:
        raise click.UsageError("say what to change: --concurrency, --depth, --rate …")
    box = session.api().patch(f"/v1/mailboxes/{segment(name)}", documents.Mailbox, body)
    if session.screen.as_json:
        session.screen.json(box)
    else:
        session.screen.line(f"{box.name}: " + ", ".join(f"{key} = {getattr(box, key)}" for key in body))


def _number(key: str, text: str) -> Any:
    if text == "none":
        return None
    try:
        return float(text) if key == "rate" else int(text)
    except ValueError as error:
        raise click.UsageError(f"--{key.replace('_', '-')} takes a number or none, not {text!r}") from error
