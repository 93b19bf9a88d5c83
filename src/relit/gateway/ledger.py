"""Every call to a model is written down: before it is sent, with what it may cost, and when it has ended, with what it
did. Two commits a call. A call that no budget has room for is not made.

What stands in the spool outlives the gateway, so commits may follow. Where no budget has a say, a call is sent when it
stands there, and is on disk before anything of its answer is passed on. After a commit that failed, the next call waits
for its own: what cannot be written down is not bought again and again. A stream's end is passed on at once."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from relit.errors import BudgetSpent, PayloadError, StoreError
from relit.events import Event
from relit.gateway import prices
from relit.gateway.answers import Blobs, Kept, whole
from relit.gateway.entry import Entry, Further, Opening
from relit.gateway.matching import Mask, Match, match_of
from relit.gateway.outline import differs, is_near
from relit.gateway.prices import FREE, Price
from relit.gateway.reading import is_moderate, read
from relit.gateway.refusal import Refused
from relit.gateway.routes import Caller, Route
from relit.gateway.soon import Soon
from relit.gateway.spool import Asked as Sent
from relit.gateway.spool import Left, Spool
from relit.gateway.target import Target
from relit.lib import proc
from relit.lib.ids import new_id
from relit.lib.proc import ProcessId
from relit.store.calls import Calls
from relit.store.values import Budget, ModelCall, Turn

_LOG = logging.getLogger(__name__)
_LARGE = 256 << 10  # bytes of a request that is looked through beside the others
LATE_S = 2.0  # between attempts to write down what could not be
MODELS = 1_000  # whose prices are at hand: agents ask for few


class Asked(msgspec.Struct, frozen=True):
    """What of a request's body decides what it costs."""

    model: Any = ""
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    n: Any = None
    background: Any = None
    previous_response_id: Any = None
    conversation: Any = None


@dataclass(eq=False)
class _Life:
    """Of a turn, as this gateway sees it. ``first``: no other life of it has made a call; ``called``: this one has."""

    turn: Turn
    first: bool
    called: bool = False


@dataclass(frozen=True)
class Question:
    """``match``: what it asks, in which ``life``; ``None`` where its answer is not kept."""

    turn: Turn
    match: Match | None = None
    life: _Life | None = None

    @property
    def followed(self) -> bool:
        """Whether an earlier life of the turn may have asked the same."""
        return self.life is not None and not self.life.first

    @property
    def again(self) -> tuple[str, str]:
        """The same for the same call of another life of the turn."""
        return self.turn.run, self.match.key if self.match is not None else ""


