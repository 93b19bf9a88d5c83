"""The memory semaphore: looks how much is left, and has instances make room before the kernel does. What is to be done
is decided in ``pressure``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from relit.control.values import Activity
from relit.errors import RelitError
from relit.lib import proc
from relit.lib.clock import Clock
from relit.lib.durations import size
from relit.lib.pageout import page_out
from relit.node.census import RUNS, Census, agent_of
from relit.node.gate import Gate
from relit.node.gauge import Gauge, Guest
from relit.node.instance import Instance
from relit.node.parked import Parked, rests_s
from relit.node.race import to_tick
from relit.pressure.admission import Room
from relit.pressure.level import Pressure, marks, next_s, seen
from relit.pressure.shedding import REST_S, Choice, Shed, Tenant, choose, cold, displaced, due, returns_s

_LOG = logging.getLogger(__name__)
SHORT_S = 0.4  # between looks who could make room for a start that waits
DULL_S = 2.0  # and when nobody could
LINE_S = 30.0  # between looks who would be next, while nobody has to go
IDLE_S = 5.0  # between looks who has had nothing to do for long
ASK_S = 1.0  # between questions who has something to do, while memory is short
REMEMBERS_S = 1800.0  # how often an instance was parked


class Semaphore:
    """Of one node. ``reserve``: bytes that the settings want free; ``sample``: called at each look."""

    def __init__(
        self, room: Callable[[], Room], clock: Clock, gate: Gate, *, reserve: int,
        instances: Callable[[], Iterable[Instance]], activity: Callable[[], Awaitable[Activity]],
        snapshot: Callable[[str], Awaitable[object]], note: Callable[[str, dict[str, Any]], None],
        tell: Callable[[Gauge], None] = lambda gauge: None, sample: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._room = room
        self._clock = clock
        self._gate = gate
        self._reserve = reserve
        self._instances = instances
        self._snapshot = snapshot
        self._note = note
        self._tell = tell
        self._sample = sample
        self.census = Census(clock, gate, instances, activity)
        self._deed: asyncio.Task[None] | None = None  # of those that are asked once more before they go
        self.pressure = Pressure()
        self._shed: list[Shed] = []
        self._moved: dict[str, float] = {}  # into swap: when
        self._parked_at: dict[str, list[float]] = {}
        self._were: set[str] = set()
        self._idle_at = self._dull_until = 0.0

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                self.look()
                await to_tick(next_s(self.pressure, self._reserve))
        finally:
            self.census.stop()
            if self._deed is not None:
                self._deed.cancel()

    def reserve(self) -> int:
        """Bytes that a start leaves free, so that it does not make memory short."""
        now = self.pressure
        return max(self._reserve, marks(now.capacity, now.burst).amber) if now.capacity else self._reserve

    def look(self) -> None:
        """Once."""
        at, before = self._clock.monotonic(), self.pressure.level
        self._sample()
        self.pressure = now = seen(self.pressure, self._room(), at, reserve=self._reserve)
        if now.level != before:
            self._dull_until = 0.0
            self._note("node.pressure", {"level": now.level, "before": before, **_figures(now)})
        self._see_parked(at)
        if now.level != "green":
            self.census.ask(ASK_S, at)
            self._make_room(at)
        elif at - self._idle_at >= (IDLE_S if self._gate.short(at) is None else SHORT_S):
            self._idle_at = at
            self._when_green(at)
        if at - self.census.taken_at >= (LINE_S if self.census.next else IDLE_S):
            self.census.tenants(at)
        self._tell(self._gauge())

    def _gauge(self) -> Gauge:
        now, mark = self.pressure, marks(self.pressure.capacity, self.pressure.burst, self._reserve)
        known = {each.spec.name: each for each in self._instances()}
        waiting = {name: why for name, why in self._gate.waiting().items() if name in known}
        parked = [self._sleeper(each, why) for each in known.values() if (why := each.hold.parked) is not None]
        return Gauge(
            at_ms=self._clock.now_ms(), level=now.level, capacity=now.capacity, free=now.free, amber=mark.amber,
            red=mark.red, full_s=now.full_s, reserved=self._gate.reserved(), short=self._gate.lacking,
            going=self._gate.going(), next=self.census.next,
            waiting=[self._guest(known[name], why) for name, why in waiting.items()], parked=parked,
            waiting_count=len(waiting), parked_count=len(parked), wake_cpu_s=sum(each.cpu_s for each in parked),
        )  # fmt: skip

    def _sleeper(self, each: Instance, why: Parked) -> Guest:
        """One that is frozen comes back without a start."""
        if why.deed == "freeze":
            return Guest(name=each.spec.name, reason=why.reason, peak=why.resident)
        return self._guest(each, why.reason)

    def _guest(self, each: Instance, why: str) -> Guest:
        if each.spec.demand is None:
            return Guest(name=each.spec.name, reason=why)
        needs = self._gate.footprint(each.spec.demand)
        return Guest(name=each.spec.name, reason=why, peak=needs.peak, cpu_s=needs.cpu_s)

    # --- when memory is short ---------------------------------------------------------------------------------------

    def _make_room(self, at: float) -> None:
        if at < self._dull_until or not due(self.pressure, self._shed, at):
            return
        if self.pressure.level == "amber" and at - self.census.taken_at < SHORT_S:  # a look at everybody is dear
            return
        tenants = self.census.tenants(at)
        choice = choose(self.pressure, tenants, self._shed, at, self._reserve)
        if choice is None:
            self._move_out(tenants, at)
            self._dull_until = at + (DULL_S if self.pressure.level == "amber" else SHORT_S)
        elif self.pressure.level == "red":
            self._park(choice, at)
        else:
            self._begin(self._park_gently(choice))

    def _move_out(self, tenants: Sequence[Tenant], at: float) -> None:
        """Nobody can be parked: memory that is not in use."""
        for found in cold(self.pressure, tenants, self._moved, at):
            if self.census.fits_swap(found.resident):
                if self._begin(self._move_into_swap(found)):
                    self._moved[found.name] = at
                return

    async def _move_into_swap(self, tenant: Tenant) -> None:
        pids = self.census.members.get(tenant.name, set())
        try:
            await asyncio.to_thread(page_out, pids)
        except OSError as error:
            _LOG.warning("memory of %s was not moved into swap: %s", tenant.name, error)
            return
        now = sum(map(proc.resident, pids))
        data = {"instance": tenant.name, "held": tenant.resident, "holds": now}
        self._note("instance.paged", data | _figures(self.pressure))

    async def _park_gently(self, choice: Choice) -> None:
        """Unless a message has come for it since it was looked at."""
        found = await self.census.learn()
        each = self._named(choice.name)
        if found is None or each is None or agent_of(each) in found.busy:
            return
        if each.hold.parked is None and each.status.state in RUNS:
            self._park(choice, self._clock.monotonic())

    def _begin(self, deed: Coroutine[Any, Any, None]) -> bool:
        """One at a time. False: not now."""
        if self._deed is None or self._deed.done():
            self._deed = asyncio.get_running_loop().create_task(deed)
            return True
        deed.close()
        return False

    def _named(self, name: str) -> Instance | None:
        return next((each for each in self._instances() if each.spec.name == name), None)

    def _park(self, choice: Choice, at: float) -> None:
        each, held = self._named(choice.name), self.census.sizes.get(choice.name, 0)
        if each is None:
            return
        self._shed = [one for one in self._shed if at - one.at < 60]
        self._shed.append(Shed(choice.name, at, choice.deed, held, self.pressure.free))
        times = [one for one in self._parked_at.get(choice.name, []) if at - one < REMEMBERS_S]
        if each.hold.parked is None or not times:  # else it went, but too slowly: the same parking
            times = [*times, at]
        self._parked_at[choice.name] = times
        now, count = self._clock.now_ms(), len(times)
        self._say(each, Parked(reason=choice.reason, deed=choice.deed, at_ms=now, resident=held, times=count))
        if choice.deed == "kill":  # at once: its instance follows, but not within a millisecond
            for pid in self.census.members.get(choice.name, ()):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def _say(self, each: Instance, parked: Parked) -> None:
        """Where its file cannot be written (a full disk) it goes on, or is started again."""
        name, reason = each.spec.name, parked.reason
        try:
            each.hold.park(parked)
            self._were.add(name)
        except OSError as error:
            reason += f" (not parked: {error.strerror})"
        data = {"instance": name, "deed": parked.deed, "reason": reason, "held": parked.resident}
        self._note("instance.parked", data | _figures(self.pressure))

    # --- those that are parked ----------------------------------------------------------------------------------------

    def _see_parked(self, at: float) -> None:
        """Who was woken, who is to be: also one for whom a message came in the very moment in which he was parked."""
        somebody = False
        for each in self._instances():
            name, now = each.spec.name, each.hold.parked
            if now is None:
                self._see_woken(each, at)
                continue
            self._were.add(name)
            if now.afresh and each.status.state == "stopped":
                each.hold.wake()
            elif each.spec.parking.wakes:
                somebody = True
                if self._is_wanted(each, max(self._parked_at.get(name) or [0.0])):
                    each.hold.wake()
        if somebody:
            self.census.ask(IDLE_S, at)
        names = {each.spec.name for each in self._instances()}
        self._were &= names
        self._moved = {name: when for name, when in self._moved.items() if name in names}

    def _see_woken(self, each: Instance, at: float) -> None:
        name = each.spec.name
        if name in self._were:
            self._were.discard(name)
            self.census.woken_at[name] = self.census.busy_at[agent_of(each)] = at
            self._note("instance.woken", {"instance": name})

    def _is_wanted(self, each: Instance, since: float) -> bool:
        """Whether it has something to do, by an answer that is newer than its parking."""
        known, now = self.census.known, each.hold.parked
        if now is None or rests_s(now, self._clock.now_ms()):
            return False
        return known is not None and known[0] > since and agent_of(each) in known[1].busy

    # --- when there is room -------------------------------------------------------------------------------------------

    def _when_green(self, at: float) -> None:
        """Bring back who comes back by itself, make room for who waits, park who has been idle for long."""
        for each in self._instances():
            if each.hold.parked is not None and self._may_return(each, each.hold.parked):
                each.hold.wake()
                return  # one at a time
        waiting = self._gate.short(at)
        if waiting is not None:
            self.census.ask(SHORT_S, at)
            if at >= self._dull_until:
                choice = displaced(self.pressure, waiting, self.census.tenants(at), self._shed, at)
                self._dull_until = at + DULL_S if choice is None else 0.0
                self._begin_with(choice)
            return
        self._start_afresh(at)
        self._park_idle(at)

    def _begin_with(self, choice: Choice | None) -> None:
        if choice is not None:
            self._begin(self._park_gently(choice))

    def _may_return(self, each: Instance, parked: Parked) -> bool:
        """Of those that no message wakes, by their settings as they are now."""
        parking, now = each.spec.parking, self._clock.now_ms()
        waited = now - parked.at_ms >= returns_s(parked.times) * 1000 or now < parked.at_ms
        return waited and (not parking.wakes or parking.then == "keep")

    def _start_afresh(self, at: float) -> None:
        """Who leaks, as soon as it rests; its home is snapshotted first."""
        leaky = {each.spec.name: each for each in self._instances() if each.spec.soft and each.hold.parked is None}
        if not leaky:
            return
        self.census.ask(IDLE_S / 2, at)
        for now in self.census.tenants(at):
            each = leaky.get(now.name)
            soft = each.spec.soft if each is not None else None
            rests = now.idle and not now.effect and not now.frozen and now.rested_s >= REST_S
            if each is not None and soft is not None and now.resident > soft and rests:
                why = f"it held {size(now.resident)}, more than {size(soft)} (memory.soft): it is started afresh"
                self._begin(self._refresh(each, now.resident, why))
                return

    async def _refresh(self, each: Instance, held: int, why: str) -> None:
        with contextlib.suppress(RelitError):  # without a snapshot the home is there all the same
            await self._snapshot(agent_of(each))
        found = await self.census.learn()
        if found is None or agent_of(each) in found.busy:
            return
        if each.hold.parked is None and each.status.state in RUNS:
            now = self._clock.now_ms()
            self._say(each, Parked(reason=why, deed="stop", at_ms=now, afresh=True, resident=held))

    def _park_idle(self, at: float) -> None:
        patient = [each for each in self._instances() if each.spec.parking.after_ms and each.hold.parked is None]
        if not patient:
            return
        self.census.ask(IDLE_S / 2, at)
        known = self.census.known
        for each in patient:
            agent, after_ms = agent_of(each), each.spec.parking.after_ms or 0
            busy = known is None or agent in known[1].busy or each.status.state not in ("ready", "idle")
            since = self.census.busy_at.get(agent, at)
            if not busy and at - since >= after_ms / 1000 and each.spec.parking.then != "keep":
                deed = self.census.then(each, self.census.sizes.get(each.spec.name, 0))
                why = f"it had nothing to do for {after_ms // 1000} s"
                self._begin(self._park_gently(Choice(each.spec.name, "freeze" if deed == "freeze" else "stop", why)))


def _figures(now: Pressure) -> dict[str, Any]:
    """What was decided from, for events."""
    found = {"capacity": now.capacity, "free": now.free, "rate": round(now.rate), "burst": round(now.burst)}
    return found | ({"full_s": round(now.full_s, 1)} if now.full_s is not None else {})
