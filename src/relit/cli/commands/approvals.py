"""``approvals``: calls to tools that wait for a person's word."""

from __future__ import annotations

import click

from relit import documents
from relit.cli.commands.aliases import Aliased
from relit.cli.http import segment
from relit.cli.screen import ago, brief, short
from relit.cli.session import Session, pass_session


@click.group(cls=Aliased, invoke_without_command=True)
@click.pass_context
def approvals(ctx: click.Context) -> None:
    """Calls to tools that wait for your word: allow or deny them. Without a verb: ls."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_approvals)


@approvals.command("ls")
@pass_session
def list_approvals(session: Session) -> None:
    """What waits, oldest first. EXPIRES: when it is not made any more."""
    screen = session.screen
    found = session.api().get("/v1/approvals", documents.ToolCalls)
    if screen.as_json:
        screen.json(found)
        return
    rows = [
        [short(each.id), each.agent, each.tool, ago(each.started_at), ago(each.expires_at), brief(each.arguments, 60)]
        for each in found.calls
    ]
    screen.table(["ID", "AGENT", "TOOL", "ASKED", "EXPIRES", "ARGUMENTS"], rows, "nothing waits for your word")
    if found.calls:
        id = short(found.calls[0].id)
        screen.hint(f"relit approvals show {id}", f"relit approvals approve {id}", f"relit approvals deny {id}")


@approvals.command("show")
@click.argument("id")
@pass_session
def show_approval(session: Session, id: str) -> None:
    """A call to a tool, whole: also one that is decided, made, or in doubt."""
    screen = session.screen
    found = session.api().get(f"/v1/tools/calls/{segment(id)}", documents.ToolCall)
    screen.json(found)


@approvals.command()
@click.argument("ids", metavar="ID…", nargs=-1, required=True)
@click.option("--say", default="", metavar="TEXT", help="The answer to a question (ask_human).")
@pass_session
def approve(session: Session, ids: tuple[str, ...], say: str) -> None:
    """Let calls be made, with the arguments that they have. Their agents are told what came of them."""
    _decide(session, ids, {"approve": True, "why": say})


@approvals.command()
@click.argument("ids", metavar="ID…", nargs=-1, required=True)
@click.option("--why", default="", help="Told to the agent.")
@pass_session
def deny(session: Session, ids: tuple[str, ...], why: str) -> None:
    """Do not let calls be made. Their agents are told."""
    _decide(session, ids, {"approve": False, "why": why})


def _decide(session: Session, ids: tuple[str, ...], word: dict[str, object]) -> None:
    api, screen = session.api(), session.screen
    for id in ids:
        changed = api.post(f"/v1/approvals/{segment(id)}", documents.ToolCall, word)
        if screen.as_json:
            screen.row(changed)
        else:
            screen.line(f"{short(changed.id)}  {changed.agent}  {changed.tool}  {screen.state(changed.state)}")
