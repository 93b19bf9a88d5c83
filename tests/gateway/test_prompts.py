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


def test_the_conversation_in_which_it_stands_least_often_counts() -> None:
    here = Prompts()
    assert here.count("a", TURN, "mail", HASH) is None
    here.saw("a", TURN, "one", body(2))
    assert here.count("a", TURN, "mail", HASH) == 2
    here.saw("a", TURN, "two", body(1))
    assert here.count("a", TURN, "mail", HASH) == 1
    here.saw("a", TURN, "two", body(3))
    assert here.count("a", TURN, "mail", HASH) == 2
    assert here.count("a", Turn(run="r", life="2"), "mail", HASH) is None
    assert here.count("b", TURN, "mail", HASH) is None


@pytest.mark.parametrize("old", [0, 1])
def test_of_many_conversations_the_oldest_stand_together(monkeypatch: pytest.MonkeyPatch, old: int) -> None:
    monkeypatch.setattr(prompts, "LANES", 2)
    here = Prompts()
    here.saw("a", TURN, "first", body(old))
    for number in range(9):
        here.saw("a", TURN, f"lane-{number}", body(3))
        assert here.count("a", TURN, "mail", HASH) == old, "it is not forgotten"
    assert len(here._known["a"]._lanes) == 2
