"""From measurements to figures and verdicts. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Figures = Mapping[str, float]
Round = Mapping[str, Figures]  # a row's key -> its figures in that round


@dataclass(frozen=True)
class Ratio:
    """relit's figure over a peer's, each from the same round."""

    key: str
    ours: str
    theirs: str
    figure: str
    inverse: bool = False  # lower is better: theirs over ours


@dataclass(frozen=True)
class Bound:
    """What a figure promises."""

    key: str
    least: float | None = None
    most: float | None = None

    def holds(self, value: float) -> bool:
        """Whether ``value`` keeps the promise."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


RATIOS = [
    Ratio("ratio_aggregate_sqlite", "relit_sqlite", "dbos_sqlite", "aggregate"),
    Ratio("ratio_aggregate_sqlite_wal", "relit_sqlite", "dbos_sqlite_wal", "aggregate"),
    Ratio("ratio_aggregate_postgres", "relit_postgres", "dbos_postgres", "aggregate"),
    Ratio("ratio_sequential_sqlite", "relit_sqlite", "dbos_sqlite", "sequential"),
    Ratio("ratio_sequential_sqlite_wal", "relit_sqlite", "dbos_sqlite_wal", "sequential"),
    Ratio("ratio_sequential_postgres", "relit_postgres", "dbos_postgres", "sequential"),
    Ratio("ratio_start_default", "relit_sqlite", "dbos_default", "start_p50_ms", inverse=True),
    Ratio("ratio_start_fastest", "relit_sqlite", "dbos_fastest", "start_p50_ms", inverse=True),
    Ratio("ratio_aggregate_restate", "relit_sqlite", "restate", "aggregate"),
    Ratio("ratio_aggregate_restate_granian", "relit_sqlite", "restate_granian", "aggregate"),
    Ratio("ratio_aggregate_absurd", "relit_postgres", "absurd", "aggregate"),
    Ratio("ratio_aggregate_temporal", "relit_sqlite", "temporal", "aggregate"),
    Ratio("ratio_aggregate_temporal_local", "relit_sqlite", "temporal_local", "aggregate"),
]

BOUNDS = [
    Bound("ratio_aggregate_sqlite", least=15),
    Bound("ratio_aggregate_sqlite_wal", least=8),
    Bound("ratio_aggregate_postgres", least=10),
    Bound("ratio_sequential_sqlite", least=4),
    Bound("ratio_sequential_postgres", least=1.5),
    Bound("enqueue_start_p50_ms", most=5),
    Bound("ratio_start_fastest", least=1),
    Bound("ratio_aggregate_restate", least=3),
    Bound("waiting_10k_mb", most=20),
    Bound("waiting_idle_cpu_percent", most=0.5),
    Bound("wake_p50_ms", most=30),
    Bound("start_with_100k_waiting_s", most=5),
    Bound("cpu_us_per_step", most=60),
    Bound("replay_steps_per_s", least=100_000),
    Bound("growth_last_over_first", most=1.25),
]


def ratio(rounds: Sequence[Round], wanted: Ratio) -> float | None:
    """The median of the rounds' own ratios; None when no round has both sides."""
    found = []
    for each in rounds:
        ours, theirs = each.get(wanted.ours, {}).get(wanted.figure), each.get(wanted.theirs, {}).get(wanted.figure)
        if ours and theirs:
            found.append(theirs / ours if wanted.inverse else ours / theirs)
    return median(found) if found else None


def medians(rounds: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Each row's figures, each the median over the rounds that have it."""
    collected: dict[str, dict[str, list[float]]] = {}
    for each in rounds:
        for row, figures in each.items():
            for name, value in figures.items():
                collected.setdefault(row, {}).setdefault(name, []).append(value)
    return {row: {name: median(values) for name, values in figures.items()} for row, figures in collected.items()}


def summary(rounds: Sequence[Round], limits: Figures) -> dict[str, float | None]:
    """Every key of the last line but the raw medians; None where it was not measured."""
    found: dict[str, float | None] = {each.key: _short(ratio(rounds, each)) for each in RATIOS}
    ours = medians(rounds).get("relit_sqlite", {})
    found["enqueue_start_p50_ms"] = _short(ours.get("start_p50_ms"))
    found["cpu_us_per_step"] = _short(ours.get("cpu_us_per_step"))
    for bound in BOUNDS:
        found.setdefault(bound.key, None)
    return found | {name: _short(value) for name, value in limits.items()}


def _short(value: float | None) -> float | None:
    """Four significant digits: more would pretend."""
    return None if value is None else float(f"{value:.4g}")
