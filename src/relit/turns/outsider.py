"""An agent that relit did not write, as the durable engine sees it: a workflow that brings messages in and answers out.

A delivery is a step. When the agent dies in the middle of one, the message waits until it is back and is delivered
again; so many deaths in a row are the message's fault, and it becomes a dead letter. One that the agent itself failed,
or hung up on while it lived on, is delivered again, too, ever more slowly; one that it failed because its budget is
spent, when there is money again.
Each delivery is another life of the turn: what it asks may be on record.
Only one delivery of a message is ever under way.

It comes back in one of two ways. **continue**: the agent keeps its state, and the message is marked as one that was
delivered before. **replay**: its home goes back to what it was before the message, which is then delivered as if
for the first time; the calls that it had made are answered from their record, until one of them is another one.

Either way its answer begins anew. Whoever follows the run is told only what is new to him (``relit.turns.released``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import msgspec

from relit.durable.context import Context
from relit.durable.definitions import MESSAGE, Agent, Workflow
from relit.durable.retry import ONCE, Retry
from relit.errors import TurnFailed
from relit.lib.durations import to_ms
from relit.lib.ids import new_id
from relit.node.redact import Redactor
from relit.store.values import Mailbox
from relit.turns.chat import Lost, Refused
from relit.turns.hiding import Hiding
from relit.turns.message import read
from relit.turns.money import Shortage
from relit.turns.released import Assembled, Item, Telling

DELIVERIES = 5  # of one message, before it is given up: it kills its agent each time
SOON_S, PAUSE_S = 0.03, 0.4  # between looks whether it is back, growing: one that stood still is there at once
PASSING = (408, 409, 425, 429, 500, 502, 503, 504)  # statuses that another try may mend
UNTAKEN = (409, 425, 429, 503)  # of these, those with which it says that it has not begun

AGAIN = (
    "[relit: this message was delivered before, and you were interrupted while you worked on it. What you had done "
    "stays done: look at it before you do anything again, and go on from there.]\n\n"
)


class Door(Protocol):
    """The way into one agent."""

    async def ready(self) -> str | None:
        """``None`` when it takes a message now, else why not."""
        ...

    def turn(self, text: str, session: str) -> AsyncIterator[str]:
        """See ``relit.turns.chat.Chat.turn``."""
        ...

    def made_room(self) -> bool:
        """Whether it was ended for want of memory: no message's fault."""
        ...

    async def shortage(self, run: str) -> Shortage | None:
        """Whether something that this run has asked of a model in its last life was refused by a budget."""
        ...

    @property
    def hides(self) -> Redactor:
        """What no answer shows."""
        ...

    @property
    def replays(self) -> bool:
        """Whether a message that is delivered again finds the agent as it was before it."""
        ...

    async def mark(self) -> int:
        """Remember the agent as it is now; answers a snapshot's number."""
        ...

    async def back(self, mark: int) -> None:
        """Make it what it was then. What volumes raise."""
        ...

    async def died(self) -> bool | None:
        """Whether the life that took the last message has ended; ``None``: nobody knows which one did."""
        ...

    async def settled(self) -> None:
        """Make sure that no earlier delivery is under way in it: its caller is gone, and it may not have noticed."""
        ...


RETRY = Retry(attempts=30, first="1s", factor=2.0, most="5m", no_retry_on=(TurnFailed,))


class Ways(msgspec.Struct, frozen=True, kw_only=True):
    """How messages are brought in."""

    pause_s: float = PAUSE_S
    retry: Retry = RETRY


def outsider(name: str, door: Door, mailbox: Mailbox | None, ways: Ways = Ways()) -> Agent[str]:  # noqa: B008
    """The definition of the agent ``name``."""

    async def message(ctx: Context, message: Any) -> str:
        text, session = read(message)
        me = new_id()  # another one whenever the run is taken again, by the same process too
        # What the settings said when it began holds to its end; runs from before there was a choice go on without.
        replays = ctx.patched("resume") and await ctx.step(lambda: door.replays, name="replays")
        mark = await ctx.step(door.mark, name="snapshot", retry=ways.retry) if replays else 0
        taken = deaths = failures = 0
        unpaid = None  # the call that a budget refused
        while deaths < DELIVERIES and failures < ways.retry.attempts:
            begun = await ctx.step(lambda: me, name="begin")
            delivery = Delivery(door, ctx, ways.pause_s, fresh=begun == me, mark=mark)
            done = await ctx.step(delivery.deliver, text, session, taken + 1, name="delivery", retry=ways.retry)
            if done["answered"]:
                return str(done["text"])
            taken += done.get("taken", True)
            if done.get("unpaid") not in (None, unpaid):  # else it has not even asked again
                unpaid, failures = done["unpaid"], 0
                await _money(ctx, door, ways.retry)
            elif done.get("failed"):
                failures += 1
                await ctx.sleep(pause_s(failures, ways.retry))
            else:
                deaths += 1
        how = "the agent was lost" if deaths == DELIVERIES else "the agent failed it"
        raise TurnFailed(
            f"{name} did not finish a message",
            why=f"it was delivered {deaths + failures} times, and at last {how}: {done['why']}",
            fix=f"relit why {name}; then relit requeue RUN",
        )

    handler: Workflow[str] = Workflow(message, name=MESSAGE, agent=name, retry=ONCE)
    return Agent(handler, mailbox)


