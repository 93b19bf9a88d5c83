"""The logs of a node's instances (docs/explanation/logs.md).

Instances append to raw logs and wait for nobody. A thread takes them in turn, a piece of each, whenever the kernel
tells that one was written to, and every few seconds to be sure. A log in trouble (a full disk) is tried again later; it
neither loses its place nor disturbs the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable
from pathlib import Path

from relit.lib.clock import Clock
from relit.lib.service import Tasks, finished
from relit.node import rawlog
from relit.node.lines import Last
from relit.node.logbook import tail
from relit.node.pump import Progress, Pump, Sizes
from relit.node.rawlog import Punch
from relit.node.redact import Redactor
from relit.node.touches import Touches

REST = 0.5  # of the time that was worked: a flood must not take a whole processor
AGAIN_S = 1.0  # after trouble
SURE_S = 5.0  # between looks at all of them
BLIND_S = 0.25  # and where the kernel tells nothing


class Logs:
    """Looks after the logs of instances. ``limit_bytes`` in each file, ``keep`` older ones.

    A raw log that is more than ``raw_limit_bytes`` ahead is not read whole: its log says how much was skipped.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        limit_bytes: int = 10 << 20,
        keep: int = 5,
        raw_limit_bytes: int = 256 << 20,
        punch: Punch = rawlog.punch,
    ) -> None:
        self._clock = clock
        self._sizes = Sizes(limit_bytes, keep, raw_limit_bytes)
        self._punch = punch
        self._pumps: dict[str, Pump] = {}
        self._leaving: set[Pump] = set()
        self._due: dict[Pump, float] = {}  # when to look at it again
        self._troubles: dict[Pump, str] = {}
        self._news = asyncio.Event()
        self._touches = Touches(self._news.set)
        self._turn = asyncio.Lock()  # one step at a time: steps of two pumps may be about the same files
        self._task: asyncio.Task[None] | None = None

    # --- service -----------------------------------------------------------------------------------------------

    def start(self, tasks: Tasks) -> None:
        """Begin to read."""
        self._touches.open()
        self._task = tasks.spawn(self._run(), "node-logs")

    async def stop(self) -> None:
        """Bring what is written by now into the logs, as far as can be, and end. Safe twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        for pump in self._all():
            await self._drain(pump, "ended" if pump in self._leaving else "late")
        self._touches.close()
        for known in (self._pumps, self._leaving, self._due, self._troubles):
            known.clear()

    @property
    def trouble(self) -> str:
        """Why a log cannot be written now; empty when all can."""
        return next((f"{pump.out}: {why}" for pump, why in self._troubles.items()), "")

    # --- instances ---------------------------------------------------------------------------------------------

    def add(self, instance: str, raw: Path, out: Path, secrets: Collection[str] = ()) -> None:
        """Before an instance starts: what it writes to ``raw`` is kept in ``out``, without ``secrets``."""
        self.remove(instance)
        pump = Pump(raw, out, Redactor(secrets), clock=self._clock, sizes=self._sizes, punch=self._punch)
        pump.prepare()
        self._pumps[instance] = pump
        self._touches.watch(str(raw))
        self._look_at([pump])

    def remove(self, instance: str) -> None:
        """The instance has ended: its log is brought to its end, and left."""
        pump = self._pumps.pop(instance, None)
        if pump is not None:
            self._leaving.add(pump)
            self._look_at([pump])

    async def drained(self, instance: str) -> None:
        """Until everything that the instance has written by now is in its log, a last line without its end, too; or
        until that cannot be: ``trouble`` says why."""
        pump = self._pumps.get(instance)
        if pump is not None:
            await self._drain(pump, "ended")

    def tail(self, instance: str, lines: int) -> list[str]:
        """The last lines of its log, each with its time, oldest first."""
        pump = self._pumps.get(instance)
        try:
            return [] if pump is None else tail(pump.out, lines)
        except OSError as error:
            return [f"[relit] {pump.out if pump else instance} cannot be read: {error}"]

    # --- turns -------------------------------------------------------------------------------------------------

    def _all(self) -> list[Pump]:
        return [*self._pumps.values(), *self._leaving]

    async def _run(self) -> None:
        sure = 0.0
        while True:
            now = self._clock.monotonic()
            if now >= sure:
                sure = now + await self._look_at_all()
            for pump in [pump for pump, due in self._due.items() if due <= now]:
                await self._step(pump, "ended" if pump in self._leaving else "waits")
            await asyncio.sleep(REST * (self._clock.monotonic() - now))
            await self._wait(min([sure, *self._due.values()]))

    async def _wait(self, until: float) -> None:
        """Until then, or until something was written."""
        pause = until - self._clock.monotonic()
        if pause > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()
        if self._news.is_set():
            self._news.clear()
            touched = self._touches.take()
            self._look_at(pump for pump in self._all() if str(pump.raw) in touched)

    def _look_at(self, pumps: Iterable[Pump]) -> None:
        """At once; one in trouble, a little later."""
        for pump in pumps:
            if pump not in self._troubles:
                self._due[pump] = 0.0
                self._news.set()

    async def _look_at_all(self) -> float:
        """Whatever the kernel told us. Answers in how many seconds to do so again."""
        watched = [self._touches.watch(str(pump.raw)) for pump in self._all()]
        async with self._turn:
            self._look_at(await finished(asyncio.to_thread(_restless, self._all())))
        return SURE_S if all(watched) else BLIND_S

    async def _drain(self, pump: Pump, last: Last) -> None:
        length, progress = pump.length(), Progress(more=True)
        while progress.more and progress.read < length:
            progress = await self._step(pump, last)

    async def _step(self, pump: Pump, last: Last) -> Progress:
        async with self._turn:
            try:
                progress = await finished(asyncio.to_thread(pump.step, last))
            except Exception as error:  # noqa: BLE001 - whatever it is: it is shown; a log must not end the node
                progress = Progress(trouble=repr(error))
        self._learn(pump, progress)
        return progress

    def _learn(self, pump: Pump, progress: Progress) -> None:
        self._troubles.pop(pump, None)
        self._due.pop(pump, None)
        if progress.trouble:
            self._troubles[pump] = progress.trouble
            self._due[pump] = self._clock.monotonic() + AGAIN_S
        elif progress.more:
            self._due[pump] = 0.0
        elif pump in self._leaving:
            self._leave(pump)
        elif progress.due is not None:
            self._due[pump] = progress.due

    def _leave(self, pump: Pump) -> None:
        self._leaving.discard(pump)
        if all(each.raw != pump.raw for each in self._all()):
            self._touches.forget(str(pump.raw))


def _restless(pumps: Iterable[Pump]) -> list[Pump]:
    return [pump for pump in pumps if not pump.idle()]
