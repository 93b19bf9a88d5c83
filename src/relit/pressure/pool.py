"""How many workers a pool needs: by work that waits for one, and by what is worked on. Pure: processes on a machine and
replicas on a cluster are counted alike."""

from __future__ import annotations

import math

import msgspec

GROW_S = 1.0  # work that waits for so long has found all workers busy: a free one takes it within milliseconds
SHRINK_S = 60.0  # without work that waits, until one goes; and between two that go
_SPARE = 1.25  # times what is worked on has to fit into those that stay


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """``least`` to ``most`` workers of ``places`` runs each."""

    least: int
    most: int
    places: int


class Work(msgspec.Struct, frozen=True):
    """Runs that a worker could begin now, and those that are worked on."""

    ready: int
    running: int


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How many are ``wanted``; since when there has been work that waits, or since when not (seconds)."""

    wanted: int
    waits_at: float | None = None
    calm_at: float | None = None


def scaled(before: Scale, pool: Pool, work: Work | None, up: int, at: float) -> Scale:
    """After one more look. ``work``: ``None`` when nobody knows; ``up``: workers that are ready. More come only when
    all that are wanted are there, since they may be enough."""
    wanted = min(pool.most, max(pool.least, before.wanted))
    if work is None:
        return Scale(wanted=wanted)
    if work.ready:
        return _grown(before, wanted, pool, work, up, at)
    calm_at = before.calm_at if before.calm_at is not None else at
    if at - calm_at >= SHRINK_S and wanted > max(pool.least, math.ceil(work.running * _SPARE / pool.places)):
        return Scale(wanted=wanted - 1, calm_at=at)
    return Scale(wanted=wanted, calm_at=calm_at)


def _grown(before: Scale, wanted: int, pool: Pool, work: Work, up: int, at: float) -> Scale:
    waits_at = before.waits_at if before.waits_at is not None else at
    if wanted and (at - waits_at < GROW_S or up < wanted):
        return Scale(wanted=wanted, waits_at=waits_at)
    need = max(wanted + 1, math.ceil((work.ready + work.running) / pool.places))
    return Scale(wanted=min(pool.most, need), waits_at=at)
