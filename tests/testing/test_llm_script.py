"""A script of the scripted model server: which request gets which answer."""

from __future__ import annotations

import json

import msgspec
import pytest

from relit.testing.llm import Answer, Ask, Rule, ToolCall, Turn, When, chat, messages, parse, responses
from relit.testing.llm.pieces import argument_pieces, text_pieces
from relit.testing.llm.script import Script

TOOL = "call_1"


def _ask(*said: str) -> Ask:
    """A conversation: ``user …``, ``assistant …``, ``tool …``."""
    parts = [each.partition(" ") for each in said]
    return Ask("chat", {"model": "m"}, tuple(Turn(role, text) for role, _, text in parts), ("read", "write"))  # type: ignore[arg-type]


def test_without_a_rule_the_answer_repeats_the_user() -> None:
    assert Script([]).answer(_ask("user hello")) == Answer("You said: hello")
    assert len(Script([]).answer(_ask("user " + "x" * 10_000)).text) < 300


def test_the_first_rule_that_is_true_answers() -> None:
    script = Script([Rule(When(says="b"), "1"), Rule(When(says="a"), "2"), Rule(When(), "3")])
    assert [script.answer(_ask(f"user {text}")).text for text in ("a", "ab", "c")] == ["2", "1", "3"]


def test_a_rule_is_spent_after_its_times() -> None:
    script = Script([Rule(When(), Answer(status=429), times=2), Rule(When(), "at last")])
    assert [script.answer(_ask("user a")).status for _ in range(3)] == [429, 429, 200]


def test_rules_may_be_added_while_the_script_runs() -> None:
    script = Script([Rule(When(), "once", times=1), Rule(When(), "then")])
    script.answer(_ask("user a"))
    script.rules.insert(0, Rule(When(says="new"), "new"))
    assert [script.answer(_ask(f"user {text}")).text for text in ("a", "new")] == ["then", "new"]


def test_predicates_and_answers_may_be_python() -> None:
    script = Script([Rule(lambda ask: len(ask.turns) == 2, lambda ask: Answer(ask.user.upper(), delay_s=1.0))])
    assert script.answer(_ask("system be", "user shout")) == Answer("SHOUT", delay_s=1.0)


def test_a_text_takes_the_users_words_and_the_tools_results_but_not_twice() -> None:
    script = Script([Rule(When(), "{user} gave {result} {braces}")])
    answer = script.answer(_ask("user {result}", "assistant ", "tool 1", "tool 2"))
    assert answer.text == "{result} gave 1\n2 {braces}"


def test_what_python_answers_is_left_as_it_is() -> None:
    assert Script([Rule(When(), lambda ask: "{user}")]).answer(_ask("user a")).text == "{user}"


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (When(says="second"), True),
        (When(says="first"), False),
        (When(matches=r"^sec\w+$"), True),
        (When(matches=r"^ond"), False),
        (When(after_tool=True), True),
        (When(after_tool=False), False),
        (When(result="found"), True),
        (When(result="second"), False),
        (When(offers=("read",)), True),
        (When(offers=("read", "shell")), False),
        (When(nth=3), True),
        (When(nth=2), False),
        (When(step=2), True),
        (When(step=3), False),
        (When(model="m"), True),
        (When(model="n"), False),
        (When(streams=False), True),
        (When(streams=True), False),
        (When(protocol="chat"), True),
        (When(protocol="messages"), False),
        (When(says="second", step=1), False),
    ],
    ids=str,
)
def test_all_that_a_condition_names_must_hold(when: When, expected: bool) -> None:
    ask = _ask("system be", "user first", "assistant hi", "user second", "assistant ", "tool it was found")
    assert when(ask) is expected


def test_other_requests_are_matched_by_their_protocol_only() -> None:
    assert not When()(Ask("embeddings"))
    assert When(protocol="embeddings")(Ask("embeddings"))


def test_a_script_is_plain_data_too() -> None:
    call = {"name": "read", "arguments": {"path": "a"}}
    data = [
        {"when": {"says": "go", "offers": ["read"]}, "answer": {"calls": [call], "pace_s": 0.1}, "times": 1},
        {"answer": "done"},
    ]
    script = Script(parse(json.dumps(data)))
    assert script.answer(_ask("user go")) == Answer(calls=(ToolCall("read", {"path": "a"}),), pace_s=0.1)
    assert script.answer(_ask("user go")) == Answer("done")


def test_a_script_with_a_wrong_name_is_refused_with_its_place() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"unknown field `say`.*\$\[1\]\.when"):
        parse('[{"answer": "a"}, {"answer": "b", "when": {"say": "x"}}]')


CONVERSATIONS = {
    "chat": chat.read(
        {
            "messages": [
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "look"}]},
                {"role": "assistant", "content": None, "tool_calls": [{"id": TOOL, "function": {"name": "read"}}]},
                {"role": "tool", "tool_call_id": TOOL, "content": "found"},
            ],
            "tools": [{"type": "function", "function": {"name": "read"}}],
        }
    ),
    "responses": responses.read(
        {
            "instructions": "be brief",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "look"}]},
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hm."}]},
                {"type": "function_call", "call_id": TOOL, "name": "read", "arguments": "{}"},
                {"type": "function_call_output", "call_id": TOOL, "output": "found"},
            ],
            "tools": [{"type": "function", "name": "read"}],
        }
    ),
    "messages": messages.read(
        {
            "max_tokens": 1,
            "system": [{"type": "text", "text": "be brief"}],
            "messages": [
                {"role": "user", "content": "look"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": TOOL, "name": "read", "input": {}}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": TOOL, "content": [{"type": "text", "text": "found"}]}
                    ],
                },
            ],
            "tools": [{"name": "read"}],
        }
    ),
}


@pytest.mark.parametrize("ask", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_conversation_reads_the_same_in_every_protocol(ask: Ask) -> None:
    assert [ask.user, ask.result, ask.after_tool, ask.tools] == ["look", "found", True, ("read",)]
    assert [ask.nth, ask.step] == [2, 2]
    assert ask.turns[0] == Turn("system", "be brief")
    assert [turn.calls for turn in ask.turns if turn.calls] == [(TOOL,)]
    assert ask.turns[-1].results == (TOOL,)


@pytest.mark.parametrize("text", ["", " ", "one", "one two\nthree", "  lead and trail \n"])
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    assert "".join(text_pieces(text)) == text


def test_the_pieces_of_arguments_are_the_arguments_even_if_they_are_broken() -> None:
    assert "".join(argument_pieces(ToolCall("t", {"a": "b" * 40}))) == json.dumps(
        {"a": "b" * 40}, separators=(",", ":")
    )
    assert "".join(argument_pieces(ToolCall("t", '{"a":'))) == '{"a":'
