"""From measurements to figures, and what was promised of them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Figures = dict[str, float]
Rounds = Sequence[Mapping[str, Figures]]  # a side's name -> its figures in that round

BOUNDS: dict[str, tuple[str, float]] = {
    "added_p50_ms": ("≤", 3),
    "added_p99_ms": ("≤", 15),
    "ratio_rps_litellm": ("≥", 5),
    "ratio_rss_litellm": ("≤", 0.2),
    "ratio_cpu_bare": ("≤", 2),
    "streams_500_max_stall_ms": ("≤", 100),
    "replay_50_calls_s": ("≤", 1),
    "tool_added_p50_ms": ("≤", 5),
}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def middle(rounds: Rounds, side: str, figure: str) -> float:
    """The median of the rounds."""
    return median(each[side][figure] for each in rounds)


def added(rounds: Rounds, side: str, figure: str) -> float:
    """What it is more than where the model is called directly: the median of the rounds' own differences."""
    return median(each[side][figure] - each["direct"][figure] for each in rounds)


def ratio(rounds: Rounds, ours: str, theirs: str, figure: str) -> float:
    """The median of the rounds' own ratios."""
    return median(each[ours][figure] / each[theirs][figure] for each in rounds)


def each_round(rounds: Rounds, figure: str) -> list[dict[str, float | None]]:
    """All that was measured of one figure."""
    return [{side: short(found[figure]) for side, found in each.items()} for each in rounds]


def short(value: float | None) -> float | None:
    """Four significant digits: more would pretend."""
    return None if value is None else float(f"{value:.4g}")


def result(found: Mapping[str, float | None]) -> dict[str, float | None]:
    """The last line: every promised key, and nothing else."""
    return {key: short(found.get(key)) for key in BOUNDS}


def missed(result: Mapping[str, Any]) -> list[str]:
    """The promises that were measured and not kept."""
    return [key for key in BOUNDS if not _kept(key, result.get(key))]


def _kept(key: str, value: float | None) -> bool:
    sign, bound = BOUNDS[key]
    return value is None or (value <= bound if sign == "≤" else value >= bound)


def promises(result: Mapping[str, Any]) -> str:
    """A line for each promise."""
    lines = ["| figure | value | promise | |", "|---|---:|---:|---|"]
    for key, (sign, bound) in BOUNDS.items():
        value = result.get(key)
        word = "not measured" if value is None else "ok" if _kept(key, value) else "MISS"
        promise = "–" if math.isinf(bound) else f"{sign} {bound:g}"
        lines.append(f"| {key} | {'–' if value is None else f'{value:g}'} | {promise} | {word} |")
    return "\n".join(lines)


def sides(rows: Mapping[str, Mapping[str, float]]) -> str:
    """A line for each side; a column for everything that was measured of any."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for name, row in rows.items():
        words = [f"{row[column]:.3g}" if column in row else "–" for column in columns]
        lines.append(f"| {name} | {' | '.join(words)} |")
    return "\n".join(lines)
