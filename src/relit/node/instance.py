"""One instance: started, watched, started again, healed, stopped. What to do is decided in ``ladder``."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Sequence
from functools import partial
from random import Random
from typing import Any, TypeVar, cast

import msgspec

from relit.control.care import Care, Incident, KnownGood, Ladder
from relit.control.values import WAITS, Death, InstanceSpec, InstanceState, InstanceStatus
from relit.drivers.base import Driver, Exit, Life
from relit.errors import Conflict, InstanceHeld, KeeperUnreachable, RelitError
from relit.lib import proc
from relit.lib.clock import Clock
from relit.node import probe
from relit.node.edits import FRESH_MS, Edits
from relit.node.follower import Follower
from relit.node.gate import Gate, Ticket
from relit.node.healing import Healing
from relit.node.holds import Hold
from relit.node.ladder import (
    SAID,
    Ending,
    History,
    Verdict,
    adopts,
    asks,
    at_once,
    classify,
    count,
    decide,
    never_at_once,
    over,
    undone,
)
from relit.node.listener import Listener
from relit.node.oom import OURS, OomLog, rank
from relit.node.race import beat, first, pause, race
from relit.node.roll import Roll
from relit.node.standing import stand_still
from relit.node.storm import Tokens
from relit.node.trouble import Trouble, told
from relit.node.watching import Told, Watching

KEEPER_S = 0.5  # before the keeper is asked again after it could not be reached
WELL_LOOK_MS = 1_000
FORESEE_MS = 1_000  # of a life before the next one is made ready
T = TypeVar("T")


class Instance:
    """Keeps one spec alive until ``stop``. Cancelling ``run`` leaves the process alone, for the next node."""

    def __init__(
        self,
        spec: InstanceSpec,
        driver: Driver,
        listener: Listener,
        healing: Healing,
        tokens: Tokens,
        roll: Roll,
        gate: Gate,
        oom: OomLog,
        *,
        clock: Clock,
        chance: Random,
        history: History | None = None,
        hold: Hold | None = None,
        incident: Incident | None = None,
    ) -> None:
        self.spec = spec
        self.history = history = history or History()
        self.hold = hold or Hold()
        self._driver = driver
        self._tell = listener
        self._healing = healing
        self._tokens = tokens
        self._roll = roll
        self._gate = gate
        self._oom = oom
        self._ticket: Ticket | None = None
        self._follower = Follower(spec, driver)
        self.trouble = Trouble(spec, clock, listener.incident, incident)
        self._clock = clock
        self._chance = chance
        self._asked, self._hurry = asyncio.Event(), asyncio.Event()
        agent, kind = self._whose = (spec.care.agent, spec.care.kind) if spec.care else ("", "")
        self.status = InstanceStatus(
            name=spec.name, state="stopped", agent=agent, kind=kind, since_ms=clock.now_ms(), restarts=history.restarts
        )

    async def run(self, found: Sequence[Life] = ()) -> None:
        """Keep it alive. ``found`` are lives of this name that an earlier node left."""
        try:
            async with asyncio.TaskGroup() as group:
                await self._keep(found, group)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        self._become("stopped")
        self._note("instance.stopped")

    async def _keep(self, found: Sequence[Life], group: asyncio.TaskGroup) -> None:
        life, old = await self._inherit(found), None
        while life is not None or not self._asked.is_set():  # one that was adopted meanwhile is stopped
            if self.hold.look() is not None and not (life is not None and self.hold.freezes):
                await self._rest(life, old)
                life = old = None
                continue
            life = life or await self._start()
            if old is not None:  # after the next start: every millisecond before it is down time
                await self._forget(old)
            old = await self._follow(life, group) if life is not None else None
            life = None
        await self._follower.drop()
        if old is not None:
            await self._forget(old)

    def stop(self) -> None:
        """Ask it to end: SIGTERM, its grace, SIGKILL. ``run`` returns when it is gone."""
        self._asked.set()

    def hurry(self) -> None:
        """Do not wait for the back-off to end."""
        self._hurry.set()

    # --- what an earlier node left -----------------------------------------------------------------------------

    async def _inherit(self, found: Sequence[Life]) -> Life | None:
        ours = ended = ending = None
        for life in found:
            if life.exit is not None:
                ended = life
                ending = self._classify(life.exit, life)
                if life.key != self.history.counted:  # else a node counted it, and died before it was forgotten
                    self._report_end(life, life.exit)
                    self._count(ending, life)
                await self._forget(life)
            elif self.spec.fault or adopts(life.tag, self.spec.tag()):
                ours = life
            else:
                await self._halt(life)
        if ours is not None:
            if not self.hold.freezes:  # it was woken while nobody looked
                await self._driver.wake(ours.key)
            self._note("instance.adopted", pid=ours.pid)
        elif ended is not None and ending is not None and ended.key != self.history.answered:
            await self._mend(ending, str(ended.exit), "")
        return ours

    async def _forget(self, life: Life) -> None:
        try:
            await self._driver.forget(life.key)
        except (KeeperUnreachable, Conflict) as error:
            # Kept on record: the next node forgets it. It ended, so nothing depends on it.
            self._become(self.status.state, reason=error.what)

    # --- held --------------------------------------------------------------------------------------------------

    async def _rest(self, life: Life | None, old: Life | None) -> None:
        """Nothing runs while the hold file is there."""
        await self._follower.drop()
        if old is not None:
            await self._forget(old)
        if life is not None:
            await self._halt(life, "it is held")
        told = None
        while (why := self.hold.look()) is not None and not self._asked.is_set():
            if why != told:
                self._become("stopped", reason=why)
                if self.hold.parked is None and why != self.hold.spare:
                    self._note("instance.held", reason=why)
                self.trouble.over(f"it was stopped: {why}")
                told, self.history = why, over(self.history) if self.hold.by_person else self.history
            await race(self.hold.change.wait(), self._asked.wait())

    # --- start -------------------------------------------------------------------------------------------------

    async def _start(self) -> Life | None:
        self._become("starting")
        probe.clear(self.spec.ready)
        life = await self._started() if await self._enter() else None
        if life is None:
            self._close_ticket()
        return life

    async def _started(self) -> Life | None:
        try:
            unfit = await self._healing.fit(self.spec)
            if unfit is None:
                return await self._launch()
            ending, why = unfit
        except InstanceHeld:
            return None  # the file came in the last moment
        except KeeperUnreachable as error:
            self._become("down", reason=error.what)
            await pause(KEEPER_S, self._asked)
            return None
        except RelitError as error:
            ending, why = "not-started", f"{error.what}: {error.why}" if error.why else error.what
        self._count(ending, None)
        await self._mend(ending, "", why)
        return None

    async def _enter(self) -> bool:
        """Wait until there is room for it. False: it is not to start any more."""
        self._close_ticket()
        demand, name = self.spec.demand, self.spec.name
        if demand is None:
            return True
        pass_now = self._gate.passed if self._follower.there else self._gate.pass_now
        self._ticket = pass_now(name, demand)
        if self._ticket is None:
            enter = self._gate.enter(name, demand, self._waits)
            self._ticket = cast(Any, await race(enter, self._asked.wait(), self.hold.there()))[0]
        return self._ticket is not None

    def _waits(self, why: str) -> None:
        self._become("starting", reason=f"{WAITS}{why}")
        self._note("instance.waiting", reason=why)

    def _close_ticket(self) -> None:
        if self._ticket is not None:
            self._ticket.close()
        self._ticket = None

    async def _launch(self) -> Life:
        launch = self._follower.take()
        try:
            life = await self._driver.start(launch)
        except Conflict:
            for other in await self._driver.lives():
                if other.name == self.spec.name and other.exit is None:
                    await self._halt(other)
            life = await self._driver.start(launch)
        self._note("instance.started", pid=life.pid)
        if self._ticket is not None:
            self._ticket.of(life.pid)
        if self.spec.hold is None:  # relit's own
            rank(life.pid, OURS)
        return life

    # --- life and end ------------------------------------------------------------------------------------------

    async def _follow(self, life: Life, group: asyncio.TaskGroup) -> Life | None:
        """From start (or adoption) to end, and through what is done about it. Returns what to forget."""
        while True:
            self._become("starting", life=life)
            waits = self._end(life), self._watch(life), self._asked.wait(), self.hold.there()
            end, trouble, *_ = await first(group, *waits)  # to wait for the end of all watches takes half a millisecond
            if end is not None or trouble is not None or self._asked.is_set() or not self.hold.freezes:
                break
            if (end := await self._stand_still(life, group)) is not None:
                break
        if end is None and trouble is None:
            await self._halt(life)
            return None
        if end is None:
            end = await self._kill(life)
        self._close_ticket()
        self._report_end(life, end)
        if trouble is None and self.hold.ends:  # nothing is to be mended
            await self._follower.drop()
            await self._forget(life)
            return None
        ending = trouble.ending if trouble is not None else self._classify(end, life)
        self._count(ending, life)
        await self._mend(ending, str(end), trouble.why if trouble is not None else "")
        return life

    async def _stand_still(self, life: Life, group: asyncio.TaskGroup) -> Exit | None:
        """While it is parked. Its exit when it ended meanwhile."""
        self._close_ticket()
        await self._follower.drop()
        stands = partial(self._become, "frozen", life=life, reason=self.hold.look() or "")
        return await stand_still(self._driver, life, self.hold, self._asked, self._end(life), group, stands)

    def _classify(self, end: Exit, life: Life) -> Ending:
        if end.signal == signal.SIGKILL and self._oom.killed(life.pid):
            return "out-of-memory"
        return classify(end, self.spec.care.exits if self.spec.care else None)

    async def _end(self, life: Life) -> Exit:
        while True:
            try:
                return await self._driver.wait(life.key)
            except KeeperUnreachable:
                await asyncio.sleep(KEEPER_S)

    async def _kill(self, life: Life) -> Exit:
        await self._follower.drop()
        while True:
            try:
                await self._driver.kill(life.key)
                return await self._end(life)
            except KeeperUnreachable:
                await asyncio.sleep(KEEPER_S)

    async def _halt(self, life: Life, why: str = "it was asked to stop") -> None:
        """Stop a life in good order."""
        self._close_ticket()
        self._become("draining", life=life, reason=why)
        await self._follower.drop()
        try:
            async with asyncio.timeout(0 if self.hold.at_once else self.spec.grace_ms / 1000):
                await self._driver.signal(life.key, signal.SIGTERM)
                await self._driver.signal(life.key, signal.SIGCONT)  # a stopped process cannot obey
                end = await self._end(life)
        except (TimeoutError, KeeperUnreachable):
            end = await self._kill(life)
        self._report_end(life, end)
        await self._forget(life)

    def _report_end(self, life: Life, end: Exit) -> None:
        self.status = msgspec.structs.replace(self.status, last_exit=str(end))
        who = proc.ProcessId(life.pid, life.start, proc.boot_id(), proc.pid_namespace())
        self._tell.died(Death(instance=life.name, process=who, exit=str(end)))
        self._note("instance.died", pid=life.pid, code=end.code, signal=end.signal)

    # --- what is done about it -----------------------------------------------------------------------------------

    def _count(self, ending: Ending, life: Life | None) -> None:
        """Into the history, before it is decided what to do."""
        now = (life.ended_ms if life else None) or self._clock.boot_ms()
        lived_ms, key = (now - life.begun_ms, life.key) if life else (0, "")
        self.history = count(self.history, ending, lived_ms=lived_ms, now_ms=now, policy=self.spec.backoff, key=key)

    async def _mend(self, ending: Ending, end: str, why: str) -> None:
        """Decide, do it, and wait for as long as it was decided. Returns at once on rung 1."""
        if self._asked.is_set():
            return
        care, known = self.spec.care, None
        if care is not None and asks(self.history, ending, care):
            self._become("healing", reason=f"{SAID[ending]}: looking for what was good")
            lived = None if end and self.history.begun == self.history.counted else bool(end)
            looking = self._healing.known_good(self.spec, care, ending, lived=lived, before=self.history.broken)
            if (known := await self._unless_stopped(looking)) is not None:
                self.history = msgspec.structs.replace(self.history, broken=tuple(known.broken))
        verdict = decide(
            self.history,
            ending,
            policy=self.spec.backoff,
            chance=self._chance,
            care=care,
            facts=self._healing.facts(known) if known else None,
        )
        acts = care is not None and verdict.action != "restart"  # a node that dies in the middle has not tried it
        self.history = (undone(verdict, policy=self.spec.backoff, chance=self._chance) if acts else verdict).history
        self.trouble.ended(verdict, ending, end, why)
        self.trouble.knows(known or KnownGood())
        self._restarting(verdict)
        storm_s = self._tokens.wait_s()
        if verdict.action == "restart" and verdict.delay_ms == 0 and self._follower.there:
            return  # it was started already
        await self._follower.drop()
        if care is not None and acts:
            verdict = await self._heal(verdict, care, known or KnownGood())
        await self._back_off(verdict, end or self.trouble.without_secrets(why), storm_s)

    async def _heal(self, verdict: Verdict, care: Care, known: KnownGood) -> Verdict:
        """Answers the same verdict, or that it is to be done again: it was cut short, or could not be asked for."""
        self._become("healing", reason=f"rung {verdict.rung}, {verdict.action}: {verdict.reason}")
        self.trouble.does(verdict)
        began, cut = self._clock.now_ms(), False
        try:
            work = self._healing.act(self.spec, care, verdict, known)
            outcome = await self._unless_stopped(work, by_any=verdict.action == "repair")  # which writes in its home
            cut = outcome is None
        except RelitError as error:
            outcome, cut = told(error), error.retry
        self.trouble.did(verdict, outcome or "cut short", began)
        self._note("instance.healed", rung=verdict.rung, action=verdict.action, outcome=outcome or "cut short")
        if cut:
            return undone(verdict, policy=self.spec.backoff, chance=self._chance)
        self.history = msgspec.structs.replace(verdict.history, answered=verdict.history.counted)
        return verdict

    async def _unless_stopped(self, work: Coroutine[Any, Any, T], *, by_any: bool = False) -> T | None:
        """``None``: it was asked to stop, or a person (``by_any``: anybody) holds it now."""
        done: T | None = (await race(work, self._asked.wait(), self.hold.there() if by_any else self.hold.taken()))[0]
        return done

    def _restarting(self, verdict: Verdict) -> None:
        self._note(
            "instance.restarting", delay_ms=verdict.delay_ms, restarts=verdict.history.restarts, reason=verdict.reason,
            flapping=verdict.flapping,
        )  # fmt: skip

    async def _back_off(self, verdict: Verdict, last: str, storm_s: float) -> None:
        delay_ms = max(verdict.delay_ms, round(storm_s * 1000))
        if delay_ms == 0:
            return
        reason = f"{verdict.reason} ({last})" + (", it keeps dying" if verdict.flapping else "")
        await self._tell.drained()  # who sees that it failed looks into its log
        state: InstanceState = "down" if verdict.rung == 4 else "backing-off"
        self._become(state, reason=reason, retry_at_ms=self._clock.now_ms() + delay_ms)
        self._hurry.clear()
        await race(pause(delay_ms / 1000, self._asked, self._hurry), self.hold.there())

    # --- while it lives ------------------------------------------------------------------------------------------

    async def _watch(self, life: Life) -> Told:
        watching = Watching(
            self.spec,
            life,
            self._driver,
            roll=self._roll,
            clock=self._clock,
            chance=self._chance,
            readiness=lambda why: self._readiness(life, why),
            works=partial(self._healing.works, self.spec.care),
            edits=Edits(self.spec, self._healing, self._note, fresh=self._clock.boot_ms() - life.begun_ms < FRESH_MS),
        )
        if (never := await watching.started()) is not None:
            return never
        weighed = self._roll.weigh(life.pid, self.trouble.weighs)
        trouble, *_ = await race(watching.trouble(), self._prosper(watching), self._foresee(life), weighed)
        assert trouble is not None, "the other never returns"
        return cast("Told", trouble)

    def _readiness(self, life: Life, why: str | None) -> None:
        if why is not None:
            self._become("draining", life=life, reason=why)
            return
        self._become("ready", life=life)
        if self._ticket is not None:
            self._ticket.ready(self._clock.monotonic())
        self._note("instance.ready")
        if self.spec.ready is not None:
            self.trouble.ready()

    async def _prosper(self, watching: Watching) -> None:
        """What a life that goes well brings: its trouble is over, and its home is known to be good. Never returns."""
        care = self.spec.care
        ladder = care.ladder if care is not None else Ladder()
        if self.trouble.open:
            if self.spec.ready is None:  # nobody can tell: it is believed when it has lived for a moment
                await self._well(watching, WELL_LOOK_MS)
                self.trouble.ready()
            again = self.history.quick > 1  # it has died again and again: only a stable life is the end of that
            await self._well(watching, max(ladder.settled_ms, self.spec.backoff.stable_ms if again else 0))
            self.trouble.over()
            self.history = over(self.history, quick=self.history.quick)
        while care is not None:
            await self._well(watching, ladder.good_after_ms)
            if await watching.proven() and (number := await self._healing.mark_good(care)):
                self._note("instance.known_good", number=number)
                await self._well(watching, ladder.good_again_ms)
        await asyncio.Event().wait()

    async def _foresee(self, life: Life) -> None:
        """Have the next life ready, from when a death would simply be followed by a start. Never returns."""
        care, policy = self.spec.care, self.spec.backoff
        for age_ms in (FORESEE_MS, max(FORESEE_MS, policy.stable_ms)) if self._follower.possible else ():
            while (left := age_ms - (self._clock.boot_ms() - life.begun_ms)) > 0:
                await beat(left / 1000)
            if at_once(self.history, lived_ms=age_ms, now_ms=self._clock.boot_ms(), policy=policy, care=care):
                await self._follower.make(life, never_at_once(care.exits if care is not None else None))
                break
        await asyncio.Event().wait()

    async def _well(self, watching: Watching, ms: int) -> None:
        """Until it was ready for so long without a break."""
        now = asyncio.get_running_loop().time
        began = now()
        while True:
            since = max(began, watching.ready_at) if watching.ready_at is not None else now()
            if (left := since + ms / 1000 - now()) <= 0 and watching.ready:
                return
            await beat(left)

    # --- telling -----------------------------------------------------------------------------------------------

    def _become(
        self, state: InstanceState, *, life: Life | None = None, reason: str = "", retry_at_ms: int | None = None
    ) -> None:
        since = self.status.since_ms if state == self.status.state else self._clock.now_ms()
        agent, kind = self._whose
        self.status = InstanceStatus(
            name=self.spec.name,
            state=state,
            agent=agent,
            kind=kind,
            pid=life.pid if life else None,
            start=life.start if life else None,
            restarts=self.history.restarts,
            since_ms=since,
            retry_at_ms=retry_at_ms,
            reason=reason,
            last_exit=self.status.last_exit,
            memory=self.spec.memory,
        )
        self._tell.changed()

    def _note(self, name: str, **data: Any) -> None:
        self._tell.note(name, {"instance": self.spec.name, **data})
