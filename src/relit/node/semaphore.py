"""The memory semaphore: looks how much is left, and has instances make room before the kernel does. What is to be done
is decided in ``pressure``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal

from relit.control.values import Activity
from relit.errors import RelitError, ServerUnreachable
from relit.lib import pageout
from relit.lib.clock import Clock
from relit.lib.durations import size
from relit.lib.footprint import Forest, look
from relit.node.gate import Gate
from relit.node.gauge import Gauge, Guest
from relit.node.instance import Instance
from relit.node.oom import rank
from relit.node.parked import Parked
from relit.node.race import to_tick
from relit.pressure.admission import Room
from relit.pressure.level import Pressure, marks, next_s, seen
from relit.pressure.shedding import REST_S, Choice, Shed, Tenant, choose, displaced, due, line, returns_s, scores

SHORT_S = 0.4  # between looks who could make room for a start that waits
LINE_S = 30.0  # between looks who would be next, while nobody has to go
IDLE_S = 5.0  # between looks who has had nothing to do for long
ASK_S = 1.0  # between questions who has something to do, while memory is short
SWAP = 1.2  # of what somebody holds has to be free there
NEXT = 5  # of those that would go, are told
KNOWN_S = 3.0  # so long an answer is believed
REMEMBERS_S = 1800.0  # how often an instance was parked
_RUNS = ("ready", "working", "idle", "starting")


class Semaphore:
    """Of one node. ``reserve``: bytes that the settings want free."""

    def __init__(
        self, room: Callable[[], Room], clock: Clock, gate: Gate, *, reserve: int,
        instances: Callable[[], Iterable[Instance]], activity: Callable[[], Awaitable[Activity]],
        snapshot: Callable[[str], Awaitable[object]], note: Callable[[str, dict[str, Any]], None],
        tell: Callable[[Gauge], None] = lambda gauge: None,
    ) -> None:  # fmt: skip
        self._tell = tell
        self._room = room
        self._clock = clock
        self._gate = gate
        self._reserve = reserve
        self._instances = instances
        self._activity = activity
        self._snapshot = snapshot
        self._refreshing: asyncio.Task[None] | None = None
        self._note = note
        self.pressure = Pressure()
        self._shed: list[Shed] = []
        self._sizes: dict[str, int] = {}
        self._members: dict[str, set[int]] = {}
        self._pages = pageout.allowed()
        self._told: dict[tuple[str, int], int] = {}
        self._known: tuple[float, Activity] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._busy_at: dict[str, float] = {}
        self._woken_at: dict[str, float] = {}
        self._parked_at: dict[str, list[float]] = {}
        self._were: set[str] = set()
        self._idle_at = self._line_at = 0.0
        self._next: list[str] = []

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                self.look()
                await to_tick(next_s(self.pressure, self._reserve))
        finally:
            for task in (self._asking, self._refreshing):
                if task is not None:
                    task.cancel()

    def reserve(self) -> int:
        """Bytes that a start leaves free, so that it does not make memory short."""
        now = self.pressure
        return max(self._reserve, marks(now.capacity, now.burst).amber) if now.capacity else self._reserve

    def look(self) -> None:
        """Once."""
        at, before = self._clock.monotonic(), self.pressure.level
        for each in self._instances():
            if each.hold.parked is not None and each.hold.parked.afresh and each.status.state == "stopped":
                each.hold.wake()
        self.pressure = now = seen(self.pressure, self._room(), at, reserve=self._reserve)
        if now.level != before:
            self._note("node.pressure", {"level": now.level, "before": before, **_figures(now)})
        self._see_woken(at)
        if now.level != "green":
            self._ask(ASK_S, at)
            self._make_room(at)
        elif at - self._idle_at >= (IDLE_S if self._gate.short(at) is None else SHORT_S):
            self._idle_at = at
            self._when_green(at)
        if at - self._line_at >= (LINE_S if self._next else IDLE_S):
            self._tenants(at)
        self._tell(self._gauge())

    # --- what is known ----------------------------------------------------------------------------------------------

    def _ask(self, every_s: float, at: float) -> None:
        """Who has something to do: in a task of its own, the server may be busy, too."""
        if self._known is not None and at - self._known[0] < every_s:
            return
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._learn())

    async def _learn(self) -> None:
        try:
            found = await self._activity()
        except ServerUnreachable:
            return  # then nobody is known to be idle
        at = self._clock.monotonic()
        self._known = at, found
        for agent in found.busy:
            self._busy_at[agent] = at

    def _tenants(self, at: float) -> list[Tenant]:
        """All that run and may be parked."""
        forest = Forest(look())
        sizes: dict[str, int] = {}
        roots: dict[str, int] = {}
        found = []
        for each in self._instances():
            spec, status = each.spec, each.status
            if (
                spec.demand is None
                or spec.hold is None
                or status.pid is None
                or status.state not in (*_RUNS, "draining")
            ):
                continue
            roots[spec.name] = status.pid
            held = sizes[spec.name] = forest.tree(status.pid)
            found.append(self._tenant(each, held, at))
        self._sizes, self._line_at = sizes, at
        self._next = [each.name for each in line(found) if not each.going][:NEXT]
        self._members = {each.name: forest.members(roots[each.name]) for each in found}
        self._tell_kernel(found, self._members)
        return found

    def _tell_kernel(self, tenants: list[Tenant], members: dict[str, set[int]]) -> None:
        """Whom to kill first, should it be faster than we are."""
        told = {(name, pid): score for name, score in scores(tenants).items() for pid in members[name]}
        for (name, pid), score in told.items():
            if self._told.get((name, pid)) != score:
                rank(pid, score)
        self._told = told

    def _tenant(self, each: Instance, held: int, at: float) -> Tenant:
        spec, agent = each.spec, each.status.agent or each.spec.name
        assert spec.demand is not None, "it is a tenant"
        known = self._known[1] if self._known is not None and at - self._known[0] <= KNOWN_S else None
        return Tenant(
            name=spec.name, priority=spec.demand.priority, resident=held,
            grown=held - self._sizes.get(spec.name, held),
            cost_s=self._gate.footprint(spec.demand).cpu_s,
            over=spec.memory is not None and held > spec.memory,
            idle=known is not None and agent not in known.busy and each.status.state != "starting",
            effect=known is not None and agent in known.effects,
            rested_s=at - self._busy_at.get(agent, 0.0),
            then=self._then(each, held),
            woken_at=self._woken_at.get(spec.name),
            going=each.hold.parked is not None,
        )  # fmt: skip

    def _gauge(self) -> Gauge:
        now, mark = self.pressure, marks(self.pressure.capacity, self.pressure.burst, self._reserve)
        known = {each.spec.name: each for each in self._instances()}
        parked = [each for each in known.values() if each.hold.parked is not None]
        waiting = {name: why for name, why in self._gate.waiting().items() if name in known}
        return Gauge(
            at_ms=self._clock.now_ms(), level=now.level, capacity=now.capacity, free=now.free, amber=mark.amber,
            red=mark.red, full_s=now.full_s, reserved=self._gate.reserved(), short=self._gate.lacking,
            going=self._gate.going(), next=self._next,
            waiting=[self._guest(known[name], why) for name, why in waiting.items()],
            parked=[self._guest(each, each.hold.parked.reason if each.hold.parked else "") for each in parked],
        )  # fmt: skip

    def _guest(self, each: Instance, why: str) -> Guest:
        needs = self._gate.footprint(each.spec.demand) if each.spec.demand is not None else None
        return Guest(
            name=each.spec.name, reason=why, peak=needs.peak if needs else 0, cpu_s=needs.cpu_s if needs else 0.0
        )

    def _then(self, each: Instance, held: int) -> Literal["keep", "freeze", "stop"]:
        """How it would be parked: who cannot go into swap frees nothing by standing still."""
        wanted = each.spec.parking.then
        if wanted != "freeze" or (self._pages and pageout.swap_free() >= held * SWAP):
            return wanted
        return "stop" if each.spec.parking.wakes else "keep"

    # --- what is done -----------------------------------------------------------------------------------------------

    def _make_room(self, at: float) -> None:
        if not due(self.pressure, self._shed, at):
            return
        if self.pressure.level == "amber" and at - self._line_at < SHORT_S:  # a look at everybody is dear
            return
        choice = choose(self.pressure, self._tenants(at), self._shed, at, self._reserve)
        if choice is not None:
            self._park(choice, at)

    def _park(self, choice: Choice, at: float) -> None:
        each = next(each for each in self._instances() if each.spec.name == choice.name)
        if choice.deed == "kill":  # before anything is written down: every millisecond counts
            for pid in self._members.get(choice.name, ()):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        self._remember(choice, at)
        parking, held = each.spec.parking, self._sizes.get(choice.name, 0)
        self._say(each, Parked(
            reason=choice.reason, deed=choice.deed, at_ms=self._clock.now_ms(), resident=held,
            times=len(self._parked_at[choice.name]),
            returns=not parking.wakes or (parking.then == "keep" and choice.deed != "kill"),
        ))  # fmt: skip

    def _remember(self, choice: Choice, at: float) -> None:
        held = self._sizes.get(choice.name, 0)
        self._shed = [*(one for one in self._shed if at - one.at < 60), Shed(
            choice.name, at, choice.deed, held, self.pressure.free
        )]  # fmt: skip
        times = [one for one in self._parked_at.get(choice.name, []) if at - one < REMEMBERS_S]
        self._parked_at[choice.name] = [*times, at]

    def _say(self, each: Instance, parked: Parked) -> None:
        """Where its file cannot be written (a full disk) it goes on, or is started again."""
        name = each.spec.name
        reason = parked.reason
        try:
            each.hold.park(parked)
            self._were.add(name)
        except OSError as error:
            reason += f" (not parked: {error.strerror})"
        data = {"instance": name, "deed": parked.deed, "reason": reason, "held": parked.resident}
        self._note("instance.parked", data | _figures(self.pressure))

    def _see_woken(self, at: float) -> None:
        for each in self._instances():
            name = each.spec.name
            if each.hold.parked is not None:
                self._were.add(name)
            elif name in self._were:
                self._were.discard(name)
                self._woken_at[name] = self._busy_at[each.status.agent or name] = at
                self._note("instance.woken", {"instance": name})

    def _when_green(self, at: float) -> None:
        """Bring back who comes back by itself, make room for who waits, park who has been idle for long."""
        for each in self._instances():
            parked = each.hold.parked
            if parked is not None and parked.returns and self._may_return(parked):
                each.hold.wake()
                return  # one at a time
        self._start_afresh(at)
        waiting = self._gate.short(at)
        patient = [
            each for each in self._instances() if each.spec.parking.after_ms is not None and each.hold.parked is None
        ]
        if waiting is None and not patient:
            return
        self._ask(IDLE_S / 2 if waiting is None else SHORT_S, at)
        if waiting is not None:
            choice = displaced(self.pressure, waiting, self._tenants(at), self._shed, at)
            if choice is not None:
                self._park(choice, at)
            return
        self._park_idle(patient, at)

    def _may_return(self, parked: Parked) -> bool:
        return self._clock.now_ms() - parked.at_ms >= returns_s(parked.times) * 1000

    def _start_afresh(self, at: float) -> None:
        """Who leaks, as soon as it rests; its home is snapshotted first."""
        leaky = [each for each in self._instances() if each.spec.soft is not None and each.hold.parked is None]
        if not leaky:
            return
        self._ask(IDLE_S / 2, at)
        found = {each.name: each for each in self._tenants(at)}
        for each in leaky:
            now, soft = found.get(each.spec.name), each.spec.soft or 0
            if now is not None and now.resident > soft and now.idle and not now.effect and now.rested_s >= REST_S:
                why = f"it held {size(now.resident)}, more than {size(soft)} (memory.soft): it is started afresh"
                if self._refreshing is None or self._refreshing.done():
                    self._refreshing = asyncio.get_running_loop().create_task(self._refresh(each, now.resident, why))
                return

    async def _refresh(self, each: Instance, held: int, why: str) -> None:
        if each.spec.care is not None:
            with contextlib.suppress(RelitError):  # without a snapshot the home is there all the same
                await self._snapshot(each.spec.care.agent)
        if each.hold.parked is None and each.status.state in _RUNS:
            now = self._clock.now_ms()
            self._say(each, Parked(reason=why, deed="stop", at_ms=now, returns=True, afresh=True, resident=held))

    def _park_idle(self, patient: list[Instance], at: float) -> None:
        if self._known is None or at - self._known[0] > IDLE_S + KNOWN_S:
            return
        busy = self._known[1].busy
        for each in patient:
            agent, after_ms = each.status.agent or each.spec.name, each.spec.parking.after_ms or 0
            if each.status.state not in ("ready", "idle") or agent in busy:
                self._busy_at[agent] = at
            elif at - self._busy_at.setdefault(agent, at) >= after_ms / 1000 and each.spec.parking.then != "keep":
                why = f"it had nothing to do for {after_ms // 1000} s"
                deed = self._then(each, self._sizes.get(each.spec.name, 0))
                self._park(Choice(each.spec.name, "freeze" if deed == "freeze" else "stop", why), at)


def _figures(now: Pressure) -> dict[str, Any]:
    """What was decided from, for events."""
    found = {"capacity": now.capacity, "free": now.free, "rate": round(now.rate), "burst": round(now.burst)}
    return found | ({"full_s": round(now.full_s, 1)} if now.full_s is not None else {})
