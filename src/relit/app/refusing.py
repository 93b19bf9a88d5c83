"""Where refusals are written down: as entries of the audit trail, which only grows, and as events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from relit.app.vaulted import rows
from relit.events import Event
from relit.lib.clock import SYSTEM_CLOCK
from relit.store.base import Store
from relit.store.values import Audited
from relit.vault.refusals import Refusal, Refusals

_UNKNOWN = "unknown"


def refusals(store: Store, door: Literal["api", "gateway"]) -> Refusals:
    """Those of one of relit's own doors."""

    async def record(found: Sequence[Refusal]) -> None:
        await rows(store).audit([_entry(door, each) for each in found])
        await store.record([_event(door, each) for each in found])

    return Refusals(record, SYSTEM_CLOCK)


def _entry(door: str, found: Refusal) -> Audited:
    why = found.why if found.times == 1 else f"{found.why} ({found.times} times)"
    return Audited(what="refused", name=f"{door}:{found.code}", who=found.who or _UNKNOWN, whom=why)


def _event(door: str, found: Refusal) -> Event:
    data = {"code": found.code, "why": found.why, "count": found.times}
    return Event("", SYSTEM_CLOCK.now_ms(), f"{door}.refused", found.who or None, data=data)