async def _money(ctx: Context, door: Door, retry: Retry) -> None:
    """Until there is some: no message's fault, and no agent's."""

    async def missing_ms() -> int:
        short = await door.shortage(ctx.run_id)
        return short.wait_ms if short is not None else 0

    await ctx.sleep(pause_s(1, retry))
    looks = 0
    while wait_ms := await ctx.step(missing_ms, name="budget", retry=retry):
        looks += 1
        await ctx.sleep(min(wait_ms / 1000, pause_s(looks, retry)))


class Delivery:
    """One attempt to bring a message in. Not ``fresh``: it was begun before the run was taken again, and may have got
    far. ``mark``: what the agent goes back to before a redelivery; 0: it keeps its state."""

    def __init__(self, door: Door, run: Context, pause_s: float, *, fresh: bool, mark: int = 0) -> None:
        self._mark = mark
        self._door = door
        self._pause_s = pause_s
        self._run = run
        self._begun = not fresh  # it may have begun, in an earlier delivery
        self._goes_on = not fresh  # and may still be at it
        self._hiding = Hiding(door.hides)

    async def deliver(self, text: str, session: str, number: int) -> dict[str, Any]:
        """``answered`` with the ``text``, or not, and ``why``: the agent was lost meanwhile, or (``failed``) hung up or
        says that it could not, for now, because (``unpaid``) that call had no money; ``taken``: it may have begun, now
        or in an earlier delivery that has no end."""
        while True:
            again = number > 1 or self._begun
            if again and self._mark:
                await self._door.back(self._mark)  # whatever went on in it is over
            elif self._goes_on:
                await self._door.settled()
            await self._until(self._door.ready)
            if again:
                self._tell({"redelivered": number})
            before, self._begun, self._goes_on = self._begun, True, True  # unless more is found out, which may fail
            try:
                marked = AGAIN + text if again and not self._mark else text
                return {"answered": True, "text": await self._turn(marked, session)}
            except Lost as error:
                if error.taken:
                    why = self._hiding.whole(error.why)
                    return {"answered": False, "failed": await self._lives_on() and not error.mute, "why": why}
                self._begun, self._goes_on = before, False
                await asyncio.sleep(self._pause_s)  # it had not begun: that was no delivery
            except Refused as error:
                self._begun, self._goes_on = before or error.status not in UNTAKEN, False
                why = self._hiding.whole(str(error))
                if (unpaid := await self._unpaid()) is not None:
                    return {"answered": False, "failed": True, "unpaid": unpaid, "why": why}
                if error.status in PASSING:
                    return {"answered": False, "failed": True, "taken": self._begun, "why": why}
                raise TurnFailed("the agent refused a message", why=why) from error

    async def _lives_on(self) -> bool:
        """Whether it is no fault of the message that its agent was lost. What it still does of it is over then."""
        if self._door.made_room():
            return True
        died = await self._door.died()
        if not died and not self._mark:
            await self._door.settled()
        return died is False

    async def _unpaid(self) -> str | None:
        """The call for which there was no money. What no day's budget can pay fails the message for good."""
        short = await self._door.shortage(self._run.run_id)
        if short is not None and short.hopeless:
            raise TurnFailed(
                "the agent cannot pay for a message", why=short.why,
                fix="raise the budget in relit.toml, or lower the most tokens of an answer; then relit requeue RUN",
            )  # fmt: skip
        if short is None:
            return None
        self._tell({"waiting": short.why})
        return short.call

    async def _turn(self, text: str, session: str) -> str:
        pieces: list[str] = []
        telling = Telling(await self._released())
        self._hiding = Hiding(self._door.hides)
        async for piece in self._door.turn(text, session):
            pieces.append(self._hiding.piece(piece))
            self._tell(*telling.piece(pieces[-1]))
        pieces.append(self._hiding.end())
        self._tell(*telling.piece(pieces[-1]), *telling.end())
        return "".join(pieces)

    async def _released(self) -> Assembled:
        """What earlier deliveries have told, another process's too."""
        found = Assembled()
        async for item in self._run.emitted():
            found.see(item)
        return found

    def _tell(self, *items: Item) -> None:
        for item in items:
            self._run.emit(item, goes_on=True)

    async def _until(self, ready: Callable[[], Awaitable[str | None]]) -> None:
        """Wait as long as it takes: an agent that is being healed comes back."""
        told, pause_s = None, min(SOON_S, self._pause_s)
        while (why := await ready()) is not None:
            if why != told:
                self._tell({"waiting": why})
                told = why
            await asyncio.sleep(pause_s)
            pause_s = min(self._pause_s, pause_s * 1.5)


def pause_s(failures: int, retry: Retry) -> float:
    """Seconds until a message that the agent has failed so often is delivered again."""
    return min(to_ms(retry.most) / 1000, to_ms(retry.first) / 1000 * retry.factor ** min(failures - 1, 64))
