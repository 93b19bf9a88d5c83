"""Which calls are the same: what varies by itself is masked, and nothing else."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.gateway.matching import masks, match_of

TEXT = st.text(max_size=20)
BODY: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "It is 2026-11-26 15:04. Session 0198c0de-0000-7000-8000-000000000001."},
        {"role": "user", "content": "What is the weather?"},
        {"role": "assistant", "tool_calls": [
            {"id": "call_a", "type": "function", "function": {"name": "look", "arguments": "{}"}},
            {"id": "call_b", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "call_a", "content": "rain"},
        {"role": "tool", "tool_call_id": "call_b", "content": "sun"},
    ],
    "tools": [
        {"type": "function", "function": {"name": "look", "parameters": {"properties": {"id": {"type": "string"}}}}},
    ],
}  # fmt: skip
HIDDEN = masks([r"\d{4}-\d\d-\d\d \d\d:\d\d", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"])


def key(body: dict[str, Any], below: str = "/chat/completions") -> str:
    found = match_of(below, json.dumps(body).encode(), HIDDEN)
    assert found is not None
    return found.key


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    body = copy.deepcopy(BODY)
    at: Any = body
    for each in path[:-1]:
        at = at[each]
    at[path[-1]] = to
    return body


def test_the_time_and_ids_of_sessions_are_masked() -> None:
    later = "It is 2026-11-27 09:30. Session 0198c0de-ffff-7000-8000-00000000abcd."
    assert key(changed("messages", 0, "content", to=later)) == key(BODY)
    assert key(changed("messages", 0, "content", to=later.replace("It is", "It was"))) != key(BODY)


def test_ids_of_tool_calls_are_counted() -> None:
    text = json.dumps(BODY).replace("call_a", "toolu_1").replace("call_b", "toolu_2")
    assert key(json.loads(text)) == key(BODY)
    crossed = json.dumps(BODY).replace('"tool_call_id": "call_a"', '"tool_call_id": "call_c"')
    assert key(json.loads(crossed)) != key(BODY)


@pytest.mark.parametrize(
    "body",
    [
        changed("messages", 1, "content", to="What is the weather? "),
        changed("messages", 3, "content", to="snow"),
        changed("model", to="other"),
        changed("tools", to=[]),
        changed("temperature", to=0.5),
        changed("messages", 2, "tool_calls", 0, "function", "name", to="listen"),
    ],
)
def test_whatever_else_is_another_is_another_call(body: dict[str, Any]) -> None:
    assert key(body) != key(BODY)


@pytest.mark.parametrize(
    "place",
    [
        lambda id: {"messages": [{"role": "assistant", "content": [
            {"type": "tool_use", "id": "toolu_1", "name": "pay", "input": {"id": id}},
        ]}]},
        lambda id: {"messages": [{"role": "user", "content": [{"type": "document", "id": id}]}]},
        lambda id: {"input": "go on", "prompt": {"id": id}},
        lambda id: {"input": "go on", "conversation": {"id": id}},
        lambda id: {"input": [{"type": "item_reference", "id": id}]},
    ],
)  # fmt: skip
def test_an_id_that_says_what_is_meant_is_read(place: Any) -> None:
    assert key(place("order-A")) != key(place("order-B"))


@pytest.mark.parametrize(
    "place",
    [
        lambda id: {"messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "pay", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "ok"}]},
        ]},
        lambda id: {"input": [
            {"type": "function_call", "id": f"fc_{id}", "call_id": id, "name": "pay", "arguments": "{}"},
            {"type": "function_call_output", "call_id": id, "output": "ok"},
        ]},
    ],
)  # fmt: skip
def test_in_every_protocol_ids_of_calls_are_counted(place: Any) -> None:
    assert key(place("one")) == key(place("two"))


def test_what_is_too_deep_has_no_match() -> None:
    deep = b'{"messages":' + b"[" * 900 + b"]" * 900 + b"}"
    assert match_of("/chat/completions", deep, masks(["x"])) is None
    assert match_of("/chat/completions", deep.replace(b"[", b"[" * 9).replace(b"]", b"]" * 9)) is None


@pytest.mark.parametrize("odd", [[], {}, None, 1, True])
def test_a_type_that_is_no_word_is_read_as_it_is(odd: Any) -> None:
    assert key({"messages": [{"type": odd, "content": [{"type": odd}]}]}) != key({"messages": [{"type": "x"}]})


def test_the_order_of_keys_and_what_only_a_provider_reads_do_not_matter() -> None:
    turned = {name: BODY[name] for name in reversed(BODY)} | {"user": "u", "metadata": {"x": 1}}
    assert key(turned) == key(BODY)
    assert key(BODY, "/responses") != key(BODY)


def test_a_conversation_is_known_by_its_beginning() -> None:
    def lane(body: dict[str, Any]) -> str:
        found = match_of("/chat/completions", json.dumps(body).encode(), HIDDEN)
        assert found is not None
        return found.lane

    longer = changed("messages", to=[*BODY["messages"], {"role": "assistant", "content": "Rain."}])
    assert lane(longer) == lane(BODY)
    assert lane(changed("messages", 0, "content", to="Think of a title.")) != lane(BODY)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"\xff"])
def test_what_is_no_table_has_no_match(body: bytes) -> None:
    assert match_of("/chat/completions", body) is None


@given(body=st.recursive(TEXT | st.integers() | st.none(), lambda of: st.lists(of) | st.dictionaries(TEXT, of)))
def test_every_body_has_one_key(body: Any) -> None:
    raw = json.dumps({"messages": body}).encode()
    assert match_of("/chat/completions", raw, HIDDEN) == match_of("/chat/completions", raw, HIDDEN)


def test_what_would_fill_memory_with_its_parts_matches_nothing() -> None:
    many = b'{"messages": [' + b", ".join([b"[]"] * 300_000) + b"]}"
    assert match_of("/chat/completions", many) is None
    text = json.dumps({"messages": [{"role": "user", "content": "a, b; [c] {d} " * 10_000}]}).encode()
    assert match_of("/chat/completions", text) is not None
