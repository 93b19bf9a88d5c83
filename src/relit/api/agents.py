"""Agents: what is known of them, and messages in. A message is answered when it is on disk, not before."""

from __future__ import annotations

from relit import documents
from relit.api import body, draft
from relit.api.operation import Call, Operation
from relit.api.render import mailbox
from relit.durable.definitions import MESSAGE
from relit.errors import Invalid, NotFound
from relit.store.values import NewRun

_MOST = 1000


async def _messages(call: Call) -> tuple[list[draft.NewMessage], bool]:
    """The messages of a body, and whether it was a list."""
    if call.body.lstrip()[:1] != b"[":
        return [body.parse(call.body, draft.NewMessage)], False
    many = body.parse(call.body, list[draft.NewMessage])
    if not 0 < len(many) <= _MOST:
        raise Invalid(f"a batch has 1 to {_MOST} messages; this one has {len(many)}", fix="send several batches")
    return many, True


def _key(key: str | None, index: int, many: bool) -> str | None:
    return f"{key}:{index}" if key is not None and many else key


async def send(call: Call) -> documents.Accepted | list[documents.Accepted]:
    """Send a message, or a list of them in one commit. Answered when they are on disk."""
    agent = call.path("name")
    messages, many = await _messages(call)
    _, note = await call.api.targets.find(f"{agent}/{MESSAGE}", any(message.force for message in messages))
    key = call.idempotency_key
    runs: list[NewRun] = [
        await draft.message(call.api.parts, agent, message, _key(key, index, many))
        for index, message in enumerate(messages)
    ]
    made = await call.store.enqueue(runs)
    accepted = [documents.Accepted(id=each.id, created=each.created, note=note) for each in made]
    return accepted if many else accepted[0]


async def _agents(call: Call) -> dict[str, documents.Agent]:
    agents: dict[str, documents.Agent] = {}

    def of(name: str) -> documents.Agent:
        return agents.setdefault(name, documents.Agent(name=name, targets=[], workers=0, runs={}))

    for worker in await call.store.workers():
        for target in worker.targets:
            agent = of(target.partition("/")[0])
            agent.targets = sorted({*agent.targets, target})
        for name in {target.partition("/")[0] for target in worker.targets}:
            of(name).workers += 1
    for (target, state), count in (await call.store.counts()).items():
        runs = of(target.partition("/")[0]).runs
        runs[state] = runs.get(state, 0) + count
    for stats in await call.store.mailboxes():
        of(stats.mailbox.name).mailbox = mailbox(stats)
    return agents


async def list_agents(call: Call) -> documents.Agents:
    """All agents, their workers, runs and mailboxes."""
    agents = await _agents(call)
    return documents.Agents(agents=[agents[name] for name in sorted(agents)])


async def get(call: Call) -> documents.Agent:
    """An agent."""
    name = call.path("name")
    agent = (await _agents(call)).get(name)
    if agent is None:
        raise NotFound(f"there is no agent {name!r}", why="no worker, message or run of it was ever seen")
    return agent


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/agents",
        name="list_agents",
        summary="All agents, their workers, runs and mailboxes.",
        tag="agents",
        handle=list_agents,
        answer=documents.Agents,
    ),
    Operation(
        method="GET",
        path="/v1/agents/{name}",
        name="get_agent",
        summary="An agent.",
        tag="agents",
        handle=get,
        answer=documents.Agent,
    ),
    Operation(
        method="POST",
        path="/v1/agents/{name}/messages",
        name="send_messages",
        summary="Send a message, or a list of them in one commit. Answered when they are on disk.",
        tag="agents",
        handle=send,
        scope="write",
        body=bytes,
        takes=draft.NewMessage | list[draft.NewMessage],
        answer=documents.Accepted | list[documents.Accepted],
        status=202,
        keyed=True,
    ),
)
