"""Watching one life: has it started, is it ready, does it live, does it answer? Four different questions.

A slow start is judged by progress: while its main process computes or its log grows it is given up to three times the
time that it should need. Not ready is shown, and never kills. What hangs, or answers no message, is told to the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from relit.control.values import InstanceSpec, Probe
from relit.drivers.base import Driver, Life
from relit.errors import KeeperUnreachable
from relit.lib import proc
from relit.lib.clock import Clock
from relit.lib.durations import size
from relit.node import probe
from relit.node.edits import LOOK_S, Edits
from relit.node.judging import Misses, Start
from relit.node.ladder import Ending
from relit.node.race import beat, race
from relit.node.roll import Roll

STARTUP_ASK_S = 0.02  # between questions while it starts; grows to a second
ASKED_MOST = 3  # times in a row, when it is frozen again and again while it should answer
ILL_ROUNDS = 6  # its configuration may be wrong, and it not ready, for so many looks


class Told(msgspec.Struct, frozen=True):
    """How a watch ended: what is wrong, and in which words."""

    ending: Ending
    why: str


class Watching:
    """One life. ``readiness`` is told whenever it changes: ``None`` for ready, else why not. ``works``: whether it is
    in the middle of a call."""

    def __init__(
        self,
        spec: InstanceSpec,
        life: Life,
        driver: Driver,
        *,
        roll: Roll,
        clock: Clock,
        chance: Random,
        readiness: Callable[[str | None], None],
        works: Callable[[], Awaitable[bool]],
        edits: Edits,
    ) -> None:
        self._spec = spec
        self._life = life
        self._driver = driver
        self._roll = roll
        self._clock = clock
        self._chance = chance
        self._readiness = readiness
        self._works = works
        self._edits = edits
        self.ready_at: float | None = None  # since when, by the loop's clock

    @property
    def ready(self) -> bool:
        return self.ready_at is not None

    async def started(self) -> Told | None:
        """Wait until it is ready for the first time; answers what is wrong when it will not be."""
        if self._spec.ready is not None and (why := await self._until_ready(self._spec.ready)) is not None:
            return Told("never-ready", why)
        self._tell(None)
        return None

    async def trouble(self) -> Told:
        """Watch from then on. Returns when something is wrong that a restart may mend."""
        watches = [self._watch_readiness(), self._watch_main(), *map(self._watch_liveness, self._spec.live)]
        if self._spec.care is not None and self._spec.care.config:
            watches.append(self._watch_config())
        if self._spec.canary is not None:
            watches.append(self._watch_answers(self._spec.canary))
        if self._spec.memory is not None:
            watches.append(self._watch_memory(self._spec.memory))
        told: list[Told | None] = await race(*watches)
        return next(each for each in told if each is not None)

    async def proven(self) -> bool:
        """Whether its home may be taken for good: it answers something harmless, if it has a canary, and would start
        again with its configuration as it is now."""
        if self._spec.canary is not None and await self._ask(self._spec.canary) is not None:
            return False
        return await self._edits.good()

    def _tell(self, why: str | None) -> None:
        self.ready_at = asyncio.get_running_loop().time() if why is None else None
        self._readiness(why)

    # --- startup -----------------------------------------------------------------------------------------------

    async def _until_ready(self, ready: Probe) -> str | None:
        wait, now = STARTUP_ASK_S, self._clock.monotonic()
        start = Start(now, now, self._progress())
        while (why := await probe.ask(ready, self._life.pid)) is not None:
            await asyncio.sleep(wait)
            wait, now = min(1.0, wait * 1.3), self._clock.monotonic()
            start = start.seen(self._progress(), now)
            if start.too_slow(now, self._spec.startup_ms / 1000):
                return why
        return None

    def _progress(self) -> tuple[int, int]:
        """(tenths of a CPU second that its main process used, bytes of its log)."""
        size = 0
        with contextlib.suppress(OSError):
            size = os.stat(self._spec.log).st_size if self._spec.log else 0
        return proc.cpu_ticks(self._life.pid) * 10 // os.sysconf("SC_CLK_TCK"), size

    # --- later -------------------------------------------------------------------------------------------------

    async def _watch_readiness(self) -> Told:
        """Never returns."""
        ready = self._spec.ready
        while ready is not None:
            self._tell(f"not ready: {await self._until(ready, answers=False)}")
            await self._until(ready, answers=True)
            self._tell(None)
        return await _never()

    async def _watch_main(self) -> Told:
        """Whether somebody stopped its main process, and lets it stand."""
        question = Probe(kind="pid")
        while True:
            await self._roll.stopped(self._life.pid)
            misses = Misses(question.failures)
            while (why := await self._ask(question)) is not None:
                misses = misses.heard(answered=False)
                if misses.silent:
                    return Told("hung", why)
                await beat(misses.wait(question.every_ms / 1000))

    async def _watch_memory(self, most: int) -> Told:
        held = await self._roll.outgrown(self._life.pid, most)
        return Told("too-large", f"its processes hold {size(held)}, and may hold {size(most)} (memory.hard)")

    async def _watch_liveness(self, live: Probe) -> Told:
        return Told("hung", await self._until(live, answers=False))

    async def _watch_answers(self, canary: Probe) -> Told:
        """An answer that is another than expected is an answer: its agent lives, and must not be killed for it. So does
        one in the middle of a call, which may have no place for another turn."""
        any_answer = msgspec.structs.replace(canary, contains="", want={})
        return Told("no-answer", await self._until(any_answer, answers=False, excuse=self._works))

    async def _watch_config(self) -> Told:
        """What breaks it is only taken back when its agent does not do well with it: most go on with what they have
        read, and may be in the middle of an edit."""
        ill = 0
        while True:
            await asyncio.sleep(LOOK_S)
            wrong = await self._edits.look()
            ill = ill + 1 if wrong and not self.ready else 0
            if ill >= ILL_ROUNDS:
                return Told("config", wrong)

    async def _until(
        self, question: Probe, *, answers: bool, excuse: Callable[[], Awaitable[bool]] | None = None
    ) -> str:
        """Ask until the answer is yes, or until it was no as often in a row as the probe wants, without an ``excuse``.
        The first time is anywhere in its span, so that those of many agents are spread."""
        misses, span = Misses(question.failures), question.every_ms / 1000
        await beat(span * self._chance.random())
        while True:
            why = await self._ask(question)
            misses = misses.heard(answered=why is None or (excuse is not None and await excuse()))
            if answers and why is None:
                return ""
            if not answers and misses.silent:
                return why or ""
            await beat(misses.wait(span))

    async def _ask(self, question: Probe) -> str | None:
        """A frozen process cannot answer: it is asked again when it was frozen during the question."""
        for _ in range(ASKED_MOST):
            asked = self._clock.boot_ms()
            why = await probe.ask(question, self._life.pid)
            if why is None or not await self._was_frozen(asked):
                return why
        return why

    async def _was_frozen(self, since_ms: int) -> bool:
        """Whether it stood still at any time since; waits until it goes on."""
        try:
            now = await self._driver.adopt(self._life.key)
            while now is not None and now.frozen_ms is not None:
                await asyncio.sleep(STARTUP_ASK_S)
                now = await self._driver.adopt(self._life.key)
        except KeeperUnreachable:
            return False
        return now is not None and now.thawed_ms >= since_ms


async def _never() -> Told:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")
