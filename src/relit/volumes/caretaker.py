"""What is done for volumes on the side, for as long as they are kept: retention, checks, and what forks left to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from relit.errors import RelitError
from relit.events import Event
from relit.lib.service import OnFailure, Tasks, reporting
from relit.manifest import Volume
from relit.volumes.base import Catalog
from relit.volumes.consolidate import Consolidator
from relit.volumes.prune import Pruned, Pruner
from relit.volumes.verify import Verified, Verifier

log = logging.getLogger("relit.volumes")
_DESCRIBE_S = 20.0
_PRUNE_S = 3600.0
_TEST_S = 24 * 3600.0
_SCRUB_LEAST_S = 10.0  # between two packs: a check must not be felt
_SETTLE_S = 300.0  # after the start, which is busy enough


class Caretaker:
    """``verify_s``: every pack is read once in that span; 0: never. ``tidy`` removes what old restores replaced."""

    def __init__(
        self,
        catalog: Catalog,
        pruner: Pruner,
        verifier: Verifier,
        consolidator: Consolidator,
        *,
        tidy: Callable[[], Awaitable[None]],
        report: Callable[[Sequence[Event]], Awaitable[None]],
        verify_s: float,
        node: str,
        chance: Random,
        on_failure: OnFailure,
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
        self._scrub_s = _SCRUB_LEAST_S
        self._scrubbed = ""
        self._tasks = Tasks(reporting(log, "the upkeep of volumes", on_failure))

    async def start(self) -> None:
        """Begin all rounds."""
        self._tasks.spawn(self._always(self.describe, lambda: _DESCRIBE_S, first_s=1.0), "describe-forks")
        self._tasks.spawn(self._always(self.prune, lambda: _PRUNE_S), "prune")
        if self._verify_s:
            self._tasks.spawn(self._always(self.scrub, lambda: self._scrub_s), "scrub")
            self._tasks.spawn(self._always(self.test, lambda: _TEST_S), "test-restore")

    async def stop(self) -> None:
        """End them; safe twice."""
        await self._tasks.stop()

    async def _always(
        self, work: Callable[[], Awaitable[None]], pause_s: Callable[[], float], first_s: float = _SETTLE_S
    ) -> None:
        await asyncio.sleep(first_s * self._chance.uniform(0.9, 1.1))
        while True:
            try:
                await work()
            except RelitError as error:  # the next round tries again; what is damaged has been reported
                log.warning("%s", error)
            await asyncio.sleep(pause_s() * self._chance.uniform(0.9, 1.1))

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

    async def scrub(self) -> None:
        """Check one stored pack, another each time; the pause after it is such that all have their turn in time."""
        packs = sorted(await self._catalog.packs(("stored",)), key=lambda each: each.id)
        self._scrub_s = max(_SCRUB_LEAST_S, self._verify_s / max(1, len(packs)))
        after = [pack for pack in packs if pack.id > self._scrubbed]
        if packs:
            pack = (after or packs)[0]
            self._scrubbed = pack.id
            await self._verifier.check_pack(pack, Verified())

    async def test(self) -> None:
        """Restore a random snapshot somewhere else and check its databases."""
        volumes: list[Volume] = [each for each in await self._catalog.volumes() if each.newest]
        if volumes:
            volume = self._chance.choice(volumes)
            some = await self._catalog.snapshots(volume.id, limit=2**31)
            await self._verifier.test_restore(volume, self._chance.choice(some).number, Verified())


def _told(done: Pruned) -> dict[str, int]:
    return {"snapshots": len(done.dropped), "packs": done.condemned + done.deleted, "bytes": done.bytes}
