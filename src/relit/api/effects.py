"""Effects: what may or may not have happened, and a person's word on it."""

from __future__ import annotations

from typing import Any

import msgspec

from relit import documents
from relit.api import body, tools
from relit.api.operation import Call, Operation
from relit.api.runs import ShownField
from relit.errors import Invalid
from relit.store.tools import ToolCall, ToolState
from relit.store.values import EffectState


class EffectsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which effects."""

    run: str | None = None
    state: list[EffectState] = msgspec.field(default_factory=lambda: ["open", "in_doubt"])
    payloads: ShownField = "short"


class ResolveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``done``: it happened, with this ``result``. Not done: it did not, so it is done again."""

    run: str
    pos: str
    done: bool
    result: Any = None


async def list_effects(call: Call) -> documents.Effects:
    """Effects that are open or in doubt, or those asked for."""
    query: EffectsQuery = call.query
    found = await call.store.effects(run=query.run, states=query.state)
    return documents.Effects(
        effects=[await call.api.render.effect(effect, query.payloads) for effect in found],
        tools=[tools.shown(each) for each in await _tools(call, query)],
    )


async def _tools(call: Call, query: EffectsQuery) -> list[ToolCall]:
    """Reading is no effect, and a replayed call is another one's."""
    if query.run is None:
        states: tuple[ToolState, ...] = ("open", "in_doubt")
        wanted = [each for each in states if each in query.state]
        found = await call.store.tools.waiting(wanted)
    else:
        found = [each for each in await call.store.tools.of_run(query.run) if each.state in query.state]
    return [each for each in found if each.effect != "read"]


async def resolve(call: Call) -> documents.Run:
    """Say whether an effect in doubt happened; its run goes on."""
    asked: ResolveBody = call.body
    if not asked.done and asked.result is not None:
        raise Invalid("an effect that did not happen has no result", fix="leave `result` out, or say `done`")
    result = await call.api.parts.payloads.encode(body.value(asked.result)) if asked.done else None
    return await call.api.render.run(await call.store.resolve(asked.run, asked.pos, result))


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/effects",
        name="list_effects",
        summary="Effects that are open or in doubt, or those asked for.",
        tag="effects",
        handle=list_effects,
        query=EffectsQuery,
        answer=documents.Effects,
    ),
    Operation(
        method="POST",
        path="/v1/effects/resolve",
        name="resolve_effect",
        summary="Say whether an effect in doubt happened; its run goes on.",
        tag="effects",
        handle=resolve,
        scope="write",
        body=ResolveBody,
        answer=documents.Run,
    ),
)
