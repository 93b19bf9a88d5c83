"""The gateway's benchmark: its arithmetic, what it asks, how its model answers, what a commit is in SQLite's log."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import apsw
import pytest
from bench.gateway import asked, upstream, verdict
from bench.gateway.load import Door, connected
from bench.gateway.ours import commits_in
from bench.gateway.upstream import END, PIECE, Model, Script, script_of
from bench.gateway.verdict import Figures

BENCH = Path(__file__).resolve().parents[2] / "bench"


def rounds(*found: tuple[float, float, float]) -> list[dict[str, Figures]]:
    return [{"direct": {"p50_ms": a}, "relit": {"p50_ms": b}, "LiteLLM": {"p50_ms": c}} for a, b, c in found]


def test_what_is_added_is_the_median_of_the_rounds_own_differences() -> None:
    assert verdict.added(rounds((100, 102, 0), (200, 201, 0), (100, 190, 0)), "relit", "p50_ms") == 2


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    assert verdict.ratio(rounds((0, 6, 1), (0, 100, 10), (0, 4, 2)), "relit", "LiteLLM", "p50_ms") == 6


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: float) -> None:
    assert verdict.percentile([*range(1, 101)], share) == value


def test_the_result_has_every_promised_key_and_no_other() -> None:
    found = verdict.result({"added_p50_ms": 1.23456, "something": 4.0})
    assert list(found) == [
        "added_p50_ms", "added_p99_ms", "ratio_rps_litellm", "ratio_rss_litellm", "ratio_cpu_bare",
        "streams_500_max_stall_ms", "replay_50_calls_s", "tool_added_p50_ms",
    ]  # fmt: skip
    assert found["added_p50_ms"] == 1.235
    assert found["tool_added_p50_ms"] is None


def test_a_promise_is_missed_on_its_own_side() -> None:
    assert verdict.missed({"added_p50_ms": 3.1, "ratio_rps_litellm": 4.9, "tool_added_p50_ms": None}) == [
        "added_p50_ms", "ratio_rps_litellm",
    ]  # fmt: skip
    assert verdict.missed({"added_p50_ms": 3, "ratio_rps_litellm": 5}) == []


def test_promises_say_ok_miss_or_not_measured() -> None:
    text = verdict.promises({"added_p50_ms": 2.5, "ratio_cpu_bare": 2.5})
    lines = {line.split(" | ")[0][2:]: line for line in text.splitlines()}
    assert lines["added_p50_ms"].endswith("| 2.5 | ≤ 3 | ok |")
    assert lines["ratio_cpu_bare"].endswith("| 2.5 | ≤ 2 | MISS |")
    assert lines["ratio_rps_litellm"].endswith("| – | ≥ 5 | not measured |")


def test_the_table_has_a_line_for_each_side() -> None:
    text = verdict.sides({"relit": {"per_s": 512.3, "cpu_ms": 1.2}, "LiteLLM": {"per_s": 40}})
    assert text.splitlines()[2:] == ["| relit | 512 | 1.2 |", "| LiteLLM | 40 | – |"]


def test_a_turns_calls_are_all_different_and_grow() -> None:
    calls = asked.turn(50)
    assert len({*calls}) == 50
    assert [len(each) for each in calls] == sorted(len(each) for each in calls)
    assert all(json.loads(each)["stream"] for each in calls)


def test_two_agents_never_ask_the_same() -> None:
    assert len({asked.question(number, count) for number in range(3) for count in range(3)}) == 9


def test_a_script_stands_in_its_path() -> None:
    script = Script(20, 50, 5)
    assert script_of(f"{script.path}/v1/chat/completions") == script
    assert script.seconds == pytest.approx(0.145)


async def test_the_model_keeps_to_its_script() -> None:
    server = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        here = await connected(url)
        slow = Door(url, f"{Script(3, 20, 30).path}/v1")
        heard = await here.call(slow.request(asked.question(0, 0)))
        whole = await here.call(slow.request(asked.plain(0, 0)))
        here.close()
    assert 0.019 < heard.first < heard.took
    assert heard.took > 0.079
    assert heard.pause > 0
    assert whole.first == whole.took
    assert not heard.replayed


def test_chunks_are_the_protocols_own() -> None:
    for piece in (PIECE, END):
        events = [line[6:] for line in piece.split(b"\n") if line.startswith(b"data: ")]
        assert all(event == b"[DONE]" or json.loads(event)["object"] == "chat.completion.chunk" for event in events)
    assert json.loads(upstream.WHOLE)["usage"]["total_tokens"] == 40


def test_commits_are_counted_in_the_log(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "some.db"))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("CREATE TABLE t (x)")
    for number in range(3):
        with connection:
            for _ in range(50):
                connection.execute("INSERT INTO t VALUES (?)", (f"{number}" * 1000,))
    log = tmp_path / "some.db-wal"
    assert commits_in(log.read_bytes()) == 4
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    connection.execute("INSERT INTO t VALUES (1)")
    assert commits_in(log.read_bytes()) == 1
    connection.close()


def test_peers_are_pinned() -> None:
    for peer in ("litellm", "bare"):
        pins = (BENCH / f"requirements-{peer}.txt").read_text().splitlines()
        assert pins
        assert all("==" in pin for pin in pins)
