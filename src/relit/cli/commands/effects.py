"""``effects``: what may or may not have happened."""

from __future__ import annotations

from typing import Any

import click

from relit import documents
from relit.cli.commands.aliases import Aliased
from relit.cli.commands.values import json_value
from relit.cli.http import segment
from relit.cli.screen import ago, brief, short
from relit.cli.session import Session, pass_session

STATES = ("open", "in_doubt", "done", "failed", "kept")


@click.group(cls=Aliased, invoke_without_command=True)
@click.pass_context
def effects(ctx: click.Context) -> None:
    """Effects in doubt, and a person's word on them. Without a verb: ls."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_effects)


@effects.command("ls")
@click.option("--run", help="Of this run only.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Default: open and in_doubt.")
@pass_session
def list_effects(session: Session, run: str | None = None, states: tuple[str, ...] = ()) -> None:
    """Effects that are open (being done now) or in doubt (nobody knows), or those asked for."""
    api, screen = session.api(), session.screen
    if run is not None:
        run = api.get(f"/v1/runs/{segment(run)}", documents.Run).id
    found = api.get("/v1/effects", documents.Effects, run=run, state=list(states) or None)
    if screen.as_json:
        screen.json(found)
        return
    rows = [
        [short(e.run), e.pos, e.name, e.doubt, e.state, ago(e.intent_at), brief(e.request, 50)] for e in found.effects
    ]
    rows += [
        [short(t.id), "", t.tool, t.effect, t.state, ago(t.started_at), brief(t.arguments, 50)] for t in found.tools
    ]
    screen.table(["RUN", "POS", "NAME", "CLASS", "STATE", "INTENT", "REQUEST"], rows, "no effects in doubt")
    doubtful = next((e for e in found.effects if e.state == "in_doubt"), None)
    tool = next((t for t in found.tools if t.state == "in_doubt"), None)
    if doubtful is None and tool is not None:
        screen.hint(f"relit effects resolve {short(tool.id)} --done|--not-done")
    if doubtful is not None:
        screen.hint(f"relit effects resolve {short(doubtful.run)} {doubtful.pos} --done|--not-done")


@effects.command()
@click.argument("run", metavar="RUN|CALL")
@click.argument("pos", required=False)
@click.option("--done/--not-done", "done", default=None, help="It happened, or it did not (then it is done again).")
@click.option("--result", metavar="JSON", help="With --done: what the call answered.")
@pass_session
def resolve(session: Session, run: str, pos: str | None, done: bool | None, result: str | None) -> None:
    """Say whether the effect at POS of a run happened, or CALL to a tool. The run goes on; the agent is told."""
    if done is None:
        raise click.UsageError("say --done or --not-done")
    api, screen = session.api(), session.screen
    if pos is None:
        _resolve_tool(session, run, done, result)
        return
    body: dict[str, Any] = {"run": api.get(f"/v1/runs/{segment(run)}", documents.Run).id, "pos": pos, "done": done}
    if result is not None:
        body["result"] = json_value(result, "--result")
    changed = api.post("/v1/effects/resolve", documents.Run, body)
    if screen.as_json:
        screen.json(changed)
    else:
        screen.line(f"{short(changed.id)}  {changed.target}  goes on; it is {screen.state(changed.state)}")


def _resolve_tool(session: Session, call: str, done: bool, result: str | None) -> None:
    api, screen = session.api(), session.screen
    body: dict[str, Any] = {"done": done}
    if result is not None:
        body["result"] = json_value(result, "--result")
    changed = api.post(f"/v1/tools/calls/{segment(call)}/resolve", documents.ToolCall, body)
    if screen.as_json:
        screen.json(changed)
    else:
        screen.line(f"{short(changed.id)}  {changed.agent}  {changed.tool}  {screen.state(changed.state)}")
