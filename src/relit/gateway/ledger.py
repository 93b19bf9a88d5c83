"""Every call to a model is written down: before it is sent, with what it may cost, and when it has ended, with what it
did. Two commits a call. A call that no budget has room for is not made."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from relit.errors import BudgetSpent, PayloadError, StoreError
from relit.gateway import prices
from relit.gateway.answers import Blobs, Kept, Tape, whole
from relit.gateway.matching import Mask, Match, match_of
from relit.gateway.prices import FREE, Price
from relit.gateway.reading import read
from relit.gateway.refusal import Refused
from relit.gateway.routes import Caller, Route
from relit.gateway.spool import Spool, Track
from relit.gateway.target import Target
from relit.gateway.usage import Meter, Tokens
from relit.lib import proc
from relit.lib.ids import new_id
from relit.lib.proc import ProcessId
from relit.store.calls import Calls
from relit.store.values import Answer, Budget, ModelCall, Turn

_LOG = logging.getLogger(__name__)
_LARGE = 256 << 10  # bytes of a request that is looked through beside the others
MODELS = 1_000  # whose prices are at hand: agents ask for few
Ending = Literal["done", "failed", "cancelled", "cut"]
PriceOf = Callable[[str], Price | None]


class Asked(msgspec.Struct, frozen=True):
    """What of a request's body decides what it costs."""

    model: Any = ""
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    n: Any = None
    background: Any = None


@dataclass(frozen=True)
class Question:
    """``match``: what it asks; ``None`` where its answer is not kept."""

    turn: Turn
    match: Match | None = None

    @property
    def again(self) -> tuple[str, str]:
        """The same for the same call of another life of the turn."""
        return self.turn.run, self.match.key if self.match is not None else ""


class Ledger:
    """Of one gateway. ``own`` prices go before the known ones; budgets by agent and by route. With ``blobs`` answers of
    turns are kept; ``masks`` by agent; ``spool``: where those that stream lie while they come. ``alone``: no other
    machine has a gateway on the same store."""

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
    ) -> None:
        self._alone = alone
        self._calls = calls
        self._blobs = blobs
        self._masks = masks or {}
        self._spool = spool
        self._price_of = functools.lru_cache(MODELS)(functools.partial(prices.price_of, own=own))
        self._agents = agents
        self._routes = routes
        self._me = msgspec.json.encode(proc.myself()).decode()

    async def start(self) -> None:
        """End what gateways left open that are no more: it may have been paid for."""
        tracks = self._spool.calls() if self._spool is not None else set()
        for call in await self._calls.open_calls():
            if self.is_gone(call.gateway):
                await self._calls.end(self._cut(call))
            else:
                tracks.discard(call.id)
        if self._spool is not None:
            self._spool.remove(tracks)

    def _cut(self, call: ModelCall) -> ModelCall:
        """As far as it is known what it said, that counts; else what was reserved for it."""
        why = "its gateway died"
        left = self._spool.left(call.id) if self._spool is not None else None
        if left is None:
            return msgspec.structs.replace(call, state="cut", why=why, cost=call.reserved, estimated=True)
        price = self._price_of(call.model) or FREE
        entry = Entry(self._calls, call, self._price_of, price, left.head.sent)
        entry.began(left.head.status, left.head.headers)
        entry.read(left.body)
        return entry.ended("cut", why)

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
        except StoreError as error:
            raise _away(error) from error
        if self._blobs is None or not turn.run or body is None or target.call in (None, "tokens"):
            return Question(turn)
        hidden = self._masks.get(caller.agent, ())
        if len(body) > _LARGE:
            return Question(turn, await asyncio.to_thread(match_of, target.below, body, hidden))
        return Question(turn, match_of(target.below, body, hidden))

    async def replay(self, caller: Caller, route: Route, question: Question) -> Kept | None:
        """The answer that an earlier life of the turn got to the same call; ``None``: it is to be made."""
        if question.match is None or self._blobs is None:
            return None
        call = ModelCall(
            id=new_id(), agent=caller.agent, run=question.turn.run, route=route.name, gateway=self._me,
            life=question.turn.life, lane=question.match.lane, key=question.match.key,
        )  # fmt: skip
        try:
            source = await self._calls.replay(call)
            answer = await self._calls.answer(source.id) if source is not None else None
            return None if answer is None else await whole(answer, self._blobs)
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
        price = price or FREE
        call = ModelCall(
            id=new_id(),
            agent=caller.agent,
            run=question.turn.run,
            life=question.turn.life,
            lane=question.match.lane if question.match else "",
            key=question.match.key if question.match else "",
            route=route.name,
            protocol=str(target.call),
            model=model,
            gateway=self._me,
            reserved=prices.reserve(str(target.call), len(body or b""), msgspec.to_builtins(asked), price),
        )
        blobs = self._blobs if question.match is not None else None
        opened = await self._opened(call, budgets)
        return Entry(self._calls, opened, self._price_of, price, len(body or b""), blobs, self._spool)

    async def _opened(self, call: ModelCall, budgets: Sequence[Budget]) -> ModelCall:
        try:
            return await self._calls.open(call, budgets)
        except BudgetSpent as error:
            raise Refused(402, "budget-spent", f"{error.what}: {error.why}") from error
        except StoreError as error:
            raise _away(error) from error

    def _see_free(self, target: Target, body: bytes | None, budgets: Sequence[Budget]) -> None:
        """What is not understood may cost anything: under a budget nobody may ask for it."""
        if budgets and target.call is None and body is not None:
            raise Refused(403, "no-price", f"a budget applies, and what {target.below} costs is not known")


