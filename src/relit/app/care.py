"""What looks after versions that are there: retention, checks, rebuilding. A module of its own, since a command that
takes a snapshot needs none of it, and would wait for its imports."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from relit.app.homes import snapshots_of
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.ids import system_random
from relit.lib.service import OnFailure
from relit.pressure.space import low_mark
from relit.settings import Settings
from relit.store.base import Store
from relit.store.sql.sqlite import databases
from relit.volumes.caretaker import Caretaker
from relit.volumes.consolidate import Consolidator
from relit.volumes.findings import Findings
from relit.volumes.keys import Keys
from relit.volumes.packindex import SealedPack
from relit.volumes.prune import Pruner
from relit.volumes.rebuild import Rebuilder
from relit.volumes.verify import Verifier

if TYPE_CHECKING:
    from relit.app.volumes import Kept


def _is_low(place: Path) -> bool:
    """Whether its disk has little room."""
    try:
        disk = shutil.disk_usage(place)
    except OSError:
        return False  # it is asked again soon
    return disk.free < low_mark(disk.total)


class Care:
    """Over everything that keeps volumes."""

    def __init__(self, kept: Kept, settings: Settings, store: Store, keys: Keys | None, fail: OnFailure) -> None:
        def open_pack(pack: str) -> SealedPack:
            return SealedPack(pack, kept.objects, keys)

        self.open_pack = open_pack
        consolidator = Consolidator(kept.catalog, kept.spool)
        self.findings = Findings(settings.data / "spool" / "checks.json")
        self.pruner = Pruner(
            kept.catalog,
            kept.objects,
            kept.spool,
            kept.chunks,
            consolidator,
            tiers=lambda agent: snapshots_of(settings, agent).tiers,
            open_pack=open_pack,
            flush=kept.uploader.flush,
            clock=kept.tuning.later,
            node=kept.node,
            grace_ms=settings.volumes.grace_ms,
            young_ms=kept.tuning.young_ms,
        )
        self.verifier = Verifier(
            kept.catalog,
            kept.objects,
            keys,
            open_pack=open_pack,
            lay=kept.homes.lay_at,
            databases=databases.check,
            report=store.record,
            findings=self.findings,
            work=settings.data / "spool" / "verify",
            chance=system_random(),
        )
        self.rebuilder = Rebuilder(
            kept.catalog,
            kept.objects,
            open_pack,
            kept.node,
            at_rest=kept.homes.at_rest,
            flush=kept.uploader.flush,
        )
        self.caretaker = Caretaker(
            kept.catalog,
            self.pruner,
            self.verifier,
            consolidator,
            self.findings,
            tidy=kept.homes.tidy,
            report=store.record,
            verify_s=settings.volumes.verify_ms / 1000,
            node=kept.node,
            clock=SYSTEM_CLOCK,
            chance=system_random(),
            on_failure=fail,
            low=lambda: _is_low(settings.data),
        )
