"""Schedules: add, change, look, pause, fire now."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from relit import documents
from relit.api import body
from relit.api.operation import Call, Operation
from relit.durable import inputs, schedule
from relit.durable.definitions import MESSAGE
from relit.durable.targets import new_run
from relit.errors import ConfigError, Conflict, Invalid, NotFound
from relit.lib.ids import derived_id
from relit.store.values import Firing, Schedule

_TRIES = 10
_SPEC = ("every", "cron", "zone", "jitter", "start", "missed", "max", "window", "overlap")
Absent = UnsetType


class ScheduleBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule: whom it starts, with what, and when (exactly one of ``every`` and ``cron``)."""

    agent: Annotated[str, Meta(min_length=1)]
    workflow: Annotated[str, Meta(min_length=1, description="A workflow to start instead of sending a message.")] = (
        MESSAGE
    )
    message: Any | Absent = UNSET
    args: list[Any] | Absent = UNSET
    kwargs: dict[str, Any] | Absent = UNSET
    every: str | Absent = UNSET
    cron: str | Absent = UNSET
    zone: str | Absent = UNSET
    jitter: str | Absent = UNSET
    start: str | Absent = UNSET
    missed: Literal["skip", "latest", "all"] | Absent = UNSET
    max: int | Absent = UNSET
    window: str | Absent = UNSET
    overlap: Literal["skip", "queue", "cancel", "allow"] | Absent = UNSET


class FiringsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 50


def spec_of(asked: ScheduleBody) -> schedule.Spec:
    """The checked spec. Raises ``Invalid``."""
    given = {name: getattr(asked, name) for name in _SPEC if getattr(asked, name) is not UNSET}
    try:
        return schedule.parse(given)
    except ConfigError as error:
        raise Invalid(error.what, why=error.why, fix=error.fix) from error


def arguments_of(asked: ScheduleBody) -> tuple[list[Any], dict[str, Any]]:
    """What its runs get. Raises ``Invalid``."""
    if asked.workflow == MESSAGE:
        if asked.message is UNSET or asked.args is not UNSET or asked.kwargs is not UNSET:
            raise Invalid("a schedule of messages needs `message`", fix="give `message`, or name a `workflow`")
        return [body.value(asked.message)], {}
    if asked.message is not UNSET:
        raise Invalid("a workflow gets `args` and `kwargs`, not `message`", fix="leave `message` or `workflow` out")
    return body.value(asked.args or []), body.value(asked.kwargs or {})


async def _find(call: Call) -> Schedule | None:
    name = call.path("name")
    return next((each for each in await call.store.schedules() if each.name == name), None)


async def _existing(call: Call) -> Schedule:
    found = await _find(call)
    if found is None:
        raise NotFound(f"there is no schedule {call.path('name')!r}", fix="relit schedule ls")
    return found


async def _show(call: Call) -> documents.Schedule:
    return await call.api.render.schedule(await _existing(call))


async def list_schedules(call: Call) -> documents.Schedules:
    """All schedules."""
    found = await call.store.schedules()
    return documents.Schedules(schedules=[await call.api.render.schedule(each) for each in found])


async def get(call: Call) -> documents.Schedule:
    """A schedule."""
    return await _show(call)


async def put(call: Call) -> documents.Schedule:
    """The same again changes nothing: what is due stays due."""
    asked: ScheduleBody = call.body
    spec, (args, kwargs) = spec_of(asked), arguments_of(asked)
    name, parts = call.path("name"), call.api.parts
    new = Schedule(
        name=name,
        agent=asked.agent,
        workflow=asked.workflow,
        input=await inputs.encode(parts.payloads, args, kwargs),
        spec=msgspec.json.encode(spec),
        next_at=schedule.next_after(spec, name, await call.store.now_ms()),
    )
    before = await _find(call)
    if before is None or not same(before, new):
        await call.store.put_schedule(new)
        if before is not None and before.paused:
            await call.store.pause_schedule(name, True, None)
    return await _show(call)


