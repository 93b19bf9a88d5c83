"""What is done for volumes on the side, for as long as they are kept: retention, checks, and what forks left to do.

Checks are slow on purpose. One pack, or the manifest of one volume, is looked at after the other, so that all have had
their turn in ``verify_s``; after each few megabytes, which are read and opened in a thread, the check rests four times
as long as it worked. Where it had come to and what is damaged is kept over restarts (``findings``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from relit.errors import RelitError
from relit.events import Event
from relit.lib.clock import Clock
from relit.lib.service import OnFailure, Tasks, reporting
from relit.manifest import Pack, Volume
from relit.volumes.base import Catalog
from relit.volumes.consolidate import Consolidator
from relit.volumes.findings import Damage, Findings
from relit.volumes.prune import Pruned, Pruner
from relit.volumes.verify import Verified, Verifier

log = logging.getLogger("relit.volumes")
_DESCRIBE_S = 20.0
_PRUNE_S = 3600.0
_PRUNE_LOW_S = 120.0  # while the disk has little room
_TEST_S = 24 * 3600.0
_SCRUB_LEAST_S = 10.0  # between two packs: a check must not be felt
_SETTLE_S = 300.0  # after the start, which is busy enough
_REST = 4.0  # times as long as it worked: a check takes a fifth of a core at most
Sleep = Callable[[float], Awaitable[None]]


class Caretaker:
    """``verify_s``: every pack and manifest is checked once in that span; 0: never. ``tidy`` removes what old restores
    replaced; ``sleep`` lets so many seconds pass. ``low``: whether the disk has little room, so that what retention
    lets go of goes soon."""

    def __init__(
        self,
        catalog: Catalog,
        pruner: Pruner,
        verifier: Verifier,
        consolidator: Consolidator,
        findings: Findings,
        *,
        tidy: Callable[[], Awaitable[None]],
        report: Callable[[Sequence[Event]], Awaitable[None]],
        verify_s: float,
        node: str,
        clock: Clock,
        chance: Random,
        on_failure: OnFailure,
        sleep: Sleep = asyncio.sleep,
        low: Callable[[], bool] | None = None,
    ) -> None:
        self._catalog = catalog
        self._pruner = pruner
        self._verifier = verifier
        self._consolidator = consolidator
        self._tidy = tidy
        self._report = report
        self._verify_s = verify_s
        self._node = node
        self._chance = chance
        self._findings = findings
        self._clock = clock
        self._sleep = sleep
        self._low = low
        self._scrub_s = _SCRUB_LEAST_S
        self._tasks = Tasks(reporting(log, "the upkeep of volumes", on_failure))

    async def start(self) -> None:
        """Begin all rounds."""
        self._spawn("describe-forks", self.describe, lambda: _DESCRIBE_S, first_s=1.0)
        self._spawn("prune", self.prune, lambda: _PRUNE_S)
        if self._low is not None:
            self._spawn("make-room", self._make_room, lambda: _PRUNE_LOW_S)
        if self._verify_s:
            self._spawn("scrub", self.scrub, lambda: self._scrub_s)
            self._spawn("test-restore", self.test, lambda: _TEST_S)

    async def stop(self) -> None:
        """End them; safe twice."""
        await self._tasks.stop()

    def _spawn(
        self, name: str, work: Callable[[], Awaitable[None]], pause_s: Callable[[], float], first_s: float = _SETTLE_S
    ) -> None:
        self._tasks.spawn(self._always(name, work, pause_s, first_s), name)

    async def _always(
        self, name: str, work: Callable[[], Awaitable[None]], pause_s: Callable[[], float], first_s: float
    ) -> None:
        check = f"upkeep:{name}"
        await self._sleep(first_s * self._chance.uniform(0.9, 1.1))
        while True:
            try:
                await work()
                self._findings.found(check, [])
            except RelitError as error:  # the next round tries again; it is shown until one succeeds
                log.warning("%s", error)
                what = f"{name} failed, and is tried again: {error.what}: {error.why}"
                self._findings.found(check, [Damage(what=what, fix=error.fix or "relit volume stats")])
            await self._sleep(pause_s() * self._chance.uniform(0.9, 1.1))

    async def describe(self) -> None:
        """Write the manifests of forks into packs, so that they can be rebuilt, too."""
        volumes = {each.id: each for each in await self._catalog.volumes()}
        for snapshot in await self._catalog.undescribed(self._node):
            await self._consolidator.describe(volumes[snapshot.volume], snapshot)

    async def prune(self) -> None:
        """Retention and packs, of all volumes; then what restores set aside."""
        done = await self._pruner.prune()
        if done.dropped or done.condemned or done.deleted:
            await self._report([Event("", 0, "volume.pruned", data=_told(done))])
        await self._tidy()

    async def _make_room(self) -> None:
        if self._low is not None and self._low():
            await self.prune()

    async def scrub(self) -> None:
        """Check one stored pack, or a volume's manifest, another each time; the pause after it is such that all have
        their turn in time."""
        await self._verifier.forget_gone()
        things: dict[str, Pack | Volume] = {f"pack:{pack.id}": pack for pack in await self._catalog.packs(("stored",))}
        things |= {f"volume:{volume.name}": volume for volume in await self._catalog.volumes()}
        self._scrub_s = max(_SCRUB_LEAST_S, self._verify_s / max(1, len(things)))
        if things:
            at = min((name for name in things if name > self._findings.at), default=min(things))
            try:
                await self._check(things[at])
            except RelitError as error:
                if error.retry:
                    raise
                log.warning("%s was not checked: %s", at, error)
            await asyncio.to_thread(self._findings.reached, at)

    async def _check(self, thing: Pack | Volume) -> None:
        if isinstance(thing, Pack):
            await self._verifier.check_pack(thing, Verified(), Pace(self._clock, self._sleep).rest)
        else:
            await self._verifier.check_manifest(thing, Verified(), self._verifier.audit())

    async def test(self) -> None:
        """Restore a random snapshot somewhere else and check its databases; before it, those that failed last time."""
        volumes: list[Volume] = [each for each in await self._catalog.volumes() if each.newest]
        due = [(volume, number) for volume in volumes for number in await self._verifier.suspects(volume)]
        if volumes:
            volume = self._chance.choice(volumes)
            some = await self._catalog.snapshots(volume.id, limit=2**31)
            due.append((volume, self._chance.choice(some).number))
        done = Verified()
        for volume, number in due:
            await self._verifier.test_restore(volume, number, done)
        for note in done.notes:
            log.warning("the daily test: %s", note)


class Pace:
    """Rests in proportion to the work since the last rest."""

    def __init__(self, clock: Clock, sleep: Sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._since = clock.monotonic()

    async def rest(self) -> None:
        """Sleep."""
        await self._sleep(_REST * (self._clock.monotonic() - self._since))
        self._since = self._clock.monotonic()


def _told(done: Pruned) -> dict[str, int]:
    return {"snapshots": len(done.dropped), "packs": done.condemned + done.deleted, "bytes": done.bytes}
