"""relit keeps AI agents running for weeks: durable workflows, effects done once, agents that come back.

    import relit

    @relit.workflow
    async def audit(ctx: relit.Context, name: str) -> str:
        text = await ctx.step(read_licence, name)
        await ctx.effect(notify, text, doubt="key")
        return text

What is exported here is imported at its first use, so that ``import relit`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relit import errors as errors
    from relit.app.connect import connect as connect
    from relit.client import Client as Client
    from relit.durable.context import Context as Context
    from relit.durable.decorators import effect as effect
    from relit.durable.decorators import step as step
    from relit.durable.decorators import tool as tool
    from relit.durable.definitions import Agent as Agent
    from relit.durable.definitions import Workflow as Workflow
    from relit.durable.definitions import agent as agent
    from relit.durable.definitions import workflow as workflow
    from relit.durable.retry import Retry as Retry
    from relit.durable.scope import heartbeat as heartbeat
    from relit.store.values import Mailbox as Mailbox

_HOMES = {
    "Agent": "relit.durable.definitions",
    "Client": "relit.client",
    "Context": "relit.durable.context",
    "Mailbox": "relit.store.values",
    "Retry": "relit.durable.retry",
    "Workflow": "relit.durable.definitions",
    "agent": "relit.durable.definitions",
    "connect": "relit.app.connect",
    "effect": "relit.durable.decorators",
    "heartbeat": "relit.durable.scope",
    "step": "relit.durable.decorators",
    "tool": "relit.durable.decorators",
    "workflow": "relit.durable.definitions",
}

__all__ = [
    "Agent",
    "Client",
    "Context",
    "Mailbox",
    "Retry",
    "Workflow",
    "agent",
    "connect",
    "effect",
    "errors",
    "heartbeat",
    "step",
    "tool",
    "workflow",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("relit.errors")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'relit' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