def same(one: Schedule, other: Schedule) -> bool:
    """Whether both start the same thing at the same times."""

    def parts(each: Schedule) -> tuple[Any, ...]:
        return each.agent, each.workflow, each.input, schedule.parse(each.spec)

    return parts(one) == parts(other)


async def remove(call: Call) -> None:
    """Remove it; its runs stay."""
    await call.store.remove_schedule(call.path("name"))


async def pause(call: Call) -> documents.Schedule:
    """Let it fire no more."""
    await call.store.pause_schedule(call.path("name"), True, None)
    return await _show(call)


async def resume(call: Call) -> documents.Schedule:
    """It goes on with the next moment; those of the pause are not made up for."""
    found = await _existing(call)
    if found.paused:
        now = await call.store.now_ms()
        next_at = schedule.next_after(schedule.parse(found.spec), found.name, now)
        await call.store.pause_schedule(found.name, False, next_at)
    return await _show(call)


async def trigger(call: Call) -> documents.Accepted:
    """A run now, whatever the plan and the overlap rule say; the plan stays as it is."""
    key, parts = call.idempotency_key, call.api.parts
    id = parts.ids() if key is None else derived_id("trigger", call.path("name"), key)
    if key is not None and await _has(call, id):
        return documents.Accepted(id=id, created=False)
    for _ in range(_TRIES):
        found = await _existing(call)
        firing = Firing(
            schedule=found.name,
            due_at=await call.store.now_ms(),
            outcome="fired",
            run=id,
            reason="triggered by a person",
        )
        run = new_run(f"{found.agent}/{found.workflow}", found.input, id=id, schedule=found.name)
        if await call.store.fire(found.name, found.rev, found.next_at, [firing], [run]):
            return documents.Accepted(id=id, created=True)
    raise Conflict(f"the schedule {call.path('name')!r} changes all the time", fix="try again")


async def _has(call: Call, id: str) -> bool:
    try:
        await call.store.run(id)
    except NotFound:
        return False
    return True


async def firings(call: Call) -> documents.Firings:
    """Its last firings, newest first, the missed ones too."""
    found = await _existing(call)
    listed = await call.store.firings(found.name, call.query.limit)
    return documents.Firings(
        firings=[
            documents.Firing(
                schedule=each.schedule,
                due_at=each.due_at,
                outcome=each.outcome,
                run=each.run,
                reason=each.reason,
                at=each.at,
            )
            for each in listed
        ]
    )


def _row(method: Any, rest: str, name: str, handle: Any, summary: str, **fields: Any) -> Operation:
    scope = "read" if method == "GET" else "write"
    defaults: dict[str, Any] = {"scope": scope, "answer": documents.Schedule}
    path = f"/v1/schedules{rest}"
    return Operation(
        method=method, path=path, name=name, summary=summary, tag="schedules", handle=handle, **(defaults | fields)
    )


OPERATIONS = (
    _row("GET", "", "list_schedules", list_schedules, "All schedules.", answer=documents.Schedules),
    _row("GET", "/{name}", "get_schedule", get, "A schedule."),
    _row("PUT", "/{name}", "put_schedule", put, "Add or replace a schedule.", body=ScheduleBody),
    _row("DELETE", "/{name}", "remove_schedule", remove, "Remove it; its runs stay.", answer=None, status=204),
    _row("POST", "/{name}/pause", "pause_schedule", pause, "Let it fire no more."),
    _row("POST", "/{name}/resume", "resume_schedule", resume, "Let it fire again, from its next moment on."),
    _row(
        "POST",
        "/{name}/trigger",
        "trigger_schedule",
        trigger,
        "Start its run now, besides its plan.",
        answer=documents.Accepted,
        status=202,
        keyed=True,
    ),
    _row(
        "GET",
        "/{name}/firings",
        "list_firings",
        firings,
        "Its last firings, newest first, the missed ones too.",
        query=FiringsQuery,
        answer=documents.Firings,
    ),
)
