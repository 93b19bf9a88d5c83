"""What is told of an answer that comes again: nothing twice, nothing missing, and a restart only where it has to be."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relit.turns.released import Assembled, Item, Telling

letters = st.text(alphabet="aé😀", max_size=6)
deliveries = st.lists(st.lists(letters, max_size=5), min_size=1, max_size=5)


def assembled(items: list[Any]) -> Assembled:
    found = Assembled()
    for item in items:
        found.see(item)
    return found


def told(items: list[Item], pieces: list[str], *, whole: bool = True) -> list[Item]:
    """What a delivery adds to what was told before."""
    telling = Telling(assembled(items))
    found = [item for piece in pieces for item in telling.piece(piece)]
    return found + (telling.end() if whole else [])


@given(deliveries)
def test_who_follows_has_exactly_the_answer_at_its_end(deliveries: list[list[str]]) -> None:
    items: list[Item] = []
    for pieces in deliveries[:-1]:
        items += told(items, pieces, whole=False)  # each was cut off
    items += told(items, deliveries[-1])
    assert assembled(items).text == "".join(deliveries[-1])


@given(deliveries)
def test_who_follows_has_the_longer_of_what_was_told_and_what_has_come(deliveries: list[list[str]]) -> None:
    items: list[Item] = []
    for pieces in deliveries:
        before, now = assembled(items).text, "".join(pieces)
        items += told(items, pieces, whole=False)
        assert assembled(items).text == (before if before.startswith(now) else now)


@given(st.text(max_size=20), st.data())
def test_the_same_answer_is_told_once_wherever_it_is_cut(answer: str, data: st.DataObject) -> None:
    items: list[Item] = []
    for cut in [*data.draw(st.lists(st.integers(0, len(answer)), max_size=4)), len(answer)]:
        size = data.draw(st.integers(1, 5))
        pieces = [answer[at : min(at + size, cut)] for at in range(0, cut, size)]
        items += told(items, pieces, whole=cut == len(answer))
    assert all(list(item) == ["text"] and item["text"] for item in items)
    assert "".join(item["text"] for item in items) == answer


@given(deliveries)
def test_it_begins_anew_only_where_the_new_answer_is_another_one(deliveries: list[list[str]]) -> None:
    items: list[Item] = []
    for pieces in deliveries:
        before, now = assembled(items), "".join(pieces)
        added = told(items, pieces)
        items += added
        anew = [item["restarted"] for item in added if "restarted" in item]
        assert anew == ([] if now.startswith(before.text) else [before.restarts + 1])


@given(st.lists(letters, max_size=6))
def test_a_first_delivery_is_told_piece_by_piece(pieces: list[str]) -> None:
    assert told([], pieces) == [{"text": piece} for piece in pieces if piece]


def test_another_answer_is_told_whole_after_a_restart() -> None:
    before: list[Item] = [{"text": "one two"}, {"redelivered": 2}]
    assert told(before, ["one", " th", "ree"]) == [{"restarted": 1}, {"text": "one th"}, {"text": "ree"}]
    assert told([*before, {"restarted": 1}, {"text": "x"}], ["y"]) == [{"restarted": 2}, {"text": "y"}]


def test_an_answer_that_ends_too_soon_is_told_anew_at_its_end() -> None:
    before: list[Item] = [{"text": "one two"}]
    assert told(before, ["one"], whole=False) == []
    assert told(before, ["one"]) == [{"restarted": 1}, {"text": "one"}]
    assert told(before, []) == [{"restarted": 1}]


def test_a_long_prefix_that_comes_again_in_small_pieces_takes_no_long() -> None:
    had = "abc" * 100_000
    assert told([{"text": had}], [*had, "d"]) == [{"text": "d"}]
