"""The gate that starts pass: one after the other where memory or CPU is short. Who may is decided in ``pressure``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from relit.control.values import Demand
from relit.lib.clock import Clock
from relit.lib.footprint import Forest, look
from relit.node.race import beat
from relit.pressure.admission import Going, Room, Verdict, Waiting, admit, line, set_aside
from relit.pressure.footprint import Footprint, learnt

LOOK_S = 0.5  # while something starts, or waits
FRESH_S = 0.1  # so long a look at the machine's memory is believed
STEADY = 0.03  # a tree that has grown by no more than this share between looks, so often, has settled
STEADY_LOOKS = 4
PATIENT_S = 2.0  # before others make room for the first in line
SETTLES_S = 30.0  # after it was ready; what still grows then is no start


class Ticket:
    """A start that was let in. What it takes is set aside for it until it has settled, or is over."""

    def __init__(self, name: str, demand: Demand, footprint: Footprint) -> None:
        self.name = name
        self.demand = demand
        self.footprint = footprint
        self.pid: int | None = None
        self.over = False
        self._ready_at: float | None = None
        self._peak = 0
        self._last = 0
        self._steady = 0
        self._cpu_s = 0.0

    def of(self, pid: int) -> None:
        """It runs."""
        self.pid = pid

    def ready(self, now: float) -> None:
        """It takes work."""
        if self._ready_at is None:
            self._ready_at = now

    def close(self) -> None:
        """It is no start any more. Safe twice."""
        self.over = True

    def going(self) -> Going:
        """As admission sees it."""
        return Going(self.name, self.footprint, self._last, self._ready_at is not None)

    def saw(self, resident: int, cpu_s: float, now: float) -> Footprint | None:
        """A look at its tree. A footprint when it has settled: what this start took."""
        if resident == 0 and self.pid is not None:
            self.over = True  # it is gone
            return None
        self._steady = self._steady + 1 if abs(resident - self._last) <= STEADY * resident else 0
        self._peak, self._last = max(self._peak, resident), resident
        if self._ready_at is None:
            return None
        self._cpu_s = self._cpu_s or cpu_s
        if self._steady < STEADY_LOOKS and now - self._ready_at < SETTLES_S:
            return None
        self.over = True
        return Footprint(self._peak, resident, self._cpu_s)


class _Waiter:
    def __init__(self, waiting: Waiting, demand: Demand, told: Callable[[str], None]) -> None:
        self.waiting, self.demand, self.told, self.reason = waiting, demand, told, ""
        self.admitted: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()


class Gate:
    """Of one node. ``known``: footprints by what was started (``Demand.of``); ``reserve`` says how many bytes are to
    stay free;
    ``at_once``: starts that cost CPU, at one time. ``changed``: something was learnt."""

    def __init__(
        self, room: Callable[[], Room], clock: Clock, *, reserve: Callable[[], int], at_once: int,
        known: Mapping[str, Footprint], changed: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._room = room
        self._clock = clock
        self._reserve = reserve
        self._at_once = at_once
        self.known = dict(known)
        self._changed = changed
        self._going: list[Ticket] = []
        self._waiters: dict[str, _Waiter] = {}
        self._news = asyncio.Event()
        self._seen: tuple[float, Room] | None = None
        self._short = 0

    def pass_now(self, name: str, demand: Demand) -> Ticket | None:
        """Let it in if nobody needs to wait; ``None``: ``enter`` does."""
        if self._waiters:
            return None
        asks = self._asks(name, demand)
        return self._let_in(name, demand) if asks.name in self._decide([asks]).start else None

    def passed(self, name: str, demand: Demand) -> Ticket:
        """It has started already."""
        return self._let_in(name, demand)

    async def enter(self, name: str, demand: Demand, told: Callable[[str], None]) -> Ticket:
        """When there is room. ``told`` hears why not yet, whenever that changes."""
        waiter = self._waiters[name] = _Waiter(self._asks(name, demand), demand, told)
        self._news.set()
        try:
            return await waiter.admitted
        except asyncio.CancelledError:
            if waiter.admitted.done() and not waiter.admitted.cancelled():  # in the very moment
                waiter.admitted.result().close()
            raise
        finally:
            del self._waiters[name]

    async def run(self) -> None:
        """For ever: look at what starts, and let in who waits."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._going or self._waiters:
                self.look()
                await beat(LOOK_S)

    def look(self) -> None:
        """Once."""
        now = self._clock.monotonic()
        measured = [each for each in self._going if each.pid is not None and not each.over]
        forest = Forest(look() if measured else {})
        for each in measured:
            root = each.pid or 0
            if (sample := each.saw(forest.tree(root), forest.cpu_s(root), now)) is not None:
                self.known[each.demand.of] = learnt(self.footprint(each.demand), sample)
                self._changed()
        self._going = [each for each in self._going if not each.over]
        waiting = {name: each for name, each in self._waiters.items() if not each.admitted.done()}
        if not waiting:
            return
        verdict = self._decide([each.waiting for each in waiting.values()])
        self._short = verdict.short
        for name in verdict.start:
            waiting[name].admitted.set_result(self._let_in(name, waiting[name].demand))
        for name, reason in verdict.reasons.items():
            if waiting[name].reason != reason:
                waiting[name].reason = reason
                waiting[name].told(reason)

    def _decide(self, waiting: list[Waiting]) -> Verdict:
        now = self._clock.monotonic()
        if self._seen is None or now - self._seen[0] > FRESH_S:
            self._seen = (now, self._room())
        going = [each.going() for each in self._going if not each.over]
        return admit(self._seen[1], going, waiting, reserve=self._reserve(), at_once=self._at_once, now=now)

    def _let_in(self, name: str, demand: Demand) -> Ticket:
        ticket = Ticket(name, demand, self.footprint(demand))
        self._going.append(ticket)
        self._news.set()
        return ticket

    def _asks(self, name: str, demand: Demand) -> Waiting:
        return Waiting(name, self.footprint(demand), demand.priority, self._clock.monotonic())

    def short(self, now: float) -> Waiting | None:
        """Who is first in line and has waited for memory for a moment."""
        first = next(iter(line([each.waiting for each in self._waiters.values()], now)), None)
        return first if first is not None and self._short and now - first.since >= PATIENT_S else None

    def waiting(self) -> dict[str, str]:
        """Who waits, and why; the first in line first."""
        now = self._clock.monotonic()
        return {each.name: self._waiters[each.name].reason for each in line(
            [waiter.waiting for waiter in self._waiters.values()], now
        )}  # fmt: skip

    def going(self) -> list[str]:
        """Whose starts are under way."""
        return [each.name for each in self._going if not each.over]

    def reserved(self) -> int:
        """Bytes that they will still take."""
        return set_aside([each.going() for each in self._going if not each.over])

    @property
    def lacking(self) -> int:
        """Bytes that the first in line lacks."""
        return self._short if self._waiters else 0

    def footprint(self, demand: Demand) -> Footprint:
        """What is known of it, or else what was said."""
        return self.known.get(demand.of) or Footprint(demand.peak, demand.settled, demand.cpu_s)
