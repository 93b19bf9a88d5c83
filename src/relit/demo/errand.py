"""An agent that relit did not write is killed in the middle of a turn, after it has sent a message: what is bought
again, and how often the message arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from relit.client import Client
from relit.demo import processes
from relit.demo.breakdown import ready
from relit.demo.configuration import MESSENGER
from relit.demo.figures import Errand
from relit.demo.installation import Installation
from relit.demo.messenger import CLOSE
from relit.demo.model import ScriptedModel
from relit.demo.sink import Sink
from relit.lib.clock import SYSTEM_CLOCK

_PATIENCE_S = 60
_LOOK_S = 0.02
_THINKS_S = 1.5


class Errands:
    """The messenger's own model, and whom it writes to."""

    def __init__(self) -> None:
        self.model = ScriptedModel(_words, seconds=_THINKS_S)
        self.sink = Sink()

    async def happen(self, house: Installation, client: Client, tell: Callable[[float, str], None]) -> Errand | None:
        """Send it, kill it, and see what becomes of the turn; ``None`` when it does not end. ``tell``: (monotonic s,
        what)."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._happen(house, client, tell)
        except TimeoutError:
            tell(SYSTEM_CLOCK.monotonic(), f"the {MESSENGER}'s turn has not ended after {_PATIENCE_S} s")
            return None

    async def _happen(self, house: Installation, client: Client, tell: Callable[[float, str], None]) -> Errand:
        pid = await ready(house, MESSENGER)
        sent = await client.send(MESSENGER, "The audit is done: tell its owner.")
        while sum(self.model.calls.values()) < 2:  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(_LOOK_S)
        at = SYSTEM_CLOCK.monotonic()
        processes.kill(pid)
        tell(at, f"killed the {MESSENGER} (pid {pid}): its message is sent, its model is answering")
        said = await client.result(sent.id, type=str)
        now = SYSTEM_CLOCK.monotonic()
        tell(now, f"the {MESSENGER} finished its turn, {now - at:.1f} s after its death")
        calls, tools = await client.run_calls(sent.id), await client.tools.of_run(sent.id)
        return Errand(
            bought=sum(self.model.calls.values()),
            replayed=[each.state for each in calls].count("replayed")
            + [each.state for each in tools].count("replayed"),
            arrived=len(self.sink.effective),
            answered=said == _words({"messages": [{"content": CLOSE}]}),
            seconds=now - at,
        )


def _words(request: dict[str, Any]) -> str:
    last = str(request["messages"][-1]["content"])
    return "Your owner knows." if last == CLOSE else "The audit is done; the findings are in your inbox."
