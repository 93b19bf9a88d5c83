"""Tools of relit's own that need nothing but the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relit.errors import NotFound
from relit.gateway.tools import results
from relit.gateway.tools.base import NotSent, Outcome, Tool, schema, text
from relit.gateway.tools.guard import Foreign
from relit.gateway.tools.results import READ, Blobs
from relit.store.tools import ToolCall, ToolCalls

_PIECE = 32 << 10  # characters


class OwnTools:
    """``read_result``: the rest of a result that was too long."""

    def __init__(self, calls: ToolCalls, blobs: Blobs) -> None:
        self._calls = calls
        self._blobs = blobs

    @property
    def tools(self) -> Sequence[Tool]:
        return [_READ_RESULT]

    async def send(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        try:
            asked = await self._calls.get(arguments["call"])
        except NotFound as error:
            raise NotSent(error.what) from error
        if asked.agent != call.agent:
            raise Foreign(f"there is no call {arguments['call']!r} with a result")
        if not asked.final:
            raise NotSent(f"there is no call {arguments['call']!r} with a result")
        whole = await results.whole(asked, self._blobs)
        return text(results.piece(whole, arguments.get("offset", 0), _PIECE))

    async def stop(self) -> None:
        """There is nothing to let go of."""

    async def clear(self, call: ToolCall) -> Outcome | None:
        return None

    async def look(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome | None:
        raise AssertionError("nothing here changes the world")


_READ_RESULT = Tool(
    name=READ,
    description="The rest of a tool's result that was too long to be given at once.",
    schema=schema(
        ["call"],
        call={"type": "string", "description": "The call's id, as its result says it."},
        offset={"type": "integer", "minimum": 0, "description": "From which character on."},
    ),
    effect="read",
    most=2 * _PIECE,
)
