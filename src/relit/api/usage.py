"""What agents have used of models, and what it cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from relit import documents
from relit.api.operation import Call, Operation
from relit.api.runs import find
from relit.documents.usage import dollars
from relit.store.values import ModelCall


class UsageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Since when, and whose."""

    days: Annotated[int, Meta(ge=1, le=3660)] = 7
    agent: str | None = None


class CallsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


async def usage(call: Call) -> documents.UsageReport:
    """Sums by day, agent, route and model."""
    query: UsageQuery = call.query
    today = datetime.fromtimestamp(await call.store.now_ms() / 1000, UTC).date()
    since = (today - timedelta(days=query.days - 1)).isoformat()
    found = [each for each in await call.store.calls.usage(since) if query.agent in (None, each.agent)]
    budgets = await call.store.calls.spending(today.isoformat())
    return documents.UsageReport(
        usage=[documents.UsageSum(**{**msgspec.structs.asdict(each), "cost": dollars(each.cost)}) for each in found],
        budgets=[
            documents.BudgetState(
                scope=each.scope, day=each.day, spent=dollars(each.spent), reserved=dollars(each.reserved)
            )
            for each in budgets
        ],
    )


async def of_run(call: Call) -> documents.ModelCalls:
    """A turn's calls, in their order."""
    found = await call.store.calls.of_run(await find(call))
    return documents.ModelCalls(calls=[shown(each) for each in found])


async def of_agent(call: Call) -> documents.ModelCalls:
    """An agent's calls, newest first."""
    query: CallsQuery = call.query
    found = await call.store.calls.of_agent(call.path("name"), query.limit)
    return documents.ModelCalls(calls=[shown(each) for each in found])


def shown(each: ModelCall) -> documents.ModelCall:
    """A call as it is told."""
    return documents.ModelCall(
        id=each.id, agent=each.agent, run=each.run or None, number=each.number, route=each.route,
        protocol=each.protocol, model=each.model, state=each.state, status=each.status, why=each.why,
        started_at=each.started_at, ended_at=each.ended_at, input=each.input, output=each.output, cached=each.cached,
        written=each.written, estimated=each.estimated, cost=dollars(each.cost),
        source=each.source or None, saved=dollars(each.saved),
    )  # fmt: skip


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/usage",
        name="usage",
        summary="What agents have used of models, by day (UTC), and today's budgets.",
        tag="usage",
        handle=usage,
        query=UsageQuery,
        answer=documents.UsageReport,
    ),
    Operation(
        method="GET",
        path="/v1/runs/{id}/calls",
        name="run_calls",
        summary="The calls to models that a run has made, in their order.",
        tag="usage",
        handle=of_run,
        answer=documents.ModelCalls,
    ),
    Operation(
        method="GET",
        path="/v1/agents/{name}/calls",
        name="agent_calls",
        summary="An agent's calls to models, newest first.",
        tag="usage",
        handle=of_agent,
        query=CallsQuery,
        answer=documents.ModelCalls,
    ),
)
