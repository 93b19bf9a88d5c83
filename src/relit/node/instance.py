"""One instance: started, watched, started again, stopped. What to do is decided in ``supervise``."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from relit.control.values import Death, InstanceSpec, InstanceState, InstanceStatus, Probe
from relit.drivers.base import Driver, Exit, Launch, Life
from relit.errors import Conflict, InstanceHeld, KeeperUnreachable, RelitError
from relit.lib import proc
from relit.lib.clock import Clock
from relit.lib.ids import new_id
from relit.node import probe
from relit.node.holds import Hold
from relit.node.race import pause, race
from relit.node.supervise import Ending, History, Verdict, adopts, classify, decide

STARTUP_ASK_S = 0.02  # between questions while it starts; grows to a second
ASKED_MOST = 3  # times in a row, when it is frozen again and again while it should answer
KEEPER_S = 0.5  # before the keeper is asked again after it could not be reached


class Listener:
    """What an instance tells its node."""

    def __init__(
        self,
        note: Callable[[str, dict[str, Any]], None],
        died: Callable[[Death], None],
        changed: Callable[[], None],
    ) -> None:
        self.note, self.died, self.changed = note, died, changed


class Instance:
    """Keeps one spec alive until ``stop``. Cancelling ``run`` leaves the process alone, for the next node."""

    def __init__(
        self,
        spec: InstanceSpec,
        driver: Driver,
        listener: Listener,
        *,
        clock: Clock,
        chance: Random,
        history: History | None = None,
        hold: Hold | None = None,
    ) -> None:
        self.spec = spec
        self.history = history or History()
        self.hold = hold or Hold()
        self._driver = driver
        self._tell = listener
        self._clock = clock
        self._chance = chance
        self._asked = asyncio.Event()
        self._hurry = asyncio.Event()
        self.status = InstanceStatus(name=spec.name, state="stopped", since_ms=clock.now_ms())

    async def run(self, found: Sequence[Life] = ()) -> None:
        """Keep it alive. ``found`` are lives of this name that an earlier node left."""
        life, old = await self._inherit(found), None
        while not self._asked.is_set():
            if self.hold.look() is not None:
                await self._rest(life, old)
                life = old = None
                continue
            life = life or await self._start()
            if old is not None:  # after the next start: every millisecond before it is down time
                await self._forget(old)
            old = await self._follow(life) if life is not None else None
            life = None
        if old is not None:
            await self._forget(old)
        self._become("stopped")
        self._note("instance.stopped")

    def stop(self) -> None:
        """Ask it to end: SIGTERM, its grace, SIGKILL. ``run`` returns when it is gone."""
        self._asked.set()

    def hurry(self) -> None:
        """Do not wait for the back-off to end."""
        self._hurry.set()

    # --- what an earlier node left -----------------------------------------------------------------------------

    async def _inherit(self, found: Sequence[Life]) -> Life | None:
        ours = None
        for life in found:
            if life.exit is not None:
                self._report_end(life, life.exit)
                self._count(classify(life.exit), life)
                await self._forget(life)
            elif adopts(life.tag, self.spec.tag()):
                ours = life
            else:
                await self._halt(life)
        if ours is not None:
            self._note("instance.adopted", pid=ours.pid)
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
        if old is not None:
            await self._forget(old)
        if life is not None:
            await self._halt(life, "it is held")
        told = None
        while (why := self.hold.look()) is not None and not self._asked.is_set():
            if why != told:
                self._become("stopped", reason=why)
                self._note("instance.held", reason=why)
                told = why
            await race(self.hold.news(), self._asked.wait())

    # --- start -------------------------------------------------------------------------------------------------

    async def _start(self) -> Life | None:
        self._become("starting")
        probe.clear(self.spec.ready)
        try:
            return await self._launch()
        except InstanceHeld:
            pass  # the file came in the last moment
        except KeeperUnreachable as error:
            self._become("down", reason=error.what)
            await pause(KEEPER_S, self._asked)
        except RelitError as error:
            await self._wait_before_restart(self._count("not-started", None), error.what)
        return None

    async def _launch(self) -> Life:
        spec = self.spec
        launch = Launch(
            key=new_id(),
            name=spec.name,
            argv=spec.argv,
            env=spec.env,
            cwd=spec.cwd,
            log=spec.log,
            tag=spec.tag(),
            hold=spec.hold,
        )
        try:
            life = await self._driver.start(launch)
        except Conflict:
            for other in await self._driver.lives():
                if other.name == spec.name and other.exit is None:
                    await self._halt(other)
            life = await self._driver.start(launch)
        self._note("instance.started", pid=life.pid)
        return life

    # --- life and end ------------------------------------------------------------------------------------------

    async def _follow(self, life: Life) -> Life | None:
        """From start (or adoption) to end, and through the wait before the next start. Returns what to forget."""
        self._become("starting", life=life)
        end, trouble, *_ = await race(self._end(life), self._watch(life), self._asked.wait(), self.hold.there())
        if end is None and trouble is None:
            await self._halt(life)
            return None
        if end is None:
            end = await self._kill(life)
        self._report_end(life, end)
        verdict = self._count(trouble or classify(end), life)
        await self._wait_before_restart(verdict, str(end))
        return life

    async def _end(self, life: Life) -> Exit:
        while True:
            try:
                return await self._driver.wait(life.key)
            except KeeperUnreachable:
                await asyncio.sleep(KEEPER_S)

    async def _kill(self, life: Life) -> Exit:
        while True:
            try:
                await self._driver.kill(life.key)
                return await self._end(life)
            except KeeperUnreachable:
                await asyncio.sleep(KEEPER_S)

    async def _halt(self, life: Life, why: str = "it was asked to stop") -> None:
        """Stop a life in good order."""
        self._become("draining", life=life, reason=why)
        try:
            async with asyncio.timeout(self.spec.grace_ms / 1000):
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

    # --- restart -----------------------------------------------------------------------------------------------

    def _count(self, ending: Ending, life: Life | None) -> Verdict:
        now = self._clock.boot_ms()
        lived = now - life.begun_ms if life else 0
        policy = self.spec.backoff
        verdict = decide(self.history, ending, lived_ms=lived, now_ms=now, policy=policy, chance=self._chance)
        self.history = verdict.history
        return verdict

    def _restarting(self, verdict: Verdict) -> None:
        self._note(
            "instance.restarting",
            delay_ms=verdict.delay_ms,
            restarts=verdict.history.restarts,
            reason=verdict.reason,
            flapping=verdict.flapping,
        )

    async def _wait_before_restart(self, verdict: Verdict, last: str) -> None:
        if self._asked.is_set():
            return
        self._restarting(verdict)
        if verdict.delay_ms == 0:
            return
        reason = f"{verdict.reason} ({last})" + (", it keeps dying" if verdict.flapping else "")
        self._become("backing-off", reason=reason, retry_at_ms=self._clock.now_ms() + verdict.delay_ms)
        self._hurry.clear()
        await race(pause(verdict.delay_ms / 1000, self._asked, self._hurry), self.hold.there())

    # --- startup, readiness, liveness: three different questions -----------------------------------------------

    async def _watch(self, life: Life) -> Ending:
        if self.spec.ready is not None and not await self._started(self.spec.ready):
            return "never-ready"
        self._become("ready", life=life)
        self._note("instance.ready")
        await race(self._watch_readiness(life), self._watch_liveness(life))
        return "hung"

    async def _started(self, ready: Probe) -> bool:
        wait = STARTUP_ASK_S
        try:
            async with asyncio.timeout(self.spec.startup_ms / 1000):
                while await probe.ask(ready) is not None:
                    await asyncio.sleep(wait)
                    wait = min(1.0, wait * 1.3)
        except TimeoutError:
            return False
        return True

    async def _watch_readiness(self, life: Life) -> None:
        """Not ready is shown; it never kills, so this never returns."""
        if self.spec.ready is None:
            await asyncio.Event().wait()
            return
        while True:
            why = await self._until(life, self.spec.ready, answers=False)
            self._become("draining", life=life, reason=f"not ready: {why}")
            await self._until(life, self.spec.ready, answers=True)
            self._become("ready", life=life)
            self._note("instance.ready")

    async def _watch_liveness(self, life: Life) -> None:
        """Returns when it hangs."""
        if self.spec.live is None:
            await asyncio.Event().wait()
            return
        await self._until(life, self.spec.live, answers=False)

    async def _until(self, life: Life, question: Probe, *, answers: bool) -> str:
        """Ask until the answer is yes, or until it was no as often in a row as the probe wants."""
        failures = 0
        while True:
            await asyncio.sleep(question.every_ms / 1000)
            why = await self._ask(life, question)
            failures = failures + 1 if why is not None else 0
            if answers and why is None:
                return ""
            if not answers and failures >= question.failures:
                return why or ""

    async def _ask(self, life: Life, question: Probe) -> str | None:
        """A frozen process cannot answer: it is asked again when it was frozen during the question."""
        for _ in range(ASKED_MOST):
            asked = self._clock.boot_ms()
            why = await probe.ask(question)
            if why is None or not await self._was_frozen(life, asked):
                return why
        return why

    async def _was_frozen(self, life: Life, since_ms: int) -> bool:
        """Whether it stood still at any time since; waits until it goes on."""
        try:
            now = await self._driver.adopt(life.key)
            while now is not None and now.frozen_ms is not None:
                await asyncio.sleep(STARTUP_ASK_S)
                now = await self._driver.adopt(life.key)
        except KeeperUnreachable:
            return False
        return now is not None and now.thawed_ms >= since_ms

    # --- telling -----------------------------------------------------------------------------------------------

    def _become(
        self, state: InstanceState, *, life: Life | None = None, reason: str = "", retry_at_ms: int | None = None
    ) -> None:
        since = self.status.since_ms if state == self.status.state else self._clock.now_ms()
        self.status = InstanceStatus(
            name=self.spec.name,
            state=state,
            pid=life.pid if life else None,
            start=life.start if life else None,
            restarts=self.history.restarts,
            since_ms=since,
            retry_at_ms=retry_at_ms,
            reason=reason,
            last_exit=self.status.last_exit,
        )
        self._tell.changed()

    def _note(self, name: str, **data: Any) -> None:
        self._tell.note(name, {"instance": self.spec.name, **data})
