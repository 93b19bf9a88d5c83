"""What stands in an agent's prompts: known for each conversation, and never more than a few of them."""

from __future__ import annotations

import msgspec
import pytest

from relit.gateway.tools import counting, prompts
from relit.gateway.tools.prompts import Prompts
from relit.store.values import Turn

TURN = Turn(run="r", life="1")
HASH = counting.hash_of({"to": "ann"})


def body(times: int) -> bytes:
    turns = []
    for number in range(times):
        call = {"id": f"c{number}", "function": {"name": "mail", "arguments": '{"to": "ann"}'}}
        turns += [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": f"c{number}"}]
    return msgspec.json.encode({"messages": turns, "tools": [{}]})


def test_the_conversation_in_which_it_stands_least_often_counts_while_a_turn_is_lived_again() -> None:
    here = Prompts()
    assert here.count("a", TURN, "mail", HASH) is None
    here.saw("a", TURN, "one", body(2))
    here.answered("a", TURN, replayed=True)
    assert here.relives("a", TURN)
    assert here.count("a", TURN, "mail", HASH) == 2
    here.saw("a", TURN, "two", body(1))
    assert here.count("a", TURN, "mail", HASH) == 1
    here.saw("a", TURN, "two", body(3))
    assert here.count("a", TURN, "mail", HASH) == 2
    assert here.count("a", Turn(run="r", life="2"), "mail", HASH) is None
    assert here.count("b", TURN, "mail", HASH) is None


def test_what_once_stood_in_any_conversation_counts_when_the_turn_goes_on_by_itself() -> None:
    """A summary takes calls out of the prompt, and another conversation never had them."""
    here = Prompts()
    here.saw("a", TURN, "one", body(3))
    here.answered("a", TURN, replayed=False)
    assert here.count("a", TURN, "mail", HASH) == 3
    here.saw("a", TURN, "after a summary", body(0))
    here.saw("a", TURN, "one", body(1))
    assert here.count("a", TURN, "mail", HASH) == 3
    assert not here.relives("a", TURN)
    assert not here.relives("a", Turn(run="r", life="2")), "nobody knows"


def test_a_prompt_without_tools_says_nothing() -> None:
    here = Prompts()
    assert not here.saw("a", TURN, "title", msgspec.json.encode({"messages": []}))
    assert here.saw("a", TURN, "one", body(0))
    assert not here.saw("a", Turn(), "one", body(0))


@pytest.mark.parametrize("old", [0, 1])
def test_of_many_conversations_the_oldest_stand_together(monkeypatch: pytest.MonkeyPatch, old: int) -> None:
    monkeypatch.setattr(prompts, "LANES", 2)
    here = Prompts()
    here.saw("a", TURN, "first", body(old))
    for number in range(9):
        here.saw("a", TURN, f"lane-{number}", body(3))
        here.answered("a", TURN, replayed=True)
        assert here.count("a", TURN, "mail", HASH) == old, "it is not forgotten"
    assert len(here._known["a"]._lanes) == 2
