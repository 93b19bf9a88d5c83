"""From measurements to figures, and what was promised of them. Pure but for ``say``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

# key: (what is promised, in the quick form); "<=" and ">="
BOUNDS: dict[str, tuple[str, float, float]] = {
    "noop_ms": ("<=", 5, 5),
    "small_ms": ("<=", 25, 25),
    "mixed_ms": ("<=", 300, 300),
    "ratio_mixed_restic": (">=", 8, 8),
    "growth_kb": ("<=", 1000, 1000),
    "ratio_growth_restic": (">=", 8, 8),
    "freeze_p50_ms": ("<=", 40, 40),
    "freeze_p99_ms": ("<=", 150, 150),
    "inplace_ms": ("<=", 100, 100),
    "ratio_inplace_restic": (">=", 25, 8),
    "ratio_full_restic": (">=", 1.5, 1.5),
    "ratio_first_restic": (">=", 1.5, 1.5),
    "ratio_mixed_cold_restic": (">=", 3, 3),
    "ratio_inplace_cold_restic": (">=", 10, 1),
    "fork_ms": ("<=", 150, 150),
    "daemon_rss_mb": ("<=", 200, 200),
    "fleet_cpu_pct": ("<=", 10, 10),
}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summary(
    found: Mapping[str, Sequence[float]], ratios: Mapping[str, Sequence[float]], more: Mapping[str, float]
) -> dict[str, Any]:
    """Every figure by its key: medians, but for the worst freezes."""
    result: dict[str, Any] = {key: _short(median(values)) for key, values in found.items() if key != "freeze_ms"}
    result["freeze_p50_ms"] = _short(percentile(found["freeze_ms"], 0.5))
    result["freeze_p99_ms"] = _short(percentile(found["freeze_ms"], 0.99))
    result |= {f"ratio_{key}": _short(median(values)) for key, values in ratios.items()}
    return result | {key: _short(value) for key, value in more.items()}


def _short(value: float) -> float:
    """Four significant digits: more would pretend."""
    return float(f"{value:.4g}")


def told(result: Mapping[str, Any], *, quick: bool, say: Callable[[str], None]) -> bool:
    """Say each promise and whether it was kept; whether all were that were measured."""
    kept = True
    for key, (sign, full, short) in BOUNDS.items():
        bound = short if quick else full
        value = result.get(key)
        if value is None:
            say(f"     {key}: not measured")
            continue
        good = value <= bound if sign == "<=" else value >= bound
        kept = kept and good
        say(f"{'ok  ' if good else 'MISS'} {key}: {value} (promised {sign} {bound})")
    return kept
