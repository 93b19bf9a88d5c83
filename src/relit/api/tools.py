"""Calls to tools: what agents did, what waits for a person's word, and the word."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from relit import documents
from relit.api.operation import Call, Operation
from relit.api.runs import find
from relit.api.usage import CallsQuery
from relit.errors import Conflict, Invalid, NotFound
from relit.store.tools import ToolCall, ToolState

_RESULT_MOST = 4096  # bytes of a result in a list


class ToolsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which calls."""

    state: list[ToolState] = msgspec.field(default_factory=lambda: ["open", "in_doubt"])


class Word(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person's word on a held call. ``why`` is told to the agent: the reason when it is denied, the answer to what it
    asked (``ask_human``)."""

    approve: bool
    why: Annotated[str, Meta(max_length=8000)] = ""


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``done``: it happened, with this ``result``. Not done: it did not, so it is made again."""

    done: bool
    result: Any = None


def shown(call: ToolCall, *, whole: bool = False) -> documents.ToolCall:
    """A call as it is told."""
    result = UNSET if call.result is None or (len(call.result) > _RESULT_MOST and not whole) else call.result
    return documents.ToolCall(
        id=call.id, agent=call.agent, run=call.run or None, number=call.number, tool=call.tool, effect=call.effect,
        state=call.state, arguments=msgspec.json.decode(call.arguments), failed=call.failed, why=call.why,
        result=result if result is UNSET else msgspec.json.decode(result), started_at=call.started_at,
        ended_at=call.ended_at, expires_at=call.expires_at, decided_by=call.decided_by, source=call.source or None,
    )  # fmt: skip


def _listed(calls: list[ToolCall]) -> documents.ToolCalls:
    return documents.ToolCalls(calls=[shown(each) for each in calls])


async def approvals(call: Call) -> documents.ToolCalls:
    """Calls that wait for a person's word, oldest first."""
    return _listed(await call.store.tools.waiting(["held"]))


async def decide(call: Call) -> documents.ToolCall:
    """Allow a held call, or deny it."""
    asked: Word = call.body
    found = await _find(call)
    return shown(await call.store.tools.decide(found.id, asked.approve, call.who, asked.why))


async def waiting(call: Call) -> documents.ToolCalls:
    """Calls that are being made, or in doubt, or those asked for; ended ones are had by run or agent."""
    query: ToolsQuery = call.query
    return _listed(await call.store.tools.waiting(query.state))


async def get(call: Call) -> documents.ToolCall:
    """One call, whole."""
    return shown(await _find(call), whole=True)


async def resolve(call: Call) -> documents.ToolCall:
    """Say whether a call in doubt happened."""
    asked: Finding = call.body
    if not asked.done and asked.result is not None:
        raise Invalid("a call that did not happen has no result", fix="leave `result` out, or say `done`")
    found = await _find(call)
    said = "a person said that it happened" if asked.result is None else asked.result
    result = msgspec.json.encode(said) if asked.done else None
    return shown(await call.store.tools.resolve(found.id, call.who, result))


async def of_run(call: Call) -> documents.ToolCalls:
    """A turn's calls, in their order."""
    return _listed(await call.store.tools.of_run(await find(call)))


async def of_agent(call: Call) -> documents.ToolCalls:
    """An agent's calls, newest first."""
    query: CallsQuery = call.query
    return _listed(await call.store.tools.of_agent(call.path("name"), query.limit))


async def _find(call: Call) -> ToolCall:
    """By its id, or the beginning or end of it. Raises ``NotFound`` and ``Conflict``."""
    asked = call.path("id")
    try:
        return await call.store.tools.get(asked)
    except NotFound:
        found = await call.store.tools.find(asked) if any(char.isalnum() for char in asked) else []
        if not found:
            raise
    if len(found) > 1:
        raise Conflict(f"{asked!r} fits several calls", why=", ".join(found), fix="write more of the id")
    return await call.store.tools.get(found[0])


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/approvals",
        name="list_approvals",
        summary="Calls to tools that wait for a person's word, oldest first.",
        tag="tools",
        handle=approvals,
        answer=documents.ToolCalls,
    ),
    Operation(
        method="POST",
        path="/v1/approvals/{id}",
        name="decide_approval",
        summary="Allow a held call to a tool, or deny it.",
        tag="tools",
        handle=decide,
        scope="write",
        body=Word,
        answer=documents.ToolCall,
    ),
    Operation(
        method="GET",
        path="/v1/tools/calls",
        name="list_tool_calls",
        summary="Calls to tools that are being made, or in doubt, or those asked for.",
        tag="tools",
        handle=waiting,
        query=ToolsQuery,
        answer=documents.ToolCalls,
    ),
    Operation(
        method="GET",
        path="/v1/tools/calls/{id}",
        name="get_tool_call",
        summary="A call to a tool, whole.",
        tag="tools",
        handle=get,
        answer=documents.ToolCall,
    ),
    Operation(
        method="POST",
        path="/v1/tools/calls/{id}/resolve",
        name="resolve_tool_call",
        summary="Say whether a call in doubt happened; one that did not is made again.",
        tag="tools",
        handle=resolve,
        scope="write",
        body=Finding,
        answer=documents.ToolCall,
    ),
    Operation(
        method="GET",
        path="/v1/runs/{id}/tools",
        name="run_tool_calls",
        summary="The calls to tools that a run has made, in their order.",
        tag="tools",
        handle=of_run,
        answer=documents.ToolCalls,
    ),
    Operation(
        method="GET",
        path="/v1/agents/{name}/tools",
        name="agent_tool_calls",
        summary="An agent's calls to tools, newest first.",
        tag="tools",
        handle=of_agent,
        query=CallsQuery,
        answer=documents.ToolCalls,
    ),
)
