"""Runs: start, list, look into, wait for, change."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from relit import documents
from relit.api import body, draft, follow, sse
from relit.api.operation import Call, Nothing, Operation
from relit.api.render import Shown
from relit.durable import inputs
from relit.errors import Conflict, NotFound
from relit.lib.ids import derived_id
from relit.store.values import FINAL, RunState

_ID_LENGTH = 26
_LONGEST_WAIT_MS = 60_000

Limit = Annotated[int, Meta(ge=1, le=1000)]
ShownField = Annotated[Shown, Meta(description="Payloads: `none`, `short` (large ones as a reference) or `full`.")]


class ListQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Filters of the list of runs."""

    agent: str | None = None
    workflow: str | None = None
    state: list[RunState] = []
    schedule: str | None = None
    parent: str | None = None
    before: str | None = None
    limit: Limit = 50
    payloads: ShownField = "none"


class ShownQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How payloads are shown."""

    payloads: ShownField = "short"


class JournalQuery(ShownQuery, frozen=True, forbid_unknown_fields=True):
    """A page of a journal: of the steps after a number, or (``last``) of the newest ones."""

    after: int = 0
    limit: Limit = 200
    last: bool = False


class WaitQuery(ShownQuery, frozen=True, forbid_unknown_fields=True):
    """How long to wait: at most 60 s a call, then ask again."""

    wait: str = "30s"


class StreamQuery(ShownQuery, frozen=True, forbid_unknown_fields=True):
    """Where to begin: ``after`` is for those who cannot send ``Last-Event-ID``."""

    after: str = ""


class CancelBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why."""

    reason: str = "cancelled by a person"


class ForkBody(draft.Arguments, frozen=True, kw_only=True):
    """A fork: the first ``seq`` steps (all when absent), and another input if given."""

    seq: Annotated[int, Meta(ge=0)] | None = None


class SignalBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signal. The same ``id`` again is delivered once."""

    name: Annotated[str, Meta(min_length=1)]
    payload: Any = None
    id: Annotated[str, Meta(min_length=1)] | None = None


async def find(call: Call) -> str:
    """The run in the path: its id, or the beginning or end of it. Raises ``NotFound`` and ``Conflict``."""
    asked = call.path("id").lower()
    if len(asked) == _ID_LENGTH:
        return asked
    found = await call.store.find_runs(asked)
    if not found:
        raise NotFound(f"there is no run {asked!r}", fix="relit runs")
    if len(found) > 1:
        raise Conflict(f"{asked!r} fits several runs", why=", ".join(found), fix="write more of the id")
    return found[0]


async def start(call: Call) -> documents.Accepted:
    """Start a workflow. Answered when the run is on disk."""
    asked: draft.NewCall = call.body
    target, note = await call.api.targets.find(asked.target, asked.force)
    run = await draft.call(call.api.parts, asked, target, call.idempotency_key)
    made = (await call.store.enqueue([run]))[0]
    return documents.Accepted(id=made.id, created=made.created, note=note)


async def list_runs(call: Call) -> documents.Runs:
    """Runs, newest first."""
    query: ListQuery = call.query
    found = await call.store.runs(
        agent=query.agent,
        workflow=query.workflow,
        states=query.state,
        schedule=query.schedule,
        parent=query.parent,
        before=query.before,
        limit=query.limit,
    )
    rendered = [await call.api.render.run(run, query.payloads) for run in found]
    return documents.Runs(runs=rendered, next=found[-1].id if len(found) == query.limit else None)


async def get(call: Call) -> documents.Run:
    """A run."""
    return await call.api.render.run(await call.store.run(await find(call)), call.query.payloads)


async def journal(call: Call) -> documents.Steps:
    """What a run did."""
    query: JournalQuery = call.query
    run = await call.store.run(await find(call))
    if query.last:
        steps = await call.store.last_steps(run.id, query.limit)
    else:
        steps = await call.store.steps(run.id, query.after, query.limit)
    rendered = [await call.api.render.step(step, query.payloads) for step in steps]
    return documents.Steps(steps=rendered, next=steps[-1].seq if len(steps) == query.limit and not query.last else None)


async def waits(call: Call) -> documents.Waits:
    """What a run waits for."""
    run = await call.store.run(await find(call))
    found = await call.store.waits(run.id)
    return documents.Waits(
        waits=[documents.Wait(pos=wait.pos, kind=wait.kind, name=wait.name, wake_at=wait.wake_at) for wait in found]
    )


async def wait(call: Call) -> documents.Run:
    """The run when it is final, or as it stands after `wait`. Follows a continued run."""
    query: WaitQuery = call.query
    asked = min(body.span(query.wait, "wait") or 0, _LONGEST_WAIT_MS)
    run = await follow.settled(call.api, await find(call), asked / 1000)
    return await call.api.render.run(run, query.payloads if run.state in FINAL else "none")


async def stream(call: Call) -> Response:
    """Follow a run: `step`, `item`, `state`, `continued`, `end`. Resumes by Last-Event-ID."""
    query: StreamQuery = call.query
    run = await find(call)
    at = follow.cursor(call.request.headers.get("last-event-id") or query.after, run)
    await call.store.run(at.run)  # NotFound while there is still a status to tell it with
    return sse.respond(follow.frames(call.api, at, query.payloads))


async def cancel(call: Call) -> documents.Run:
    """Cancel a run and its children."""
    reason: str = call.body.reason
    return await call.api.render.run(await call.store.cancel(await find(call), reason))


async def pause(call: Call) -> documents.Run:
    """Park a run until it is resumed."""
    return await call.api.render.run(await call.store.pause(await find(call)))


async def resume(call: Call) -> documents.Run:
    """Let a parked run go on."""
    return await call.api.render.run(await call.store.resume(await find(call)))


async def retry(call: Call) -> documents.Run:
    """Go on from the step that failed; finished steps stay."""
    return await call.api.render.run(await call.store.retry(await find(call)))


async def requeue(call: Call) -> documents.Run:
    """Put a dead letter back into its mailbox."""
    return await call.api.render.run(await call.store.requeue(await find(call)))


async def fork(call: Call) -> documents.Run:
    """Make a new run from the first steps of another."""
    asked: ForkBody = call.body
    parts = call.api.parts
    source, key = await find(call), call.idempotency_key
    if key is None:
        new_id = parts.ids()
    else:
        new_id = derived_id("fork", source, key)
        with contextlib.suppress(NotFound):
            return await call.api.render.run(await call.store.run(new_id))  # the same request again
    other = draft.arguments(asked)
    data = None if other is None else await inputs.encode(parts.payloads, *other)
    return await call.api.render.run(await call.store.fork(source, asked.seq, new_id, data))


async def signal(call: Call) -> documents.Delivered:
    """Deliver a signal. Answered when it is on disk."""
    asked: SignalBody = call.body
    run = await find(call)
    parts = call.api.parts
    given = asked.id or call.idempotency_key
    payload = await parts.payloads.encode(body.value(asked.payload))
    sent = parts.engine.new_signal(run, asked.name, payload, given)
    return documents.Delivered(id=given or sent.id, created=await call.store.signal(sent))


def _change(verb: str, handle: Any, summary: str, shape: Any = None, keyed: bool = False) -> Operation:
    return Operation(
        method="POST",
        path=f"/v1/runs/{{id}}/{verb}",
        name=f"{verb}_run",
        summary=summary,
        tag="runs",
        handle=handle,
        scope="write",
        body=shape,
        answer=documents.Run,
        keyed=keyed,
    )


def _look(path: str, name: str, handle: Any, summary: str, query: type, answer: Any) -> Operation:
    return Operation(
        method="GET", path=path, name=name, summary=summary, tag="runs", handle=handle, query=query, answer=answer
    )


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/runs",
        name="start_run",
        summary="Start a workflow. Answered when the run is on disk.",
        tag="runs",
        handle=start,
        scope="write",
        body=draft.NewCall,
        answer=documents.Accepted,
        status=202,
        keyed=True,
    ),
    _look("/v1/runs", "list_runs", list_runs, "Runs, newest first.", ListQuery, documents.Runs),
    _look("/v1/runs/{id}", "get_run", get, "A run.", ShownQuery, documents.Run),
    _look("/v1/runs/{id}/journal", "get_journal", journal, "What a run did.", JournalQuery, documents.Steps),
    _look("/v1/runs/{id}/waits", "get_waits", waits, "What a run waits for.", Nothing, documents.Waits),
    _look(
        "/v1/runs/{id}/wait",
        "wait_for_run",
        wait,
        "The run when it is final, or as it stands after `wait`. Follows a continued run.",
        WaitQuery,
        documents.Run,
    ),
    _look(
        "/v1/runs/{id}/stream",
        "stream_run",
        stream,
        "Follow a run: `step`, `item`, `state`, `continued`, `end`. Resumes by Last-Event-ID.",
        StreamQuery,
        sse.MEDIA_TYPE,
    ),
    _change("cancel", cancel, "Cancel a run and its children.", CancelBody),
    _change("pause", pause, "Park a run until it is resumed."),
    _change("resume", resume, "Let a parked run go on."),
    _change("retry", retry, "Go on from the step that failed; finished steps stay."),
    _change("requeue", requeue, "Put a dead letter back into its mailbox."),
    _change("fork", fork, "Make a new run from the first steps of another.", ForkBody, keyed=True),
    Operation(
        method="POST",
        path="/v1/runs/{id}/signal",
        name="signal_run",
        summary="Deliver a signal. Answered when it is on disk.",
        tag="runs",
        handle=signal,
        scope="write",
        body=SignalBody,
        answer=documents.Delivered,
        status=202,
        keyed=True,
    ),
)
