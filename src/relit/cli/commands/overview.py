"""``runs``, ``show``: what there is."""

from __future__ import annotations

import click

from relit import documents
from relit.cli.commands.usage import summed
from relit.cli.http import Api, segment
from relit.cli.screen import Screen, ago, brief, short, when
from relit.cli.session import Session, pass_session
from relit.lib.durations import human
from relit.store.values import RunState

STATES: tuple[str, ...] = (
    "available", "scheduled", "running", "waiting", "parked", "completed", "failed", "cancelled", "discarded",
)  # fmt: skip


@click.command()
@click.option("--agent", help="Of this agent only.")
@click.option("--workflow", help="Of this workflow only.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="In this state; may be repeated.")
@click.option("--schedule", help="Made by this schedule.")
@click.option("--parent", help="Children of this run.")
@click.option("--before", metavar="RUN", help="Older than this run: the next page.")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="At most so many.")
@pass_session
def runs(session: Session, /, states: tuple[RunState, ...], limit: int, **filters: str | None) -> None:
    """Runs, newest first. Commands take the ID as shown: any beginning or end that fits one run."""
    api, screen = session.api(), session.screen
    page = api.get("/v1/runs", documents.Runs, limit=limit, state=list(states) or None, **filters)
    if screen.as_json:
        screen.json(page)
        return
    rows = [[short(r.id), r.target, r.state, brief(r.reason), ago(r.created_at), took(r)] for r in page.runs]
    screen.table(["ID", "WORKFLOW", "STATE", "REASON", "MADE", "TOOK"], rows, "no runs")
    if page.next:
        screen.note(screen.dim(f"more: relit runs --before {page.next}"))


def took(run: documents.Run) -> str:
    """How long a finished run took."""
    if run.started_at is None or run.finished_at is None:
        return ""
    return human(run.finished_at - run.started_at)


@click.command()
@click.argument("run")
@click.option("--full", is_flag=True, help="Large payloads too.")
@click.option("-n", "--limit", default=200, show_default=True, type=click.IntRange(1, 1000), help="Steps, at most.")
@click.option("--after", default=0, metavar="SEQ", help="Steps after this one: the next page.")
@pass_session
def show(session: Session, run: str, full: bool, limit: int, after: int) -> None:
    """A run: its state, what it waits for, effects in doubt, and its journal."""
    api, screen = session.api(), session.screen
    payloads = "full" if full else "short"
    found = api.get(f"/v1/runs/{segment(run)}", documents.Run, payloads=payloads)
    steps = api.get(f"/v1/runs/{found.id}/journal", documents.Steps, payloads=payloads, limit=limit, after=after)
    waits = api.get(f"/v1/runs/{found.id}/waits", documents.Waits).waits
    effects = api.get("/v1/effects", documents.Effects, run=found.id, state=["open", "in_doubt", "kept"]).effects
    if screen.as_json:
        screen.json({"run": found, "steps": steps.steps, "next": steps.next, "waits": waits, "effects": effects})
        return
    _head(screen, found)
    _failure(screen, found)
    for wait in waits:
        screen.line(f"waits for {wait.kind} {wait.name}".rstrip() + (f", {ago(wait.wake_at)}" if wait.wake_at else ""))
    for effect in effects:
        screen.line(_effect(screen, effect))
    _journal(screen, steps)
    _calls(api, screen, found)
    screen.hint(*next_commands(api, found))


def _calls(api: Api, screen: Screen, run: documents.Run) -> None:
    """Of a turn: what its agent asked of models and tools, in sum."""
    if run.mailbox is None:
        return
    calls = api.get(f"/v1/runs/{run.id}/calls", documents.ModelCalls).calls
    tools = api.get(f"/v1/runs/{run.id}/tools", documents.ToolCalls).calls
    if calls or tools:
        screen.line(f"{summed(calls, tools)} (relit turn show {run.agent} {short(run.id)})")


def _head(screen: Screen, run: documents.Run) -> None:
    screen.pairs(
        [
            ("run", run.id),
            ("workflow", run.target),
            ("state", run.state),
            ("reason", run.reason or ""),
            ("made", f"{when(run.created_at)} ({ago(run.created_at)})"),
            ("took", took(run)),
            ("wakes", ago(run.wake_at)),
            ("attempt", f"{run.attempt} of {run.max_attempts}" if run.max_attempts > 1 else ""),
            ("worker", run.worker or ""),
            ("heartbeat", "" if run.beat_at is None else f"{ago(run.beat_at)} {brief(run.beat, 100)}"),
            ("lost workers", str(run.crashes or "")),
            ("schedule", run.schedule or ""),
            ("parent", run.parent or ""),
            ("forked from", run.forked_from or ""),
            ("continued as", run.continued_to or ""),
            ("input", brief(run.input, 100)),
            ("output", brief(run.output, 400)),
        ]
    )


def _failure(screen: Screen, run: documents.Run) -> None:
    if run.error is None:
        return
    screen.line(screen.style("failed", fg="red") + f" at {run.failed_pos or 'the workflow itself'}: " + told(run.error))
    for label, text in (("why", run.error.why), ("fix", run.error.fix)):
        if text:
            screen.line(f"{label}: {text}")
    if run.error.traceback:
        screen.line(screen.dim(run.error.traceback.rstrip()))


def told(failure: documents.Failure) -> str:
    """A failure in one line."""
    said = failure.what or failure.message
    return said if not failure.type or said.startswith(failure.type) else f"{failure.type}: {said}"


def _journal(screen: Screen, page: documents.Steps) -> None:
    if not page.steps:
        return
    screen.line()
    rows = [_step(step) for step in page.steps]
    screen.table(["SEQ", "POS", "KIND", "NAME", "TOOK", "TRIES", "RESULT"], rows)
    if page.next is not None:
        screen.note(screen.dim(f"more: --after {page.next}"))


def _effect(screen: Screen, effect: documents.Effect) -> str:
    where = "from before the run went back" if "@" in effect.pos else f"at {effect.pos}"
    return f"{screen.state(effect.state)} effect {effect.name} {where}: {brief(effect.request)}"


def _step(step: documents.Step) -> list[str]:
    """A row of the journal. What no longer counts has no position any more."""
    kept = step.kind == "effect" and step.attempts == 0  # nothing was sent: its result is from before the run went back
    return [
        str(step.seq),
        "" if step.pos.startswith("~") else step.pos,
        step.kind,
        step.name,
        "kept" if kept else human(max(0, step.finished_at - step.started_at)),
        str(step.attempts) if step.attempts > 1 else "",
        f"failed: {told(step.error)}" if step.error else brief(step.result),
    ]


def next_commands(api: Api, run: documents.Run) -> list[str]:
    """What one would do next with a run."""
    id = short(run.id)
    match run.state:
        case "failed" | "cancelled":
            return [f"relit retry {id}", f"relit fork {id} --step N"]
        case "discarded":
            return [f"relit requeue {id}"]
        case "parked":
            effects = api.get("/v1/effects", documents.Effects, run=run.id, state=["in_doubt"]).effects
            if effects:
                return [f"relit effects resolve {id} {effects[0].pos} --done|--not-done"]
            return [f"relit resume {id}", f"relit retry {id}"]
        case "completed":
            return []
        case _:
            return [f"relit tail {id}", f"relit cancel {id}"]
