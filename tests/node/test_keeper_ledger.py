"""What the keeper writes down of its children, and what its successor reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit.node import keeper_lives
from relit.node.keeper_lives import Ledger, Life, load


def life(key: str, pid: int = 7) -> Life:
    made = Life(key, f"name-{key}", "tag", "", "scope")
    made.pid = pid
    return made


def pids(folder: Path) -> dict[object, object]:
    return {each["key"]: each["pid"] for each in load(str(folder))}


def test_the_last_word_of_each_life_counts(tmp_path: Path) -> None:
    ledger, lives = Ledger(str(tmp_path)), {"a": life("a"), "b": life("b")}
    ledger.keep("a", lives)
    lives["b"] = life("b", pid=8)
    ledger.keep("b", lives)
    assert pids(tmp_path) == {"a": 7, "b": 8}


def test_what_was_forgotten_is_gone(tmp_path: Path) -> None:
    ledger, lives = Ledger(str(tmp_path)), {"a": life("a"), "b": life("b")}
    ledger.keep("a", lives)
    del lives["a"]
    ledger.keep("a", lives)
    assert pids(tmp_path) == {"b": 7}


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    ledger, lives = Ledger(str(tmp_path)), {"a": life("a")}
    ledger.keep("a", lives)
    with (tmp_path / "keeper.json").open("a") as file:
        file.write('{"key": "a", "pid"')
    assert pids(tmp_path) == {"a": 7}


def test_another_boot_leaves_nothing(tmp_path: Path) -> None:
    Ledger(str(tmp_path)).keep("a", {"a": life("a")})
    text = (tmp_path / "keeper.json").read_text()
    (tmp_path / "keeper.json").write_text(text.replace(keeper_lives.boot_id(), "another"))
    assert load(str(tmp_path)) == []


def test_it_does_not_grow_for_ever(tmp_path: Path) -> None:
    ledger, lives = Ledger(str(tmp_path)), {"a": life("a")}
    for pid in range(10_000):
        lives["a"].pid = pid
        ledger.keep("a", lives)
    assert (tmp_path / "keeper.json").stat().st_size < 1_200_000
    assert pids(tmp_path) == {"a": 9_999}


def test_after_a_write_that_failed_all_of_it_is_written(tmp_path: Path) -> None:
    ledger, lives = Ledger(str(tmp_path)), {"a": life("a")}
    blocked = tmp_path / "keeper.json.new"
    blocked.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        ledger.keep("a", lives)
    blocked.rmdir()
    lives["b"] = life("b")
    ledger.keep("b", lives)
    assert pids(tmp_path) == {"a": 7, "b": 7}