class Ledger:
    """Of one gateway. ``own`` prices go before the known ones; budgets by agent and by route. With ``blobs`` answers of
    turns are kept; ``masks`` by agent; ``spool``: where those that stream lie while they come. ``alone``: no other
    machine has a gateway on the same store. ``record`` takes events."""

    def __init__(
        self,
        calls: Calls,
        own: Mapping[str, Price],
        agents: Mapping[str, Budget],
        routes: Mapping[str, Budget],
        *,
        blobs: Blobs | None = None,
        masks: Mapping[str, Sequence[Mask]] | None = None,
        spool: Spool | None = None,
        alone: bool = True,
        record: Callable[[Sequence[Event]], Awaitable[None]] | None = None,
    ) -> None:
        self._alone = alone
        self._record = record
        self._calls = calls
        self._blobs = blobs
        self._masks = masks or {}
        self._spool = spool
        self._price_of = functools.lru_cache(MODELS)(functools.partial(prices.price_of, own=own))
        self._agents = agents
        self._routes = routes
        self._me = msgspec.json.encode(proc.myself()).decode()
        self._sure = True  # the last commit went well
        self._lives: dict[str, _Life] = {}  # by agent, the latest
        self._soon = Soon()
        self._late: list[Callable[[], Awaitable[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """End what gateways left open that are no more: it may have been paid for."""
        left = {each.asked.call.id: each for each in self._spool.left()} if self._spool is not None else {}
        for call in await self._calls.open_calls():
            if call.id in left or self.is_gone(call.gateway):
                await self._settle(call, left.pop(call.id, None))
        for id, each in left.items():
            if await self._calls.call(id) is None:  # its gateway died before it was written down
                await self._settle(await self._calls.open(each.asked.call, ()), each)
        if self._spool is not None:
            self._spool.forgotten()

    async def _settle(self, call: ModelCall, left: Left | None) -> None:
        """As far as it is known what it said, that counts; else what was reserved for it."""
        why = "its gateway died"
        if left is None or left.head is None:
            cut = msgspec.structs.replace(call, state="cut", why=why, cost=call.reserved, estimated=True)
            await self._calls.end(cut)
            return
        price, blobs = self._price_of(call.model) or FREE, self._blobs if call.key else None
        entry = Entry(self._calls, call, self._price_of, price, left.asked.sent, blobs)
        entry.began(left.head.status, left.head.headers)
        entry.read(left.body)
        await self._calls.end(*await entry.outcome("done" if left.whole else "cut", "" if left.whole else why))

    async def stop(self) -> None:
        """There are no more calls."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        if self._spool is not None:
            self._spool.stop()

    def _later(self, again: Callable[[], Awaitable[None]]) -> None:
        """Something could not be written down: it is tried until it can be."""
        self._late.append(again)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_late())

    async def _write_late(self) -> None:
        while self._late:
            await asyncio.sleep(LATE_S)
            try:
                while self._late:
                    await self._late[0]()
                    del self._late[0]
            except (StoreError, Refused):
                continue

    @property
    def me(self) -> str:
        """What this gateway is known by."""
        return self._me

    def is_gone(self, gateway: str) -> bool:
        """Whether it is another one, and certainly dead."""
        return gateway != self._me and (self._alone or _is_dead(gateway))

    async def asked(self, caller: Caller, target: Target, body: bytes | None) -> Question:
        """What a call is, as far as that can be told before it is made: whose turn it belongs to, and what it asks.
        Raises ``Refused``."""
        try:
            turn = await self._calls.turn(caller.agent)
            if self._blobs is None or not turn.run or body is None or target.call in (None, "tokens"):
                return Question(turn)
            life = await self._life(caller.agent, turn)
        except StoreError as error:
            raise _away(error) from error
        hidden = self._masks.get(caller.agent, ())
        if len(body) > _LARGE:
            return Question(turn, await asyncio.to_thread(match_of, target.below, body, hidden), life)
        return Question(turn, match_of(target.below, body, hidden), life)

    async def _life(self, agent: str, turn: Turn) -> _Life:
        """The store is asked once for each: most turns have one life, and to look for others takes as long as all else
        that is done about a call."""
        was = self._lives.get(agent)
        if was is not None and was.turn == turn:
            return was
        again = was is not None and was.turn.run == turn.run
        made = _Life(turn, first=not again and not await self._calls.lived(turn))
        now = self._lives.get(agent)
        if now is not was and now is not None and now.turn == turn:
            return now
        self._lives[agent] = made
        return made

    async def replay(self, caller: Caller, route: Route, question: Question) -> Kept | None:
        """The answer that an earlier life of the turn got to the same call; ``None``: it is to be made."""
        if question.match is None or self._blobs is None or not question.followed:
            return None
        call = ModelCall(
            id=new_id(), agent=caller.agent, run=question.turn.run, route=route.name, gateway=self._me,
            life=question.turn.life, lane=question.match.lane, key=question.match.key,
        )  # fmt: skip
        try:
            source = await self._calls.before(call)
            answer = await self._calls.answer(source.id) if source is not None else None
            kept = None if answer is None else await whole(answer, self._blobs)
            return kept if kept is not None and await self._calls.replay(call) is not None else None
        except (StoreError, PayloadError) as error:  # it is bought again
            _LOG.warning("an answer that is on record for %s cannot be read: %s", caller.agent, error)
            return None

    async def open(
        self, caller: Caller, route: Route, target: Target, body: bytes | None, question: Question
    ) -> Entry | None:
        """Before a call is sent. ``None``: it is none of those that cost something. Raises ``Refused``."""
        budgets = [each for each in (self._agents.get(caller.agent), self._routes.get(route.name)) if each is not None]
        if target.call in (None, "tokens"):
            self._see_free(target, body, budgets)
            return None
        asked = _asked(body or b"")
        model = asked.model.replace("\0", "")[:200] if isinstance(asked.model, str) else ""
        if budgets and asked.background is True:
            raise Refused(403, "no-price", "a budget applies, and what goes on in the background is not counted")
        price = self._price_of(model)
        if price is None and budgets:
            raise Refused(400, "no-price", f"a budget applies, and nobody knows the price of {model}: {_tell(model)}")
        price, sent = price or FREE, prices.weight(body or b"")
        most = sent + prices.beside(body or b"")
        call = ModelCall(
            id=new_id(),
            agent=caller.agent,
            run=question.turn.run,
            life=question.turn.life,
            lane=question.match.lane if question.match else "",
            key=question.match.key if question.match else "",
            outline=question.match.outline if question.match else "",
            route=route.name,
            protocol=str(target.call),
            model=model,
            gateway=self._me,
            reserved=prices.reserve(str(target.call), most, msgspec.to_builtins(asked), price),
        )
        blobs = self._blobs if question.match is not None else None
        if budgets:
            call = await self._opened(call, budgets, question)
        track = self._spool.begin(Sent(call, sent)) if self._spool is not None else None
        entry = Entry(self._calls, call, self._price_of, price, sent, blobs, track, self._later, self._soon)
        entry.budgeted = bool(budgets)
        entry.more = self._further(call, budgets, asked, price)
        if not budgets:
            entry.opening = Opening(functools.partial(self._opened, call, (), question), self._soon)
        if not self._sure or track is None or not track.there:
            await self._first(entry)
        return entry

    def _further(self, call: ModelCall, budgets: Sequence[Budget], asked: Asked, price: Price) -> Further | None:
        """For an answer that may be longer than what was reserved for it."""
        said = msgspec.to_builtins(asked)
        step = prices.further(said, price)
        if not budgets or not step or prices.limited(call.protocol, said):
            return None

        async def more(amount: int) -> None:
            await self._more(msgspec.structs.replace(call, reserved=call.reserved + amount), budgets)

        return Further(more, prices.room(said), step)

    async def _more(self, call: ModelCall, budgets: Sequence[Budget]) -> None:
        try:
            await self._calls.more(call, budgets, new_id())
        except BudgetSpent as error:
            raise _spent(error) from error
        except StoreError as error:
            raise _away(error) from error

    async def _compare(self, call: ModelCall, question: Question) -> None:
        """That a life goes another way than the one before is worth a word: a pattern may be missing."""
        if self._record is None or not call.key or question.life is None or question.life.first:
            return
        if (was := await self._before(call, question.life)) is None:
            return
        data = {
            "lane": call.lane, "asked": call.key, "before": was.key, "number": was.number,
            "differs": differs(was.outline, call.outline),
        }  # fmt: skip
        await self._record([Event(id="", at=0, name="turn.diverged", agent=call.agent, run=call.run, data=data)])

    async def _before(self, call: ModelCall, life: _Life) -> ModelCall | None:
        """What an earlier life asked instead. Instructions that are others by themselves make another conversation of
        it, from the first call on."""
        called, life.called = life.called, True
        was = await self._calls.expected(call)
        if was is not None or called:
            return was
        return next((each for each in await self._calls.beside(call) if is_near(each.outline, call.outline)), None)

    async def _first(self, entry: Entry) -> None:
        try:
            await entry.written()
        except Refused:
            entry.forget()  # it was not sent
            raise

    async def _opened(self, call: ModelCall, budgets: Sequence[Budget], question: Question) -> ModelCall:
        try:
            await self._compare(call, question)
            opened = await self._calls.open(call, budgets)
        except BudgetSpent as error:
            raise _spent(error) from error
        except StoreError as error:
            self._sure = False
            raise _away(error) from error
        self._sure = True
        return opened

    def _see_free(self, target: Target, body: bytes | None, budgets: Sequence[Budget]) -> None:
        """What is not understood may cost anything: under a budget nobody may ask for it."""
        if budgets and target.call is None and body is not None:
            raise Refused(403, "no-price", f"a budget applies, and what {target.below} costs is not known")


def _asked(body: bytes) -> Asked:
    found: Asked | None = read(body, Asked) if is_moderate(body) else None
    return found or Asked()  # the provider shall say what is wrong with it


def _is_dead(gateway: str) -> bool:
    """Of this machine, and certainly gone."""
    try:
        known = msgspec.json.decode(gateway, type=ProcessId)
    except msgspec.MsgspecError:
        return False
    here = (known.boot, known.namespace) == (proc.boot_id(), proc.pid_namespace())
    return here and proc.start_time(known.pid) != known.start


def _away(error: StoreError) -> Refused:
    return Refused(503, "store", f"the call cannot be written down now: {error.what}", retry=True)


def _spent(error: BudgetSpent) -> Refused:
    return Refused(402, "budget-spent", f"{error.what}: {error.why}")


def _tell(model: str) -> str:
    return f'say it in relit.toml, [prices."{model}"]'