class Entry:
    """One call under way. ``began`` and ``read`` follow its answer."""

    def __init__(
        self,
        calls: Calls,
        call: ModelCall,
        price_of: PriceOf,
        price: Price,
        sent: int,
        blobs: Blobs | None = None,
        spool: Spool | None = None,
    ) -> None:
        self._blobs = blobs
        self._spool = spool
        self._track: Track | None = None
        self._tape: Tape | None = None
        self._calls = calls
        self._call = call
        self._price_of = price_of
        self._price = price
        self._sent = sent
        self._meter: Meter | None = None
        self._status = 0
        self._over = False
        self.unheard = False  # the provider has certainly not got it

    @property
    def kept(self) -> bool:
        """Whether what is answered will be, for a later life of its turn."""
        return self._blobs is not None

    @property
    def streams(self) -> bool:
        """Whether its answer comes event by event."""
        return self._meter is not None and self._meter.streamed

    def began(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Its answer has."""
        found = {name.lower(): value for name, value in headers}
        self._status = status
        self._meter = Meter(found.get("content-type", ""), found.get("content-encoding", ""))
        self._tape = Tape(status, list(headers)) if self._blobs is not None and status == 200 else None
        if self._spool is not None and self._tape is not None and self.streams:
            self._track = self._spool.begin(self._call.id, status, headers, self._sent)

    def read(self, piece: bytes) -> None:
        """A piece of the answer passes."""
        assert self._meter is not None, "it has begun"
        self._meter.read(piece)
        if self._tape is not None:
            self._tape.read(piece)
        if self._track is not None:
            self._track.write(piece)

    async def end(self, state: Ending, why: str = "") -> None:
        """Write down how it ended; the first word counts. When the store is away, the next gateway does it."""
        if self._over:
            return
        self._over = True
        call = self.ended(state, why)
        try:
            await self._calls.end(call, await self._kept(state))
        except StoreError as error:
            _LOG.warning("how a call of %s ended could not be written down: %s", call.agent, error)
            self._let_go(written=False)
        else:
            self._let_go(written=True)

    def _let_go(self, *, written: bool) -> None:
        if self._track is not None:
            (self._track.remove if written else self._track.close)()

    def ended(self, state: Ending, why: str) -> ModelCall:
        """The call, with what it has used."""
        tokens, said = self._used(state)
        meter = self._meter
        model = meter.model if meter is not None and meter.model else self._call.model
        price = self._price_of(model) or self._price
        return msgspec.structs.replace(
            self._call, state=state, status=self._status, why=_plain(why), model=model, input=tokens.input,
            output=tokens.output, cached=tokens.cached, written=tokens.written, estimated=not said,
            cost=prices.cost(tokens, price),
        )  # fmt: skip

    async def _kept(self, state: Ending) -> Answer | None:
        if self._tape is None or self._blobs is None or state != "done":
            return None
        try:
            return await self._tape.answer(self._blobs)
        except (StoreError, PayloadError) as error:
            _LOG.warning("an answer to %s is not kept: %s", self._call.agent, error)
            return None

    def _used(self, state: Ending) -> tuple[Tokens, bool]:
        """And whether the provider said so. What it may charge for counts, also where nobody waited for its answer."""
        if self._status >= 400 or (self._meter is None and (self.unheard or state == "failed")):
            return Tokens(), True
        if self._meter is None:
            return prices.estimate(self._sent, 0), False
        self._meter.end()
        told, guess = self._meter.tokens, prices.estimate(self._sent, self._meter.said)
        if told is None:
            return guess, False
        if state == "done":
            return told, True
        return msgspec.structs.replace(told, output=max(told.output, guess.output)), False


def _plain(text: str) -> str:
    """As every database takes it: what others sent may be quoted in it."""
    return text[:500].replace("\0", "").encode(errors="replace").decode()


def _asked(body: bytes) -> Asked:
    found: Asked | None = read(body, Asked)
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


def _tell(model: str) -> str:
    return f'say it in relit.toml, [prices."{model}"]'
