"""Tools that are Python functions (``@relit.tool``): durable runs in a process of their own.

The gateway knows them by a description that it asks another process for: it loads no code of anybody's.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Sequence
from typing import Any

import msgspec

from relit.durable.engine import Engine
from relit.errors import RelitError, RunCancelled, RunFailed, RunTimeout
from relit.gateway.tools import results
from relit.gateway.tools.base import NotSent, Outcome, Tool, Unsure, text
from relit.lib import durations
from relit.lib.ids import derived_id
from relit.settings import Settings
from relit.settings.tools import Tool as Table
from relit.store.tools import ToolCall

_LOG = logging.getLogger(__name__)
AGENT = "relit-tools"  # whose workflows they are
_LOAD_S = 60


class Described(msgspec.Struct, frozen=True):
    """What an agent is told of a function. ``writes``: it changes the world."""

    description: str
    schema: dict[str, Any]
    writes: bool


class FunctionTools:
    """Their calls, as runs with an id of the call's: however often one is sent, it is one run. ``secrets``: what is
    written down nowhere, so not as a run's input either."""

    def __init__(
        self, settings: Settings, engine: Engine, described: dict[str, Described], secrets: Sequence[bytes] = ()
    ) -> None:
        self._secrets = secrets
        self._engine = engine
        kept_ms = settings.file.retention.runs_ms
        self._tools = [_tool(name, settings.tools[name], each, kept_ms) for name, each in described.items()]

    @property
    def tools(self) -> Sequence[Tool]:
        return self._tools

    async def stop(self) -> None:
        """Nothing is kept between calls."""

    async def clear(self, call: ToolCall) -> Outcome | None:
        return None

    async def look(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome | None:
        raise AssertionError("none of these is looked up: the run itself knows")

    async def send(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        if results.holds(arguments, self._secrets):
            raise NotSent("its arguments hold a secret, which would be written down: let it find that by itself")
        run = await self._engine.start(f"{AGENT}/{call.tool}", [arguments], id=derived_id("tool.run", call.key))
        try:
            found = await self._engine.result(run)
        except (RunFailed, RunCancelled, RunTimeout) as error:
            return text(f"{error.what}: {error.why}", failed=True)
        except RelitError as error:  # it has begun
            raise Unsure(str(error)) from error
        return text(found if isinstance(found, str) else msgspec.json.encode(found).decode())


def _tool(name: str, table: Table, each: Described, kept_ms: int) -> Tool:
    return Tool(
        name=name, description=each.description, schema={**each.schema, "additionalProperties": False},
        effect="native-key" if each.writes else "read", policy=table.policy, same=tuple(table.same),
        timeout=durations.to_ms(table.timeout) / 1000, most=durations.to_bytes(table.max_result),
        key_ms=kept_ms,
    )  # fmt: skip


async def described(settings: Settings, argv: Sequence[str]) -> dict[str, Described]:
    """What a process says that loads them. Those of a module that does not load are not offered, and that is said."""
    if not any(table.function for table in settings.tools.values()):
        return {}
    child = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        async with asyncio.timeout(_LOAD_S):
            out, err = await child.communicate()
        if child.returncode != 0:
            _LOG.error("tools that are functions are not offered: %s", err.decode(errors="replace")[-2000:])
            return {}
        return msgspec.json.decode(out, type=dict[str, Described])
    except TimeoutError:
        child.kill()
        await child.wait()
        _LOG.error("tools that are functions are not offered: loading them took more than %d s", _LOAD_S)
        return {}
