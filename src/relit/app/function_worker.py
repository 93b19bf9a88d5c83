"""The process in which tools that are Python functions run. A module of its own: the gateway, which sends them their
calls, loads neither code of anybody's nor what a worker needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from relit.app.functions import AGENT, Described
from relit.app.modules import named
from relit.app.work import work
from relit.durable.context import Context
from relit.durable.definitions import Workflow
from relit.durable.functions import Tool as Function
from relit.durable.functions import type_hints
from relit.errors import ConfigError
from relit.settings import Settings


def load(settings: Settings) -> dict[str, Function[..., Any]]:
    """All of relit.toml, by their tools' names. Raises ``ConfigError``."""
    found = {}
    for name, table in settings.tools.items():
        if table.function is None:
            continue
        made = named(table.function, settings.folder)
        if not isinstance(made, Function):
            raise ConfigError(
                f"[tools.{name}]: {table.function} is no tool", why="it is not decorated with @relit.tool",
                fix="decorate the function with @relit.tool",
            )  # fmt: skip
        found[name] = made
    return found


def describe(settings: Settings) -> bytes:
    """JSON of what agents are told, by name. Raises ``ConfigError``."""
    return msgspec.json.encode(
        {
            name: Described(settings.tools[name].description or each.description, each.schema, each.effect is not None)
            for name, each in load(settings).items()
        }
    )


async def serve(settings: Settings, began: Callable[[list[str]], None]) -> None:
    """Carry calls out until a signal comes."""
    found = [_workflow(name, each) for name, each in load(settings).items()]
    await work(settings, lambda engine: found, began=began)


def _workflow(name: str, tool: Function[..., Any]) -> Workflow[Any]:
    hints = type_hints(tool.fn)

    async def run(ctx: Context, arguments: dict[str, Any]) -> Any:
        given = {key: msgspec.convert(value, hints.get(key, Any)) for key, value in arguments.items()}
        if tool.effect is None:
            return await ctx.step(tool.fn, **given, name=name)
        return await ctx.effect(tool.fn, **given, name=name, doubt=tool.effect)

    return Workflow(run, name=name, agent=AGENT)
