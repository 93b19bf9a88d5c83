"""Puts what relit.toml declares into the store: mailboxes, schedules, outgoing webhooks."""

from __future__ import annotations

import msgspec

from relit.durable import schedule
from relit.durable.definitions import MESSAGE
from relit.durable.engine import Engine
from relit.settings import Settings
from relit.settings.model import Agent
from relit.settings.model import Mailbox as MailboxTable
from relit.settings.model import Schedule as ScheduleTable
from relit.store.values import Mailbox, Schedule, Subscriber

_SEPARATOR = "."


async def declare(engine: Engine, settings: Settings) -> None:
    """Make the store say what relit.toml says. What people added by command stays."""
    for name, agent in settings.agents.items():
        if (box := mailbox(name, agent)) is not None:
            await engine.store.configure_mailbox(box)
    await _schedules(engine, settings)
    await _subscribers(engine, settings)


def mailbox(name: str, agent: Agent) -> Mailbox | None:
    """The mailbox that relit.toml wants for an agent; None when it says nothing (then its code decides)."""
    table = agent.mailbox
    if table == MailboxTable():
        return None
    return Mailbox(
        name=name,
        concurrency=table.concurrency,
        key_concurrency=table.key_concurrency,
        depth=table.depth,
        rate=table.rate,
        burst=table.burst,
    )


async def _schedules(engine: Engine, settings: Settings) -> None:
    known = {row.name: row for row in await engine.store.schedules()}
    wanted: dict[str, Schedule] = {}
    for agent, table in settings.agents.items():
        for label, entry in table.schedules.items():
            made = await _schedule(engine, agent, label, entry)
            wanted[made.name] = made
    for name, made in wanted.items():
        old = known.get(name)
        if old is None or (old.spec, old.input, old.agent, old.workflow) != (
            made.spec, made.input, made.agent, made.workflow
        ):  # fmt: skip
            await engine.store.put_schedule(made)
    for name in known.keys() - wanted.keys():
        # AGENT.NAME is how relit.toml's schedules are called: one that is gone from there ends.
        if name.partition(_SEPARATOR)[0] in settings.agents and _SEPARATOR in name:
            await engine.store.remove_schedule(name)


async def _schedule(engine: Engine, agent: str, label: str, table: ScheduleTable) -> Schedule:
    name = f"{agent}{_SEPARATOR}{label}"
    spec = schedule.Spec(
        every=table.every,
        cron=table.cron,
        zone=table.zone,
        jitter=table.jitter,
        missed=table.missed,
        max=table.max,
        window=table.window,
        overlap=table.overlap,
    )
    schedule.check(spec)
    args = [] if table.message is None else [table.message]
    return Schedule(
        name=name,
        agent=agent,
        workflow=table.workflow or MESSAGE,
        input=await engine.payloads.encode({"args": args, "kwargs": {}}),
        spec=msgspec.json.encode(spec),
        next_at=schedule.next_after(spec, name, await engine.store.now_ms()),
    )


async def _subscribers(engine: Engine, settings: Settings) -> None:
    secrets = settings.secrets
    known = {each.name: each for each in await engine.store.subscribers()}
    for name, table in settings.subscribers.items():
        secrets.reveal(table.secret)  # one that is not set is told now; the row keeps only its name
        wanted = Subscriber(name=name, url=table.url, events=table.events or ["*"], secret=table.secret)
        old = known.get(name)
        if old is None:
            wanted = msgspec.structs.replace(wanted, cursor=await engine.store.last_event())
        elif (old.url, old.events, old.secret) == (wanted.url, wanted.events, wanted.secret):
            continue
        else:
            wanted = msgspec.structs.replace(wanted, cursor=old.cursor)
        await engine.store.put_subscriber(wanted)
