"""One call to a model, between the two times that it is written down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Literal

import msgspec

from relit.errors import PayloadError, StoreError
from relit.gateway import prices
from relit.gateway.answers import Blobs, Tape
from relit.gateway.prices import Price
from relit.gateway.refusal import Refused
from relit.gateway.soon import Soon
from relit.gateway.spool import Track
from relit.gateway.usage import Meter, Tokens
from relit.store.calls import Calls
from relit.store.values import Answer, ModelCall

_LOG = logging.getLogger(__name__)
_SEEN_LATER = 64, 16 << 10  # pieces of an answer, and bytes
_OWED = 8  # times that the store may be away when more is to be reserved
Ending = Literal["done", "failed", "cancelled", "cut"]
PriceOf = Callable[[str], Price | None]


class Opening:
    """A call that is written down soon, or at once when somebody waits for it."""

    def __init__(self, write: Callable[[], Coroutine[Any, Any, ModelCall]], soon: Soon) -> None:
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._due = soon.next()
        self._due.add_done_callback(self._is_due)
        self._writing: asyncio.Task[ModelCall] | None = None

    def _is_due(self, _: asyncio.Future[None]) -> None:
        self._begun()

    def _begun(self) -> asyncio.Task[ModelCall]:
        failed = self._writing is not None and self._writing.done() and self._writing.exception() is not None
        if self._writing is None or failed:  # the store may be back
            self._writing = self._loop.create_task(self._write())
        return self._writing

    async def done(self) -> None:
        """Raises what ``write`` raises."""
        self._due.remove_done_callback(self._is_due)
        await asyncio.shield(self._begun())


class Further:
    """What a call that sets itself no limit reserves beyond ``room`` tokens of its answer, as it comes. ``write``: so
    much in all, raises ``Refused``; ``step``: for as many tokens once more."""

    def __init__(self, write: Callable[[int], Awaitable[None]], room: int, step: int) -> None:
        self._write = write
        self._room = self._first = room
        self._step = step
        self._owed = 0

    def covers(self, tokens: int) -> bool:
        """Whether so many are reserved for."""
        return tokens <= self._room

    async def reserve(self, tokens: int) -> None:
        """Until they are. A store that is away for a moment does not end an answer: it may owe one step. Raises
        ``Refused``."""
        steps = (tokens - 1) // self._first
        try:
            await self._write(steps * self._step)
        except Refused as error:
            self._owed += 1
            if not error.retry or self._owed > _OWED:
                raise
            self._room = max(self._room, tokens) + self._first // _OWED
        else:
            self._owed = 0
            self._room = (steps + 1) * self._first


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
        track: Track | None = None,
        late: Callable[[Callable[[], Awaitable[None]]], None] = lambda again: None,
        soon: Soon | None = None,
    ) -> None:
        self._blobs = blobs
        self._track = track
        self._late = late
        self._soon = soon or Soon()
        self._tape: Tape | None = None
        self._calls = calls
        self._call = call
        self._price_of = price_of
        self._price = price
        self._sent = sent
        self._meter: Meter | None = None
        self._status = 0
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self.over = self._whole = False
        self.opening: Opening | None = None  # ``None``: it is on disk that the call is made
        self.more: Further | None = None  # ``None``: it cannot say more than was reserved for
        self.budgeted = False  # what it reserved and did not use goes back to somebody
        self.unheard = True  # the provider has certainly not got it, or has refused it

    @property
    def kept(self) -> bool:
        """Whether what is answered will be, for a later life of its turn."""
        return self._blobs is not None

    @property
    def streams(self) -> bool:
        """Whether its answer comes event by event."""
        return self._meter is not None and self._meter.streamed

    @property
    def spooled(self) -> bool:
        """Whether the next gateway finds it, whatever becomes of this one, and nobody waits for what it gives back to a
        budget."""
        return self._track is not None and self._track.there and not self.budgeted

    @property
    def affordable(self) -> bool:
        """Whether what it reserved suffices for what has come."""
        return self.more is None or self._meter is None or not self.streams or self.more.covers(_output(self._meter))

    async def afford(self) -> None:
        """Reserve more. Raises ``Refused``: a budget has no room for that."""
        if self.more is not None and self._meter is not None:
            await self.more.reserve(_output(self._meter))

    async def written(self) -> None:
        """It is on disk that the call is made. Raises ``Refused``: it cannot be, so nothing of it may be passed on."""
        if self.opening is not None:
            await self.opening.done()
            self.opening = None

    def began(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Its answer has."""
        found = {name.lower(): value for name, value in headers}
        self._status = status
        self._meter = Meter(found.get("content-type", ""), found.get("content-encoding", ""))
        self._tape = Tape(status, list(headers)) if self._blobs is not None and status == 200 else None
        if self._track is not None and self._spools:
            self._track.head(status, headers)

    def read(self, piece: bytes) -> None:
        """A piece of the answer passes. Unless it must be paid for at once, it is looked at later, with others: to look
        at each takes as long as to pass it on."""
        self._unread.append(piece)
        self._unread_bytes += len(piece)
        most, most_bytes = _SEEN_LATER
        if self.more is not None or len(self._unread) >= most or self._unread_bytes > most_bytes:
            self._look()
        if self._track is not None and self._spools:
            self._track.write(piece)

    def _look(self) -> None:
        for piece in self._unread:
            if self._meter is not None:
                self._meter.read(piece)
            if self._tape is not None:
                self._tape.read(piece)
        self._unread.clear()
        self._unread_bytes = 0

    @property
    def _spools(self) -> bool:
        return self.streams and self._status == 200

    def whole(self) -> None:
        """All of its answer has come: however it ends, that is what counts."""
        self._whole = True
        if self._track is not None and self._spools:
            self._track.whole()

    async def outcome(self, state: Ending, why: str = "") -> tuple[ModelCall, Answer | None]:
        """How it ended, and what is kept of its answer."""
        return self.ended(state, why), await self._kept(state)

    async def end_soon(self) -> None:
        """It is done, and nobody waits until that is written down. Nothing is to be made ready then: who is first would
        be taken alone."""
        self.over = True
        call, kept = await self.outcome("done")
        await asyncio.shield(self._soon.next())
        await self._surely(call, kept)

    async def end(self, state: Ending, why: str = "") -> None:
        """Write down how it ended; the first word counts. While the store is away it is tried again and again, else by
        the next gateway."""
        if self.over:
            return
        self.over = True
        if self._whole:
            state, why = "done", ""
        await self._surely(*await self.outcome(state, why))

    async def _surely(self, call: ModelCall, kept: Answer | None) -> None:
        async def again() -> None:
            await self._write(call, await self._kept(call.state))

        try:
            await self._write(call, kept)
        except (StoreError, Refused) as error:
            _LOG.warning("how a call of %s ended is written down later: %s", call.agent, error)
            self._late(again)

    async def _write(self, call: ModelCall, kept: Answer | None) -> None:
        await self.written()
        await self._calls.end(call, kept)
        self.forget()

    def forget(self) -> None:
        """The next gateway has nothing to do about it."""
        if self._track is not None:
            self._track.remove()

    def ended(self, state: Ending, why: str) -> ModelCall:
        """The call, with what it has used."""
        self._look()
        tokens, said = self._used(state)
        meter = self._meter
        model = meter.model if meter is not None and meter.model else self._call.model
        price = self._price_of(model) or self._price
        least = self._call.reserved if not said and self._is_unseen(state) else 0
        return msgspec.structs.replace(
            self._call, state=state, status=self._status, why=_plain(why), model=model, input=tokens.input,
            output=tokens.output, cached=tokens.cached, written=tokens.written, estimated=not said,
            cost=max(least, prices.cost(tokens, price)),
        )  # fmt: skip

    def _is_unseen(self, state: Ending) -> bool:
        """Whether it may have been answered, and nobody knows at what length. A stream ends with its connection; what
        comes in one piece was made before."""
        if self._meter is None:
            return True
        return state != "done" and not self._meter.streamed and self._meter.tokens is None

    async def _kept(self, state: str) -> Answer | None:
        if self._tape is None or self._blobs is None or state != "done" or not self._is_answer:
            return None
        try:
            return await self._tape.answer(self._blobs)
        except (StoreError, PayloadError) as error:
            _LOG.warning("an answer to %s is not kept: %s", self._call.agent, error)
            return None

    @property
    def _is_answer(self) -> bool:
        """A provider may say in the middle of one, or with a status of 200, that it has failed: the next life asks
        again."""
        return self._meter is not None and self._meter.finished and not self._meter.failed

    def _used(self, state: Ending) -> tuple[Tokens, bool]:
        """And whether the provider said so. What it may charge for counts, also where nobody waited for its answer."""
        if self._status >= 400 or (self._meter is None and self.unheard):
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


def _output(meter: Meter) -> int:
    """Tokens so far."""
    told = meter.tokens.output if meter.tokens is not None else 0
    return max(told, prices.estimate(0, meter.said).output)


def _plain(text: str) -> str:
    """As every database takes it: what others sent may be quoted in it."""
    return text[:500].replace("\0", "").encode(errors="replace").decode()
