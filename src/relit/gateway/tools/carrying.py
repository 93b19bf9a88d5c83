"""One call to a tool, from its intent to its receipt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from relit.errors import RelitError, StoreError
from relit.gateway.tools import results, settling
from relit.gateway.tools.base import NotSent, Outcome, Source, Tool, Unsure, text
from relit.gateway.tools.guard import Forbidden
from relit.gateway.tools.results import Blobs
from relit.gateway.tools.settling import Again, End, Look, Move
from relit.lib import crashpoints
from relit.lib.clock import Clock
from relit.store.tools import ToolCall, ToolCalls, ToolEnd
from relit.vault.refusals import OnRefusal

T = TypeVar("T")
AWAY_S = 2.0  # between attempts to write down what the store does not take
POINTS = ("tool.before", "tool.after", "tool.receipt")
_LOG = logging.getLogger(__name__)


@dataclass
class Trip:
    """One call on its way. ``attempt``: the newest. ``until``: when the first one can certainly have no further effect
    (ms), where that is on disk; 0: it is not."""

    call: ToolCall
    tool: Tool
    source: Source
    arguments: dict[str, Any]
    attempt: int = 0
    until: int = 0


class Carrier:
    """Carries calls out, whose intents are on disk, and writes down what came of them. ``secrets``: what no result may
    show, in every way in which it may be written. ``refused`` hears of those to where none may go."""

    def __init__(
        self, calls: ToolCalls, blobs: Blobs, clock: Clock, secrets: tuple[bytes, ...], refused: OnRefusal
    ) -> None:
        self._calls = calls
        self._blobs = blobs
        self._clock = clock
        self._secrets = secrets
        self._refused = refused

    async def carry(self, call: ToolCall, tool: Tool, source: Source, *, doubtful: bool = False) -> ToolCall:
        """Make it, and say how it ended. ``doubtful``: an earlier attempt may have happened."""
        until = 0 if doubtful else call.deadline_at or 0
        trip = Trip(call, tool, source, msgspec.json.decode(call.arguments), until=until)
        found: Outcome | Move = Again(0.0)
        if doubtful and call.effect == "lookup":
            found = Look(max(0.0, ((call.deadline_at or 0) - self._clock.now_ms()) / 1000))
        while True:
            match found:
                case Again(seconds):
                    await asyncio.sleep(seconds)
                    found = await self._attempt(trip)
                case Look(seconds):
                    await asyncio.sleep(seconds)
                    found = await self._look(trip)
                case End(state, why):
                    end = await self._given_up(call, state, why)
                    return await self._surely(self._calls.end, end)
                case Outcome():
                    receipt = await self._receipt(call, found)
                    return await self._surely(self._calls.end, receipt)

    async def settle(self, call: ToolCall, outcome: Outcome) -> ToolCall:
        """Write down what came of a call that another gateway made."""
        return await self._calls.end(await self._receipt(call, outcome))

    async def _attempt(self, trip: Trip) -> Outcome | Move:
        """An outcome, or what is to be done next."""
        trip.attempt += 1
        until = await self._until(trip)
        crashpoints.point("tool.before")
        try:
            async with asyncio.timeout((until - self._clock.now_ms()) / 1000):
                outcome = await trip.source.send(trip.call, trip.arguments)
        except NotSent as error:
            if isinstance(error, Forbidden):
                self._refused(trip.call.agent, error.code, f"{trip.tool.name}: {error.told}")
            return settling.not_sent(str(error), trip.attempt, retry=error.retry, told=error.after)
        except (Unsure, TimeoutError) as error:
            why = str(error) or f"no answer in {trip.tool.timeout:g} s"
        except Exception as error:  # noqa: BLE001 - a tool may raise anything: then nobody knows
            _LOG.warning("the tool %s failed: %r", trip.tool.name, error)
            why = f"{type(error).__name__}: {error}"
        else:
            crashpoints.point("tool.after")
            return outcome
        return settling.unsure(why, trip.call.effect, trip.attempt, (until - self._clock.now_ms()) / 1000)

    async def _until(self, trip: Trip) -> int:
        """The end of this attempt. The next gateway, which may look for what it did, does so after that: it is on
        disk before."""
        now, until = self._clock.now_ms(), trip.until
        if trip.attempt == 1 and until > now:
            return until
        until = now + round(trip.tool.timeout * 1000)
        if trip.call.effect == "lookup":
            await self._surely(self._calls.again, trip.call.id, until)
        return until

    async def _surely(self, write: Callable[..., Awaitable[T]], *what: Any) -> T:
        """Written down, as soon as the store is there: what happened is not forgotten."""
        while True:
            try:
                return await write(*what)
            except StoreError as error:
                _LOG.warning("a call to a tool cannot be written down now: %s", error)
                await asyncio.sleep(AWAY_S)

    async def _look(self, trip: Trip) -> Outcome | Move:
        try:
            async with asyncio.timeout(trip.tool.timeout):
                found = await trip.source.look(trip.call, trip.arguments)
        except Exception as error:  # noqa: BLE001 - a look-up may raise anything: then nobody knows
            return End("in_doubt", f"the look-up failed: {error or type(error).__name__}")
        return settling.absent(trip.attempt) if found is None else found

    async def _receipt(self, call: ToolCall, outcome: Outcome) -> ToolEnd:
        outcome = results.hidden(outcome, self._secrets)
        try:
            inline, blob = await results.keep(outcome, self._blobs)
        except RelitError as error:  # it happened: that much is said
            _LOG.warning("the result of %s is not kept whole: %s", call.tool, error)
            outcome = results.trimmed(outcome, call.id, results.INLINE // 8)
            inline, blob = msgspec.json.encode(outcome.content), None
        crashpoints.point("tool.receipt")
        return ToolEnd(id=call.id, state="done", result=inline, blob=blob, failed=outcome.failed)

    async def _given_up(self, call: ToolCall, state: Literal["failed", "in_doubt"], why: str) -> ToolEnd:
        told = results.hidden(text(why[:2000]), self._secrets)
        said = str(told.content[0]["text"])
        result = msgspec.json.encode(told.content) if state == "failed" else None
        return ToolEnd(id=call.id, state=state, result=result, failed=True, why=said)
