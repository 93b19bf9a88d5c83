"""What a person reads: the table of engines and the list of promises. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rows import Row
from verdict import BOUNDS


def engines(rows: Sequence[Row], raw: Mapping[str, Mapping[str, float]]) -> str:
    """A markdown table with one line for each engine that was measured."""
    lines = [
        "| engine | 100 runs × 10 steps, steps/s | one run, steps/s | enqueue → start p50 / p99, ms |",
        "|---|---:|---:|---:|",
    ]
    for row in rows:
        figures = raw.get(row.key)
        if figures:
            start = f"{_number(figures.get('start_p50_ms'))} / {_number(figures.get('start_p99_ms'))}"
            lines.append(
                f"| {row.title} | {_number(figures.get('aggregate'))} | {_number(figures.get('sequential'))} "
                f"| {start if 'start_p50_ms' in figures else '–'} |"
            )
    return "\n".join(lines)


def promises(found: Mapping[str, float | None]) -> str:
    """A markdown table with one line for each promise: kept, broken, or not measured in this run."""
    lines = ["| figure | value | promise | |", "|---|---:|---:|---|"]
    for bound in BOUNDS:
        value = found.get(bound.key)
        word = "not measured" if value is None else "pass" if bound.holds(value) else "FAIL"
        lines.append(f"| {bound.key} | {_number(value)} | {bound} | {word} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
