"""The desk where agents' calls to tools are taken: looked at, allowed or held, written down, carried out, answered.

A caller that goes away cancels nothing: what was begun is brought to its end, and the same call gets its result.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, Protocol

import msgspec

from relit.errors import RelitError, StoreError
from relit.gateway.tools import counting, results, settling
from relit.gateway.tools.base import Outcome, Tool, text
from relit.gateway.tools.carrying import Carrier
from relit.gateway.tools.prompts import Prompts
from relit.gateway.tools.results import Blobs
from relit.gateway.tools.shelf import Shelf
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.lib.ids import new_id
from relit.lib.service import finished
from relit.store.base import Subscription
from relit.store.tools import EARLIER, GAVE_UP, HEARD, ToolCall, ToolCalls, ToolEnd
from relit.store.values import Turn
from relit.vault.refusals import OnRefusal

_LOG = logging.getLogger(__name__)
HOLD_S = 30.0  # a call is answered within this: clients of agents give up a little later
EXPIRE_S = 86400.0
LOOK_S = 5.0  # between looks at what was decided, where no word of it came
AGAIN_S = 60.0  # between attempts to settle a doubt
ARGUMENTS_MOST = 1 << 20  # bytes
AT_ONCE = 64  # calls of one agent that are carried out
Tell = Callable[[ToolCall, str], Awaitable[None]]


class Turns(Protocol):
    """Who works on what."""

    async def turn(self, agent: str) -> Turn: ...


class Office(msgspec.Struct, frozen=True, kw_only=True):
    """What a desk works with. ``me``: this gateway; ``is_dead``: whether another is; ``alone``: there can be no other
    on the same store; ``tell`` sends an agent a message; ``refused`` hears of what an agent may not do."""

    calls: ToolCalls
    turns: Turns
    blobs: Blobs
    subscribe: Callable[..., Subscription]
    tell: Tell
    me: str
    is_dead: Callable[[str], bool]
    alone: bool = True
    refused: OnRefusal = lambda who, code, why: None
    clock: Clock = SYSTEM_CLOCK
    hold_s: float = HOLD_S
    expire_s: float = EXPIRE_S


class Unknown(Exception):
    """There is no such tool for this agent."""


class Desk:
    """Of one gateway."""

    def __init__(self, office: Office, shelf: Shelf, secrets: tuple[bytes, ...] = ()) -> None:
        self._office = office
        self._calls = office.calls
        self._shelf = shelf
        self._secrets = secrets
        self._carrier = Carrier(office.calls, office.blobs, office.clock, secrets, office.refused)
        self._prompts = Prompts()
        self._work: dict[str, asyncio.Task[ToolCall | None]] = {}
        self._waiters: dict[str, set[asyncio.Future[ToolCall]]] = {}
        self._errands: set[asyncio.Task[Any]] = set()
        self._tried: dict[str, float] = {}
        self._telling: set[str] = set()
        self._hearing: set[str] = set()
        self._busy: Counter[str] = Counter()

    def tools(self, agent: str) -> list[Tool]:
        """What an agent is offered."""
        return self._shelf.of(agent)

    def saw(self, agent: str, turn: Turn, lane: str, body: bytes) -> bool:
        """A call of the agent's to a model passes. Whether what it answers may be a call to a tool."""
        return self._shelf.serves(agent) and self._prompts.saw(agent, turn, lane, body)

    def answered(self, agent: str, turn: Turn, *, replayed: bool) -> None:
        """Such a call is answered, from the record or not."""
        self._prompts.answered(agent, turn, replayed=replayed)

    async def start(self) -> None:
        """End, or bring to their ends, calls of gateways that are dead, and look after what is held."""
        for gateway in await self._calls.gateways():
            if gateway != self._office.me and self._office.is_dead(gateway):
                await self._calls.abandon(gateway)
        for call in await self._calls.waiting(["open"]):
            if call.gateway != self._office.me and self._office.is_dead(call.gateway) and self._looks_after(call):
                await self._inherit(call)
        self._errand(self._watch())

    async def stop(self) -> None:
        """What is under way is cut: the next gateway brings it to its end."""
        tasks = [*self._errands, *self._work.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._shelf.stop()

    # --- a call -----------------------------------------------------------------------------------------------------

    async def call(self, agent: str, name: str, arguments: dict[str, Any]) -> Outcome:
        """What came of it; or, after a while, that it is not decided yet. Unknown, StoreError."""
        tool = self._shelf.tool(agent, name)
        turn = await self._office.turns.turn(agent)
        call = self._new(agent, name, tool, turn, arguments)
        if tool is None or tool.policy == "deny":
            return await self._denied(call, known=tool is not None)
        if faults := self._shelf.faults(name, arguments):
            return text("The arguments do not fit:\n" + "\n".join(f"- {each}" for each in faults[:20]), failed=True)
        if len(call.arguments) > ARGUMENTS_MOST:
            return text(f"The arguments are larger than {ARGUMENTS_MOST >> 20} MB.", failed=True)
        if tool.policy == "ask" and self._hides(call):
            return text(f"[relit: {name} waits for a person, and {_UNKEPT}]", failed=True)
        if self._busy[agent] >= AT_ONCE:
            return text(f"[relit: {AT_ONCE} of your calls are going on: wait for some of them]", failed=True)
        beginning = asyncio.get_running_loop().create_task(self._begin(call, tool))
        try:
            made, target = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            self._errand(self._deserted(beginning))
            raise
        return await self._answered(made, target, tool)

    async def _begin(self, call: ToolCall, tool: Tool) -> tuple[ToolCall, ToolCall]:
        """(the call, whose result it gets). What is written down is made, also when its caller is gone by then."""
        relives = self._prompts.relives(call.agent, Turn(run=call.run, life=call.life))
        made, source = await self._calls.begin(self._kept(call), call.seen or 0, relives=relives)
        if source is None and made.state == "open":
            self._carry(msgspec.structs.replace(made, arguments=call.arguments), tool)
        return made, source or made

    def _kept(self, call: ToolCall) -> ToolCall:
        """As it is written down."""
        return msgspec.structs.replace(call, arguments=results.without(call.arguments, self._secrets))

    def _hides(self, call: ToolCall) -> bool:
        return self._kept(call).arguments != call.arguments

    async def _deserted(self, beginning: asyncio.Task[tuple[ToolCall, ToolCall]]) -> None:
        made, _ = await beginning
        await self._calls.hear(made.id, GAVE_UP)

    def _new(self, agent: str, name: str, tool: Tool | None, turn: Turn, arguments: dict[str, Any]) -> ToolCall:
        tool = tool or Tool(name)
        id, hash, now = new_id(), counting.hash_of(arguments), self._office.clock.now_ms()
        held = tool.policy == "ask"
        return ToolCall(
            id=id, agent=agent, run=turn.run, life=turn.life, tool=name[:200], effect=tool.effect_of(arguments),
            hash=hash, same=_meaning(tool, arguments), seen=self._prompts.count(agent, turn, name, hash),
            key=f"relit-{id}", arguments=msgspec.json.encode(arguments), gateway=self._office.me,
            state="held" if held else "open", sent_at=None if held else now,
            deadline_at=None if held else now + round(tool.timeout * 1000),
            expires_at=now + round(self._office.expire_s * 1000) if held else None,
        )  # fmt: skip

    async def _denied(self, call: ToolCall, *, known: bool) -> Outcome:
        why = "a policy forbids it" if known else "there is no such tool for this agent"
        self._office.refused(call.agent, "tool-denied", f"{call.tool if known else 'a tool'}: {why}")
        kept = call.arguments if len(call.arguments) <= results.INLINE else b"{}"
        denied = msgspec.structs.replace(call, state="denied", failed=True, why=why, arguments=kept, heard=HEARD)
        await self._calls.begin(self._kept(denied), 0)
        if not known:
            raise Unknown(call.tool)
        return text(f"[relit: {call.tool} is not allowed: {why}]", failed=True)

    async def _answered(self, made: ToolCall, target: ToolCall, tool: Tool) -> Outcome:
        try:
            async with asyncio.timeout(self._office.hold_s):
                ended = await self._end_of(target, made)
        except TimeoutError:
            ended = await self._calls.get(target.id)
        except asyncio.CancelledError:
            await finished(self._calls.hear(made.id, GAVE_UP))
            raise
        if not ended.final:
            return await self._pending(made, ended)
        heard = {made.id, target.id} if ended.owed else {made.id}
        self._hearing |= heard
        self._errand(self._heard(heard))
        outcome = results.trimmed(await results.whole(ended, self._office.blobs), ended.id, tool.most)
        told = made.why == EARLIER or made.hash != ended.hash
        return results.earlier(outcome, ended) if told and ended.state == "done" else outcome

    async def _end_of(self, call: ToolCall, asked: ToolCall) -> ToolCall:
        """The call when it has ended, or is in doubt. ``asked``: the one that waits for it, or itself."""
        if call.final:
            return call
        if call.state == "in_doubt" and not (await self._is_made_again(call, asked) and self._take(call)):
            return call
        future: asyncio.Future[ToolCall] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(call.id, set()).add(future)
        try:
            if call.id not in self._work and (known := await self._calls.get(call.id)).final:
                return known
            return await future
        finally:
            self._waiters[call.id].discard(future)
            if not self._waiters[call.id]:
                del self._waiters[call.id]

    async def _pending(self, made: ToolCall, target: ToolCall) -> Outcome:
        await self._calls.hear(target.id, GAVE_UP, owed=True)
        if made.id != target.id:
            await self._calls.hear(made.id, GAVE_UP)
        again = target.state == "in_doubt" and await self._is_made_again(target, made)
        words = _SETTLED_BY[target.effect] if again else _PENDING[target.state]
        return text(f"[relit: {words.format(id=target.id)}]")

    async def _is_made_again(self, call: ToolCall, asked: ToolCall) -> bool:
        """Whether a call in doubt may be made when its agent asks for it again. What an earlier life set is not set
        over what was set since."""
        if not _is_whole(call):
            return False
        if self._settles_itself(call):
            return True
        if call.effect != "natural-key" or call.hash != asked.hash:
            return False
        return call.life == asked.life or not await self._is_followed(call)

    def _settles_itself(self, call: ToolCall) -> bool:
        return settling.by_itself(call.effect, known=self._is_known(call))

    def _is_known(self, call: ToolCall) -> bool:
        """Whether its key certainly is, still, to whoever carries it out."""
        tool = self._shelf.tool(call.agent, call.tool)
        return tool is not None and self._office.clock.now_ms() - call.started_at < tool.key_ms

    async def _is_followed(self, call: ToolCall) -> bool:
        """Whether its turn made another call to that tool since."""
        later = [each for each in await self._calls.of_run(call.run) if each.number > call.number]
        return any(each.tool == call.tool and each.hash != call.hash and each.state in _MADE for each in later)

    async def _heard(self, ids: set[str]) -> None:
        try:
            for id in ids:
                await self._calls.hear(id, HEARD)
        finally:
            self._hearing -= ids

    # --- carrying out -------------------------------------------------------------------------------------------------

    def _carry(self, call: ToolCall, tool: Tool, *, doubtful: bool = False) -> None:
        """In a task of its own: whoever waits may go."""
        source = self._shelf.source(call.tool)
        self._task(call, self._carrier.carry(call, tool, source, doubtful=doubtful))

    def _task(self, call: ToolCall, work: Coroutine[Any, Any, ToolCall | None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work[call.id] = task
        self._busy[call.agent] += 1
        task.add_done_callback(lambda task: self._done(call, task))

    def _done(self, begun: ToolCall, task: asyncio.Task[ToolCall | None]) -> None:
        self._busy[begun.agent] -= 1
        if self._work.get(begun.id) is task:
            del self._work[begun.id]
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _LOG.warning("what came of a call to a tool could not be written down: %s", error)
        elif (call := task.result()) is not None:
            if call.state == "in_doubt":  # it was tried often enough for now
                self._tried[call.id] = asyncio.get_running_loop().time()
            self._settled(call)
            if call.owed and call.final:
                self._errand(self._tell(call))

    def _settled(self, call: ToolCall) -> None:
        for future in self._waiters.get(call.id, ()):
            if not future.done():
                future.set_result(call)

    def _take(self, call: ToolCall) -> bool:
        """Send what is approved or in doubt. False: its tool is gone, or its arguments are."""
        tool = self._shelf.tool(call.agent, call.tool)
        if call.id in self._work:
            return True
        if tool is None or not _is_whole(call) or (call.state == "approved" and tool.policy == "deny"):
            return False
        self._task(call, self._taken(call, tool))
        return True

    async def _taken(self, call: ToolCall, tool: Tool) -> ToolCall | None:
        deadline = self._office.clock.now_ms() + round(tool.timeout * 1000)
        sent = await self._calls.send(call, self._office.me, deadline)
        if sent is None:
            return None
        doubtful = call.state != "approved"
        before = msgspec.structs.replace(sent, deadline_at=call.deadline_at) if doubtful else sent
        return await self._carrier.carry(before, tool, self._shelf.source(call.tool), doubtful=doubtful)

    async def _inherit(self, call: ToolCall) -> None:
        """A call that a dead gateway left open. It is taken before anything is done about it."""
        taken = await self._calls.send(call, self._office.me, call.deadline_at or 0)
        if taken is None:
            return
        tool = self._shelf.tool(call.agent, call.tool)
        move = settling.left_open(call.effect, known=self._is_known(call))
        if tool is not None:
            source = self._shelf.source(call.tool)
            if (outcome := await source.clear(call)) is not None:
                await self._carrier.settle(call, outcome)
                return
            if move in ("send", "look") and _is_whole(call):
                self._task(taken, self._carrier.carry(taken, tool, source, doubtful=True))
                return
        state: Literal["failed", "in_doubt"] = "failed" if move == "failed" else "in_doubt"
        await self._calls.end(ToolEnd(id=call.id, state=state, failed=True, why="its gateway died"))

    # --- looking after ------------------------------------------------------------------------------------------------

    def _errand(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errand_done)

    def _errand_done(self, task: asyncio.Task[Any]) -> None:
        self._errands.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.warning("a call to a tool: %s", error)

    async def _watch(self) -> None:
        heard = self._office.subscribe("tools")
        try:
            while True:
                try:
                    await self._look_around()
                except (StoreError, RelitError) as error:
                    _LOG.warning("what was decided of calls to tools cannot be seen now: %s", error)
                await heard.wait(LOOK_S)
        finally:
            heard.close()

    async def _look_around(self) -> None:
        found, now = await self._calls.waiting(["held", "approved", "in_doubt"]), self._office.clock.now_ms()
        if any(each.state == "held" and (each.expires_at or now + 1) <= now for each in found):
            await self._calls.expire()
        found = [each for each in found if self._looks_after(each)]
        ids, old = {each.id for each in found}, asyncio.get_running_loop().time() - AGAIN_S
        self._tried = {id: at for id, at in self._tried.items() if id in ids or at > old}
        for call in found:
            if call.state == "approved":
                if not self._take(call):
                    await self._withdrawn(call)
            elif call.state == "in_doubt" and self._settles_itself(call) and self._is_due(call.id):
                self._take(call)
        for id in [*self._waiters]:
            if id not in self._work and (call := await self._calls.get(id)).final:
                self._settled(call)
        for call in await self._calls.owing():
            if self._looks_after(call):
                await self._tell(call)

    def _looks_after(self, call: ToolCall) -> bool:
        """Calls of agents that are not served here may be another gateway's, which knows their tools and lives."""
        return self._office.alone or self._shelf.serves(call.agent)

    def _is_due(self, id: str) -> bool:
        """Whether a doubt is to be looked into, once a while."""
        now = asyncio.get_running_loop().time()
        if now - self._tried.get(id, now - AGAIN_S) < AGAIN_S:
            return False
        self._tried[id] = now
        return True

    async def _withdrawn(self, call: ToolCall) -> None:
        why = f"{call.tool} is not offered to {call.agent} any more" if _is_whole(call) else f"{call.tool}: {_UNKEPT}"
        if await self._calls.send(call, self._office.me, 0) is not None:
            result = msgspec.json.encode(text(why).content)
            await self._calls.end(ToolEnd(id=call.id, state="failed", failed=True, why=why, result=result))

    async def _tell(self, call: ToolCall) -> None:
        """The message that an agent is owed."""
        if call.id in self._telling:
            return
        self._telling.add(call.id)
        try:
            await self._told(call)
        finally:
            self._telling.discard(call.id)

    async def _told(self, call: ToolCall) -> None:
        outcome = results.trimmed(await results.whole(call, self._office.blobs), call.id, 8 << 10)
        said = "\n".join(str(part.get("text", "")) for part in outcome.content) or call.why
        owed = (await self._calls.get(call.id)).owed
        if not owed or call.id in self._waiters or call.id in self._hearing:  # somebody has it, or is about to
            return
        await self._office.tell(call, f"[relit: your call {call.tool} ({call.id}) {_ENDED[call.state]}]\n\n{said}")
        await self._calls.hear(call.id, HEARD)


_UNKEPT = "its arguments hold a secret, which is not written down: it cannot be sent later"
_PENDING: dict[str, str] = {
    "held": "this call ({id}) waits for a person's approval. Do not make it again: go on with something else, or end "
    "your turn; a message tells you when it is decided.",
    "approved": "this call ({id}) is approved and about to be made. A message tells you what came of it.",
    "open": "this call ({id}) is still going on. Make it again with the same arguments to wait for it, or go on: a "
    "message tells you when it has ended.",
    "in_doubt": "nobody knows whether this call ({id}) happened. Do not make it again: a person is asked, and a "
    "message tells you.",
}
_TRIED = (
    "nobody knows whether this call ({id}) happened. Do not make it again: relit goes on trying to settle that, a "
    "person is asked, too, and a message tells you."
)
_SETTLED_BY: dict[str, str] = {
    "lookup": _TRIED,
    "native-key": _TRIED,
    "natural-key": "nobody knows whether this call ({id}) happened, and it is not made again by itself. If you still "
    "want it, make it again with the same arguments: twice is as once. A person is asked, too, and a message tells you "
    "what was said.",
}
_MADE = ("open", "done", "in_doubt")
_ENDED = {
    "done": "was made", "failed": "was not made", "denied": "was denied", "expired": "was decided by nobody in time",
}  # fmt: skip


def _is_whole(call: ToolCall) -> bool:
    """Whether its arguments were written down as they were asked for."""
    return call.hash == counting.hash_of(msgspec.json.decode(call.arguments))


def _meaning(tool: Tool, arguments: dict[str, Any]) -> str:
    """Equal for calls that mean the same; empty: only equal arguments do."""
    if not tool.same or tool.effect == "read":
        return ""
    return counting.hash_of([_even(arguments.get(name)) for name in tool.same])


def _even(value: Any) -> Any:
    return " ".join(value.casefold().split()) if isinstance(value, str) else value
