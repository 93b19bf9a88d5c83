"""``usage`` and ``turn``: what agents asked of models, and what it cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import click

from relit import documents
from relit.cli.commands.aliases import Aliased
from relit.cli.http import segment
from relit.cli.screen import brief, short, when
from relit.cli.session import Session, pass_session
from relit.errors import Invalid, NotFound
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.durations import human

_CALLS = 1000  # the most that the server tells at once
_DAY_MS = 86_400_000

_BY: dict[str, Callable[[documents.UsageSum], str]] = {
    "day": lambda each: each.day,
    "agent": lambda each: each.agent,
    "model": lambda each: each.model or each.route,
}


@click.command()
@click.argument("agent", required=False)
@click.option("--days", type=click.IntRange(1, 3660), default=7, show_default=True, help="Up to today (UTC).")
@click.option(
    "--by", type=click.Choice([*_BY, "run"]), default="agent", show_default=True,
    help="What sums are made of. run: those of AGENT's newest thousand calls.",
)  # fmt: skip
@pass_session
def usage(session: Session, agent: str | None, days: int, by: str) -> None:
    """What agents (or AGENT) have used of models, what it cost, and what is left of today's budgets."""
    if by == "run":
        if agent is None:
            raise Invalid("runs are an agent's", why="none is named", fix="relit usage AGENT --by run")
        _by_run(session, agent, SYSTEM_CLOCK.now_ms() - days * _DAY_MS)
        return
    screen = session.screen
    found = session.api().get("/v1/usage", documents.UsageReport, days=days, agent=agent)
    if screen.as_json:
        screen.json(found)
        return
    groups: dict[str, list[documents.UsageSum]] = defaultdict(list)
    for each in found.usage:
        groups[_BY[by](each)].append(each)
    rows = [[name, *_sums(each)] for name, each in groups.items()]
    if len(rows) > 1:
        rows.append(["total", *_sums(found.usage)])
    heads = [by.upper(), "CALLS", "FAILED", "INPUT", "CACHED", "OUTPUT", "COST"]
    screen.table(heads, rows, "no call to a model was made through the gateway")
    for budget in found.budgets:
        screen.note(f"{budget.scope}: {_usd(budget.spent)} spent today, {_usd(budget.reserved)} reserved")


def _by_run(session: Session, agent: str, since: int) -> None:
    """The newest run first; what belongs to none is ``-``."""
    screen = session.screen
    path = f"/v1/agents/{segment(agent)}/calls"
    calls = session.api().get(path, documents.ModelCalls, limit=_CALLS).calls
    found: dict[str, list[documents.ModelCall]] = defaultdict(list)
    for each in calls:
        if each.started_at >= since:
            found[each.run or "-"].append(each)
    if screen.as_json:
        screen.json({"runs": [{"run": run, **_counted(each)} for run, each in found.items()]})
        return
    rows = [[short(run), *_told(_counted(each))] for run, each in found.items()]
    heads = ["RUN", "CALLS", "FAILED", "REPLAYED", "INPUT", "CACHED", "OUTPUT", "COST", "SAVED"]
    screen.table(heads, rows, "no call to a model was made through the gateway")
    if len(calls) == _CALLS:
        screen.note(f"of its newest {_CALLS} calls; relit turn show {agent} RUN has one run in full")


def _counted(calls: Sequence[documents.ModelCall]) -> dict[str, float]:
    """An answer from the record costs nothing, and a call that a budget refused was none: they are counted apart."""
    live = [each for each in calls if each.state not in ("replayed", "refused")]
    replayed = sum(each.state == "replayed" for each in calls)
    sums = {name: sum(getattr(each, name) for each in live) for name in ("input", "cached", "output", "cost")}
    failed = sum(each.state in ("failed", "cut", "cancelled") for each in live)
    saved = sum(each.saved for each in calls)
    return {"calls": len(live), "failed": failed, "replayed": replayed, **sums, "saved": saved}


