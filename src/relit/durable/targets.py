"""What a caller names when it starts or sends: a workflow, an agent, or ``"agent/workflow"``; made into a new run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from relit.durable.definitions import MESSAGE, Agent, Workflow
from relit.errors import Conflict
from relit.lib.durations import Duration, to_ms
from relit.store.values import NewRun

Target = str | Workflow[Any] | Agent[Any]


def split(target: Target) -> tuple[str, str]:
    """Agent and workflow of a target. A bare name is an agent: its message handler."""
    if isinstance(target, Workflow):
        return target.agent, target.name
    if isinstance(target, Agent):
        return target.name, MESSAGE
    agent, _, name = target.partition("/")
    if not agent or "/" in name:
        raise Conflict(f"{target!r} names no workflow", why="a target is written agent/workflow", fix="relit ps")
    return agent, name or MESSAGE


def definition(target: Target) -> Workflow[Any] | None:
    """The workflow behind a target, when the caller has it at hand."""
    if isinstance(target, Agent):
        return target.handler
    return target if isinstance(target, Workflow) else None


def new_run(
    target: Target,
    input: bytes,
    *,
    id: str,
    mailbox: str | None = None,
    key: str | None = None,
    priority: int = 50,
    delay: Duration | None = None,
    at: datetime | int | None = None,
    expire: Duration | None = None,
    timeout: Duration | None = None,
    attempts: int | None = None,
    dedup: str | None = None,
    dedup_window: Duration | None = None,
    parent: str | None = None,
    parent_pos: str | None = None,
    schedule: str | None = None,
) -> NewRun:
    """The run that a call of ``target`` makes. A message goes into its agent's mailbox; a call waits for nobody."""
    agent, name = split(target)
    known = definition(target)
    message = name == MESSAGE
    timeout_ms = to_ms(timeout) if timeout is not None else (known.timeout_ms if known is not None else None)
    return NewRun(
        id=id,
        agent=agent,
        workflow=name,
        input=input,
        kind="schedule" if schedule is not None else ("message" if message else "call"),
        mailbox=mailbox if mailbox is not None else (agent if message else None),
        key=key,
        priority=priority,
        delay_ms=0 if delay is None else to_ms(delay),
        at=moment(at),
        expire_ms=None if expire is None else to_ms(expire),
        timeout_ms=timeout_ms,
        max_attempts=attempts or 0,  # 0: as its definition says, which the caller may not have at hand
        dedup=dedup,
        dedup_ms=86_400_000 if dedup_window is None else to_ms(dedup_window),
        parent=parent,
        parent_pos=parent_pos,
        schedule=schedule,
    )


def moment(at: datetime | int | None) -> int | None:
    """A moment as ms since 1970. A ``datetime`` needs a time zone: without one it means something else elsewhere."""
    if not isinstance(at, datetime):
        return at
    if at.tzinfo is None:
        raise Conflict(f"{at} has no time zone", why="it would mean another moment on another machine", fix="add one")
    return round(at.timestamp() * 1000)
