"""From measurements to figures, and what was promised of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Rounds = Sequence[Mapping[str, float]]  # a side's name -> its figure in that round

BOUNDS: dict[str, float] = {
    "restart_p50_ms": 3,
    "ratio_restart_runit": 0.8,
    "restart_sandboxed_p50_ms": 8,
    "storm_s": 0.5,
    "daemon_pss_mb": 60,
    "pss_per_agent_kb": 100,
    "idle_cpu_pct": 1,
    "hang_found_s": 15,
    "readopt_s": 0.5,
    "config_restore_over_start_s": 10,
    "volume_restore_over_start_s": 20,
}


def ratio(rounds: Rounds, ours: str, theirs: str) -> float | None:
    """The median of the rounds' own ratios; ``None`` when no round has both."""
    found = [each[ours] / each[theirs] for each in rounds if ours in each and theirs in each]
    return median(found) if found else None


def best(rounds: Rounds, side: str) -> float | None:
    """The least of the rounds: other load on the machine only adds."""
    return min((each[side] for each in rounds if side in each), default=None)


def middle(rounds: Rounds, side: str) -> float | None:
    """The median of the rounds."""
    found = [each[side] for each in rounds if side in each]
    return median(found) if found else None


def medians(side: str, restarts: Rounds, storms: Rounds) -> dict[str, float | None]:
    """One side's, over all rounds."""
    return {"restart_ms": short(middle(restarts, side)), "storm_s": short(middle(storms, side))}


def short(value: float | None) -> float | None:
    """Four significant digits: more would pretend."""
    return None if value is None else float(f"{value:.4g}")


def missed(result: Mapping[str, Any]) -> list[str]:
    """The promises that were measured and not kept."""
    return [key for key, most in BOUNDS.items() if result.get(key) is not None and result[key] > most]


def promises(result: Mapping[str, Any]) -> str:
    """A line for each promise."""
    lines = ["| figure | value | promise | |", "|---|---:|---:|---|"]
    for key, most in BOUNDS.items():
        value = result.get(key)
        word = "not measured" if value is None else "MISS" if value > most else "ok"
        lines.append(f"| {key} | {'–' if value is None else f'{value:g}'} | ≤ {most:g} | {word} |")
    return "\n".join(lines)


def sides(names: Sequence[str], restarts: Rounds, storms: Rounds, memory: Mapping[str, float]) -> str:
    """A line for each supervisor: medians and the best round."""
    lines = ["| | restart p50, ms | best round | 100 killed → last back, s | best | memory, MB |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for name in names:
        figures = [middle(restarts, name), best(restarts, name), middle(storms, name), best(storms, name)]
        words = ["–" if each is None else f"{each:.3g}" for each in (*figures, memory.get(name))]
        lines.append(f"| {name} | {' | '.join(words)} |")
    return "\n".join(lines)
