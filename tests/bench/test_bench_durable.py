"""The benchmark's arithmetic: ratios, promises, tables, the curve."""

from __future__ import annotations

from pathlib import Path

import curve
import table
import verdict
from rows import LIMITS, QUICK, ROWS

BENCH = Path(__file__).resolve().parents[2] / "bench"


def rounds_of(*pairs: tuple[float, float]) -> list[verdict.Round]:
    return [{"relit_sqlite": {"aggregate": ours}, "dbos_sqlite": {"aggregate": theirs}} for ours, theirs in pairs]


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    found = verdict.summary(rounds_of((1000, 100), (2000, 50), (300, 15)), {})
    assert found["ratio_aggregate_sqlite"] == 20


def test_a_ratio_without_its_peer_is_null() -> None:
    assert verdict.summary(rounds_of((1000, 100)), {})["ratio_aggregate_restate"] is None


def test_a_round_that_lacks_one_side_is_left_out() -> None:
    rounds = [*rounds_of((1000, 100)), {"relit_sqlite": {"aggregate": 5000.0}}]
    assert verdict.summary(rounds, {})["ratio_aggregate_sqlite"] == 10


def test_latencies_are_compared_the_other_way_round() -> None:
    rounds = [{"relit_sqlite": {"start_p50_ms": 2.0}, "dbos_fastest": {"start_p50_ms": 8.0}}]
    found = verdict.summary(rounds, {})
    assert found["ratio_start_fastest"] == 4
    assert found["enqueue_start_p50_ms"] == 2


def test_the_summary_has_every_promised_key_even_when_nothing_was_measured() -> None:
    found = verdict.summary([], {})
    assert {bound.key for bound in verdict.BOUNDS} <= found.keys()
    assert set(found.values()) == {None}


def test_limits_stand_in_the_summary() -> None:
    assert verdict.summary([], {"waiting_10k_mb": 9.51234})["waiting_10k_mb"] == 9.512


def test_promises_say_pass_fail_or_not_measured() -> None:
    text = table.promises({"ratio_aggregate_sqlite": 14.9, "wake_p50_ms": 3.1})
    lines = {line.split(" | ")[0][2:]: line for line in text.splitlines()}
    assert lines["ratio_aggregate_sqlite"].endswith("| 14.9 | ≥ 15 | FAIL |")
    assert lines["wake_p50_ms"].endswith("| 3.1 | ≤ 30 | pass |")
    assert lines["replay_steps_per_s"].endswith("| – | ≥ 100000 | not measured |")


def test_the_table_has_a_line_for_each_engine_that_was_measured() -> None:
    text = table.engines(ROWS, {"relit_sqlite": {"aggregate": 11_200.4, "sequential": 2_555}})
    assert text.splitlines()[2:] == ["| relit, SQLite | 11,200 | 2,555 | – |"]


def test_every_ratio_names_rows_that_exist() -> None:
    keys = {row.key for row in ROWS}
    assert len(keys) == len(ROWS)
    assert {name for each in verdict.RATIOS for name in (each.ours, each.theirs)} <= keys
    assert set(QUICK) <= keys | {LIMITS}


def test_every_row_has_its_script_and_its_pinned_requirements() -> None:
    for row in ROWS:
        assert (BENCH / "durable" / "peers" / f"{row.script}_peer.py").exists()
        if row.venv is not None:
            pins = (BENCH / f"requirements-{row.script}.txt").read_text().splitlines()
            assert all("==" in pin for pin in pins)


def test_the_curve_is_drawn_with_its_numbers() -> None:
    points = [
        {"steps": 50_000, "cpu_us_per_step": 44.0, "wall_us_per_step": 70.0},
        {"steps": 100_000, "cpu_us_per_step": 45.0, "wall_us_per_step": 71.5},
    ]
    machine = {"cores": 2, "python": "3.11.7", "fsync_p50_ms": 0.2}
    text = curve.page({"growth": points, "machine": machine})
    assert "| 100,000 | 45.0 | 71.5 |" in text
    assert curve.picture(points).count("<polyline") == 2
