"""Rows to values: column lists stand beside the structs they fill."""

from __future__ import annotations

from typing import Any

import msgspec

from relit.events import Event
from relit.store.gate import Box
from relit.store.tools import ToolCall
from relit.store.values import (
    Alert,
    Audited,
    Effect,
    Firing,
    Footprint,
    Incident,
    Lock,
    Mailbox,
    MailboxStats,
    ModelCall,
    Run,
    Schedule,
    Secret,
    Signal,
    Spending,
    Step,
    StreamItem,
    Subscriber,
    Token,
    Usage,
    Wait,
)

RUN_COLUMNS = Run.__struct_fields__
INCIDENT_COLUMNS = [name.replace("group", "cause_group") for name in Incident.__struct_fields__]  # a word of SQL's
COLUMNS = {
    "RUN": ", ".join(RUN_COLUMNS),
    "INCIDENT": ", ".join(INCIDENT_COLUMNS),
    "TROUBLE": ", ".join(INCIDENT_COLUMNS[:-1]),  # without its document
    "ALERT": ", ".join(Alert.__struct_fields__),
    "CALL": ", ".join(ModelCall.__struct_fields__),
    "TOOL": ", ".join(ToolCall.__struct_fields__),
    "SPENDING": ", ".join(Spending.__struct_fields__),
    "USAGE": ", ".join(Usage.__struct_fields__),
    "LOCK": ", ".join(Lock.__struct_fields__),
    "SECRET": ", ".join(Secret.__struct_fields__),
    "AUDITED": ", ".join(Audited.__struct_fields__),
}


def run(row: tuple[Any, ...]) -> Run:
    return Run(**dict(zip(RUN_COLUMNS, row, strict=True)))


def step(row: tuple[Any, ...]) -> Step:
    return Step(
        seq=row[0], pos=row[1], kind=row[2], name=row[3], hash=row[4], result=row[5], error=row[6],
        started_at=row[7], finished_at=row[8], attempts=row[9],
    )  # fmt: skip


def wait(row: tuple[Any, ...]) -> Wait:
    return Wait(pos=row[0], kind=row[1], name=row[2], wake_at=row[3], data=row[4])


def signal(row: tuple[Any, ...]) -> Signal:
    return Signal(id=row[0], run=row[1], name=row[2], payload=row[3], at=row[4])


def effect(row: tuple[Any, ...]) -> Effect:
    return Effect(
        run=row[0], pos=row[1], name=row[2], doubt=row[3], key=row[4], state=row[5], hash=row[6], request=row[7],
        intent_at=row[8], deadline_at=row[9], result=row[10],
    )  # fmt: skip


def stream_item(row: tuple[Any, ...]) -> StreamItem:
    return StreamItem(idx=row[0], pos=row[1], attempt=row[2], data=row[3], at=row[4])


def schedule(row: tuple[Any, ...]) -> Schedule:
    return Schedule(
        name=row[0], agent=row[1], workflow=row[2], input=row[3], spec=row[4], paused=bool(row[5]), next_at=row[6],
        last_at=row[7], rev=row[8],
    )  # fmt: skip


def firing(row: tuple[Any, ...]) -> Firing:
    return Firing(schedule=row[0], due_at=row[1], outcome=row[2], run=row[3], reason=row[4], at=row[5])


def box(row: tuple[Any, ...]) -> Box:
    name, concurrency, key_concurrency, depth, rate, burst, paused, tokens, refilled_at, queued, active = row
    return Box(
        name, concurrency, key_concurrency, depth, rate, burst, bool(paused), tokens, refilled_at, queued, active
    )


def mailbox_stats(row: tuple[Any, ...]) -> MailboxStats:
    mailbox = Mailbox(
        name=row[0], concurrency=row[1], key_concurrency=row[2], depth=row[3], rate=row[4], burst=row[5],
        paused=bool(row[6]),
    )  # fmt: skip
    return MailboxStats(mailbox=mailbox, queued=row[7], active=row[8], parked=row[9], dead=row[10], oldest_at=row[11])


def event(row: tuple[Any, ...]) -> Event:
    return Event(row[0], row[1], row[2], row[3], row[4], msgspec.msgpack.decode(row[5]))


def token(row: tuple[Any, ...]) -> Token:
    return Token(name=row[0], hash=row[1], scopes=row[2].split(), created_at=row[3], last_used_at=row[4])


def footprint(row: tuple[Any, ...]) -> Footprint:
    return Footprint(what=row[0], peak=row[1], settled=row[2], cpu_s=row[3], seen=row[4])


def subscriber(row: tuple[Any, ...]) -> Subscriber:
    return Subscriber(
        name=row[0], url=row[1], events=row[2].split(), secret=row[3], cursor=row[4], failures=row[5], retry_at=row[6]
    )


def incident(row: tuple[Any, ...]) -> Incident:
    return Incident(**dict(zip(Incident.__struct_fields__, row, strict=True)))


def trouble(row: tuple[Any, ...]) -> Incident:
    return incident((*row, b""))


def alert(row: tuple[Any, ...]) -> Alert:
    fields = dict(zip(Alert.__struct_fields__, row, strict=True))
    return Alert(**fields | {"members": fields["members"].split(), "closed": bool(fields["closed"])})
