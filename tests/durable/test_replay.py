"""Matching calls with a journal: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.durable.replay import Replay, furthest, places
from relit.errors import JournalMismatch
from relit.store.values import Effect, Journal, Step, Wait


def step(seq: int, pos: str, kind: str = "step", name: str = "f", hash: bytes = b"h") -> Step:
    return Step(seq=seq, pos=pos, kind=kind, name=name, hash=hash, result=b"\x01\xc0")


def effect(pos: str, name: str = "pay", hash: bytes = b"h") -> Effect:
    return Effect(run="r", pos=pos, name=name, doubt="key", key="k", state="open", hash=hash)


def test_a_recorded_call_is_answered_once() -> None:
    replay = Replay(Journal(steps=[step(1, "1"), step(2, "2")]))
    assert replay.match("1", "step", "f", b"h") is not None
    assert replay.leftover() == "step 'f' (input 68) at 2"
    assert replay.match("2", "step", "f", b"h") is not None
    assert replay.match("3", "step", "g", b"x") is None
    assert replay.leftover() is None
    assert replay.last_seq == 2


@pytest.mark.parametrize(
    ("kind", "name", "hash", "shown"),
    [
        ("effect", "f", b"h", "effect 'f' (input 68)"),
        ("step", "g", b"h", "step 'g' (input 68)"),
        ("step", "f", b"i", "step 'f' (input 69)"),
    ],
)
def test_another_call_is_a_mismatch_that_shows_both_sides(kind: str, name: str, hash: bytes, shown: str) -> None:
    replay = Replay(Journal(steps=[step(1, "1")]))
    with pytest.raises(JournalMismatch) as found:
        replay.match("1", kind, name, hash)
    assert found.value.recorded == "step 'f' (input 68)"
    assert found.value.found == shown
    assert "ctx.patched" in found.value.fix


@pytest.mark.parametrize(
    ("wait", "kind", "name", "fits"),
    [
        (Wait(pos="1", kind="timer"), "sleep", "sleep", True),
        (Wait(pos="1", kind="timer"), "signal", "go", False),
        (Wait(pos="1", kind="signal", name="go"), "signal", "go", True),
        (Wait(pos="1", kind="signal", name="go"), "signal", "stop", False),
        (Wait(pos="1", kind="child", name="01abc"), "child", "a/b", True),
        (Wait(pos="1", kind="child", name="01abc"), "step", "a/b", False),
        (Wait(pos="1", kind="retry", name="f"), "step", "f", True),
        (Wait(pos="1", kind="retry", name="f"), "step", "g", False),
        (Wait(pos="1", kind="retry", name="f"), "sleep", "sleep", False),
    ],
)
def test_a_wait_belongs_to_its_call(wait: Wait, kind: str, name: str, fits: bool) -> None:
    replay = Replay(Journal(waits=[wait]))
    if fits:
        assert replay.match("1", kind, name, b"") is None
        assert replay.wait("1") == wait
        assert replay.leftover() is None
    else:
        with pytest.raises(JournalMismatch):
            replay.match("1", kind, name, b"")


def test_an_open_effect_belongs_to_its_call() -> None:
    replay = Replay(Journal(effects=[effect("1")]))
    assert replay.leftover() == "effect pay at 1"
    assert replay.match("1", "effect", "pay", b"h") is None
    with pytest.raises(JournalMismatch):
        replay.match("1", "effect", "pay", b"other")
    with pytest.raises(JournalMismatch):
        replay.match("1", "step", "pay", b"h")


def test_a_removed_patch_marker_is_no_mismatch() -> None:
    replay = Replay(Journal(steps=[step(1, "patch:x", "patch", "x")]))
    assert replay.leftover() is None


def test_a_patch_is_off_while_there_is_history_beyond_and_on_after_it() -> None:
    journal = Journal(steps=[step(1, "1"), step(2, "2")])
    assert not Replay(journal).patched("x", "", 1, [])
    assert Replay(journal).patched("x", "", 2, [])
    assert Replay(Journal(steps=[step(1, "patch:x", "patch", "x"), step(2, "1")])).patched("x", "", 0, [])


def test_a_patch_stays_as_it_was_decided() -> None:
    replay = Replay(Journal(steps=[step(1, "1")]))
    assert not replay.patched("x", "", 0, [])
    assert not replay.patched("x", "", 5, [])


def test_a_patch_in_a_branch_sees_the_history_after_its_gather() -> None:
    journal = Journal(steps=[step(1, "1/0.1"), step(2, "1/1.1"), step(3, "2")])
    assert not Replay(journal).patched("x", "1/0", 1, [("", 1)])
    assert Replay(Journal(steps=journal.steps[:2])).patched("x", "1/0", 1, [("", 1)])


def test_waits_and_open_effects_are_history() -> None:
    assert not Replay(Journal(waits=[Wait(pos="2", kind="timer")])).patched("x", "", 1, [])
    assert not Replay(Journal(effects=[effect("2")])).patched("x", "", 1, [])


@pytest.mark.parametrize(
    ("pos", "found"),
    [
        ("3", [("", 3)]),
        ("2/0.1", [("", 2), ("2/0", 1)]),
        ("2/0.3/1.4", [("", 2), ("2/0", 3), ("2/0.3/1", 4)]),
        ("t1.2", [("t1", 2)]),
        ("2/1.t1.5", [("", 2), ("2/1.t1", 5)]),
        ("patch:x", []),
    ],
)
def test_a_position_lies_in_all_its_scopes(pos: str, found: list[tuple[str, int]]) -> None:
    assert list(places(pos)) == found


@given(st.lists(st.integers(1, 50), unique=True))
def test_the_furthest_place_is_the_highest(numbers: list[int]) -> None:
    journal = Journal(steps=[step(i, str(n)) for i, n in enumerate(numbers)])
    assert furthest(journal).get("", 0) == max(numbers, default=0)