def _told(counted: dict[str, float]) -> list[str]:
    return [_usd(each) if name in ("cost", "saved") else f"{each:.0f}" for name, each in counted.items()]


def _sums(found: Sequence[documents.UsageSum]) -> list[str]:
    counts = [sum(getattr(each, name) for each in found) for name in ("calls", "failed", "input", "cached", "output")]
    return [*map(str, counts), _usd(sum(each.cost for each in found))]


def _usd(amount: float) -> str:
    return f"{amount:.4f} USD"


@click.group(cls=Aliased)
def turn() -> None:
    """Turns: messages, as agents that relit did not write worked on them."""


@turn.command("show")
@click.argument("agent")
@click.argument("run")
@pass_session
def show_turn(session: Session, agent: str, run: str) -> None:
    """The calls of an AGENT's turn to models and tools, in their order: live, held, or replayed from the record, and
    what each cost. RUN `-`: what belongs to no turn."""
    api, screen = session.api(), session.screen
    if run == "-":
        calls = api.get(f"/v1/agents/{segment(agent)}/calls", documents.ModelCalls).calls
        tools = api.get(f"/v1/agents/{segment(agent)}/tools", documents.ToolCalls).calls
        calls = [each for each in reversed(calls) if each.run is None]
        tools = [each for each in reversed(tools) if each.run is None]
    else:
        found = api.get(f"/v1/runs/{segment(run)}", documents.Run)
        if found.agent != agent:
            raise NotFound(f"{agent} has no run {run}", why=f"it is {found.agent}'s", fix=f"relit runs --agent {agent}")
        calls = api.get(f"/v1/runs/{segment(found.id)}/calls", documents.ModelCalls).calls
        tools = api.get(f"/v1/runs/{segment(found.id)}/tools", documents.ToolCalls).calls
    if screen.as_json:
        screen.json(documents.TurnCalls(calls=calls, tools=tools))
        return
    rows = [(each.started_at, _row(each)) for each in calls] + [(each.started_at, _tool_row(each)) for each in tools]
    heads = ["CALL", "AT", "TOOK", "MODEL OR TOOL", "STATE", "INPUT", "CACHED", "OUTPUT", "COST", "WHY"]
    screen.table(heads, [row for _, row in sorted(rows, key=lambda each: each[0])], "no call was made")
    if rows:
        screen.note(summed(calls, tools))


def summed(calls: Sequence[documents.ModelCall], tools: Sequence[documents.ToolCall]) -> str:
    """What all of them came to: made, replayed, saved."""
    replayed = [each for each in calls if each.state == "replayed"]
    refused = sum(each.state == "refused" for each in calls)
    saved = f", {len(replayed)} replayed: {_usd(sum(each.saved for each in replayed))} saved" if replayed else ""
    told = f"{len(calls) - refused} calls to models, {_usd(sum(each.cost for each in calls))}{saved}"
    told += f", {refused} refused for want of money" if refused else ""
    if tools:
        again = sum(each.state == "replayed" for each in tools)
        told += f"; {len(tools)} to tools" + (f", {again} from the record" if again else "")
    return told


def _tool_row(each: documents.ToolCall) -> list[str]:
    took = "" if each.ended_at is None else human(max(0, each.ended_at - each.started_at))
    name = f"t{each.number}" if each.number else short(each.id)
    state = f"{each.state} (error)" if each.failed and each.state == "done" else each.state
    return [
        name,
        when(each.started_at),
        took,
        each.tool,
        state,
        "",
        "",
        "",
        "",
        (each.why or brief(each.arguments))[:60],
    ]


def _row(each: documents.ModelCall) -> list[str]:
    took = "" if each.ended_at is None else human(max(0, each.ended_at - each.started_at))
    state = each.state if each.status in (0, 200) else f"{each.state} ({each.status})"
    cost = ("~" if each.estimated else "") + _usd(each.cost)
    name = str(each.number) if each.number else short(each.id)
    counts = map(str, (each.input, each.cached, each.output))
    return [name, when(each.started_at), took, each.model, state, *counts, cost, each.why[:60]]
