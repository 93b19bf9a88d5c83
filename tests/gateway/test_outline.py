"""In which parts two calls differ can be told, and nothing of what they say."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.gateway.matching import match_of
from relit.gateway.outline import differs, is_near

LONG = [{"role": "user", "content": f"turn {number}"} for number in range(100)]
BODY: dict[str, Any] = {
    "model": "m",
    "system": "Be short.",
    "tools": [{"name": "look"}],
    "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes?"}],
}


def outline(body: dict[str, Any]) -> str:
    found = match_of("/messages", json.dumps(body).encode())
    assert found is not None
    return found.outline


def changed(**to: Any) -> str:
    return outline({**copy.deepcopy(BODY), **to})


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ({}, ""),
        ({"system": "Be brief."}, "system"),
        ({"model": "n", "temperature": 1}, "model, temperature"),
        ({"messages": [BODY["messages"][0], {"role": "assistant", "content": "no"}]}, "messages[1]"),
        ({"messages": BODY["messages"][:1]}, "messages[1]"),
        ({"messages": [*BODY["messages"], {"role": "user", "content": "so"}], "tools": []}, "tools, messages[2]"),
        ({"messages": LONG}, "messages"),
        ({"messages": LONG[:10]}, "messages[0]"),
        ({"messages": "hello"}, "messages"),
    ],
)
def test_what_is_another_is_named(to: dict[str, Any], told: str) -> None:
    assert differs(outline(BODY), changed(**to)) == told


@pytest.mark.parametrize(
    ("at", "told"),
    [(99, "messages[99]"), (68, "messages[68]"), (67, "messages[0] to [67]"), (3, "messages[0] to [67]")],
)
def test_of_a_long_conversation_the_last_turns_are_told_apart(at: int, told: str) -> None:
    other = [*LONG[:at], {"role": "user", "content": "another"}, *LONG[at + 1 :]]
    assert differs(changed(messages=LONG), changed(messages=other)) == told


def test_of_long_ones_of_two_lengths_only_the_last_turns_can_be_compared() -> None:
    other = [{"role": "user", "content": "another"}, *LONG[1:], {"role": "user", "content": "more"}]
    assert differs(changed(messages=LONG), changed(messages=other)) == "messages"


@pytest.mark.parametrize("nothing", ["", "{", '{"parts": 1}'])
def test_what_is_not_on_record_is_not_known(nothing: str) -> None:
    assert differs(nothing, outline(BODY)) == differs(outline(BODY), nothing) == ""
    assert not is_near("", outline(BODY))


@pytest.mark.parametrize(
    ("to", "near"),
    [
        ({"system": "It is 15:04."}, True),
        ({"messages": [{"role": "system", "content": "15:04"}, *BODY["messages"]], "tools": [], "system": ""}, True),
        ({"messages": [{"role": "user", "content": "Think of a title."}], "tools": [], "system": ""}, False),
        ({"messages": [{"role": "user", "content": "Think of a title."}], "system": "Be nice."}, True),
    ],
)
def test_one_that_has_much_in_common_is_near(to: dict[str, Any], near: bool) -> None:
    assert is_near(outline(BODY), changed(**to)) is near


def test_to_have_no_tools_is_not_much() -> None:
    one, other = ({"messages": [{"role": "user", "content": each}], "tools": []} for each in ("hello", "title"))
    assert not is_near(outline(one), outline(other))


def test_it_stays_small_whatever_is_asked() -> None:
    many = {f"key-{number}": "x" for number in range(5_000)} | {"k" * 5_000: 1}
    assert len(outline({**BODY, **many, "messages": LONG * 50})) < 2_000


def test_it_says_nothing_of_what_is_asked() -> None:
    secret = outline({"model": "m", "messages": [{"role": "user", "content": "hunter2"}]})
    assert "hunter2" not in secret


PART = st.dictionaries(st.sampled_from(["model", "tools", "messages", "input", "stop"]), st.lists(st.integers(0, 2)))


@given(PART, PART)
def test_it_differs_where_the_calls_do_and_nowhere_else(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (differs(outline(one), outline(other)) == "") is (one == other)
