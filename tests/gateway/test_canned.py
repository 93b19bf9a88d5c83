"""The canary's calls are answered by the gateway, and only those."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_house import CHAT, HELLO, OK, client, gateway, health, provider, sends
from hypothesis import given
from hypothesis import strategies as st

from relit.gateway.canned import MARK, TRIAL, Canned, answer, nonce_of, question, reply
from relit.gateway.target import Protocol

NONCE = "3f2a"
ASK, SAID = question(NONCE), answer(NONCE)
AT = 1_700_000_000


def user(*parts: str) -> dict[str, Any]:
    """A message of the user's, in one text or in parts."""
    return {"role": "user", "content": parts[0] if len(parts) == 1 else [{"type": "text", "text": p} for p in parts]}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def replied(protocol: Protocol, body: Any) -> Canned:
    found = reply(protocol, json.dumps(body).encode(), AT)
    assert found is not None
    return found


def events(found: Canned) -> list[tuple[str, Any]]:
    """Server-sent events as the standard says they are read: name and data."""
    assert found.content_type.startswith("text/event-stream")
    made = []
    for block in found.body.decode().split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        data = lines["data"]
        made.append((lines.get("event", "message"), data if data == "[DONE]" else json.loads(data)))
    return made


def test_the_question_asks_for_the_answer() -> None:
    assert ASK.startswith(f"{MARK}{NONCE}: ")
    assert SAID in ASK
    assert SAID == "relit-ok-3f2a"


# --- when -----------------------------------------------------------------------------------------------------------

MINE: list[list[dict[str, Any]]] = [
    [user(ASK)],
    [{"role": "system", "content": "You are an agent."}, user(f"[10:31] {ASK}")],
    [user("earlier"), assistant("yes"), user("context", ASK)],
    [user(f"Name this conversation:\nUser: {ASK}\nAssistant: {SAID}")],
    [user(ASK), assistant(SAID), {"role": "system", "content": "Write a title."}],
    [user(ASK), assistant("let me see"), {"role": "tool", "tool_call_id": "1", "content": "unasked"}],
    [user(ASK), assistant("…"), {"role": "user", "content": [{"type": "tool_result", "content": "unasked"}]}],
    [user(question("old")), assistant(answer("old")), user(ASK)],
]
NOT_MINE: list[list[dict[str, Any]]] = [
    [user("hello")],
    [],
    [user(ASK), assistant(SAID), user("And now something else.")],
    [{"role": "system", "content": ASK}, user("hello")],
    [user("what is this?"), {"role": "tool", "tool_call_id": "1", "content": ASK}],
    [user(f"{MARK}")],
    [user(ASK), {"role": "user", "content": [{"type": "tool_result"}, {"type": "text", "text": "and?"}]}],
]


@pytest.mark.parametrize("messages", MINE)
@pytest.mark.parametrize("protocol", ["chat", "messages"])
def test_it_is_a_canary_while_its_mark_is_in_the_users_last_message(protocol: Protocol, messages: list[Any]) -> None:
    body = json.loads(replied(protocol, {"messages": messages}).body)
    assert SAID in json.dumps(body)


@pytest.mark.parametrize("messages", NOT_MINE)
@pytest.mark.parametrize("protocol", ["chat", "messages", "tokens"])
def test_everything_else_is_the_providers(protocol: Protocol, messages: list[Any]) -> None:
    assert reply(protocol, json.dumps({"messages": messages}).encode(), AT) is None


@pytest.mark.parametrize(
    "given",
    [
        ASK,
        [{"role": "user", "content": ASK}],
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": ASK}]}],
        [user(ASK), {"type": "function_call_output", "call_id": "1", "output": "unasked"}],
    ],
)
def test_responses_say_it_in_their_own_way(given: Any) -> None:
    assert SAID in replied("responses", {"input": given}).body.decode()


def test_a_broken_request_is_the_providers() -> None:
    for raw in (ASK.encode(), b'["' + ASK.encode() + b'"]', b'{"messages": "' + b"\xff" + ASK.encode() + b'"}'):
        assert reply("chat", raw, AT) is None


KEYS = st.sampled_from(["role", "content", "text", "type"])
TREES = st.recursive(
    st.none() | st.just(ASK) | st.sampled_from(["user", "tool_result", "text"]) | st.integers(),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(KEYS, each),
    max_leaves=20,
)


@given(TREES)
def test_no_shape_of_a_body_breaks_it(tree: Any) -> None:
    for protocol in ("chat", "responses", "messages", "tokens"):
        reply(protocol, json.dumps({"messages": tree, "input": tree, "stream_options": tree}).encode(), AT)


# --- what -----------------------------------------------------------------------------------------------------------


def test_chat_completions() -> None:
    body = json.loads(replied("chat", {"model": "m", "messages": [user(ASK)]}).body)
    (choice,) = body["choices"]
    assert (body["object"], body["model"], body["created"]) == ("chat.completion", "m", AT)
    assert choice["message"]["content"] == SAID
    assert choice["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert body["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("counted", [True, False])
def test_chat_completions_streamed(counted: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if counted else {}
    *chunks, (_, done) = events(replied("chat", {"messages": [user(ASK)], "stream": True, **options}))
    assert done == "[DONE]"
    assert {chunk["object"] for _, chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for _, chunk in chunks}) == 1
    choices = [choice for _, chunk in chunks for choice in chunk["choices"]]
    assert choices[0]["delta"]["role"] == "assistant"
    assert "".join(choice["delta"].get("content", "") for choice in choices) == SAID
    assert [choice["finish_reason"] for choice in choices][-1] == "stop"
    assert (chunks[-1][1].get("usage") is not None) == counted


def test_responses() -> None:
    body = json.loads(replied("responses", {"model": "m", "input": ASK}).body)
    (item,) = body["output"]
    assert (body["object"], body["status"], body["error"]) == ("response", "completed", None)
    assert (item["type"], item["role"], item["content"][0]["text"]) == ("message", "assistant", SAID)
    assert body["usage"]["output_tokens"] > 0


def test_responses_streamed() -> None:
    told = events(replied("responses", {"input": ASK, "stream": True}))
    assert [name for name, _ in told] == [event["type"] for _, event in told]
    assert [event["sequence_number"] for _, event in told] == list(range(len(told)))
    assert told[0][0] == "response.created"
    assert "".join(event["delta"] for name, event in told if name == "response.output_text.delta") == SAID
    name, last = told[-1]
    assert name == "response.completed"
    assert last["response"]["output"][0]["content"][0]["text"] == SAID


def test_messages() -> None:
    body = json.loads(replied("messages", {"model": "m", "max_tokens": 9, "messages": [user(ASK)]}).body)
    assert (body["type"], body["role"], body["stop_reason"]) == ("message", "assistant", "end_turn")
    assert body["content"] == [{"type": "text", "text": SAID}]
    assert body["usage"]["output_tokens"] > 0


def test_messages_streamed() -> None:
    told = events(replied("messages", {"messages": [user(ASK)], "stream": True}))
    assert [name for name, _ in told] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
    assert all(name == event["type"] for name, event in told)
    assert told[0][1]["message"]["content"] == []
    assert told[2][1]["delta"] == {"type": "text_delta", "text": SAID}
    assert told[4][1]["delta"]["stop_reason"] == "end_turn"
    assert told[4][1]["usage"]["output_tokens"] > 0


def test_tokens_are_counted_never_streamed() -> None:
    body = {"messages": [user(ASK)], "stream": True}
    assert json.loads(replied("tokens", body).body) == {"input_tokens": 1 + len(json.dumps(body)) // 4}


# --- in the gateway -------------------------------------------------------------------------------------------------


async def test_no_provider_is_asked_and_none_is_needed() -> None:
    async with gateway("http://127.0.0.1:1/v1") as here, client(here) as http:
        whole = await http.post(CHAT, json={**HELLO, "messages": [user(ASK)]})
        streamed = await http.post("/openai/v1/responses", json={"input": ASK, "stream": True})
        assert (await health(here))["failures"] == 0
    assert whole.json()["choices"][0]["message"]["content"] == SAID
    assert whole.headers["content-type"] == "application/json"
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert SAID in streamed.text


async def test_a_clone_is_answered_whatever_it_asks_and_reaches_no_provider() -> None:
    async with gateway("http://127.0.0.1:1/v1") as here, client(here, "clone") as http:
        canary = await http.post(CHAT, json={**HELLO, "messages": [user(ASK)]})
        other = await http.post(CHAT, json={**HELLO, "messages": [user("pay the bill")]})
        streamed = await http.post("/openai/v1/responses", json={"input": "pay", "stream": True})
        rubbish = await http.post(CHAT, content=b"{")
        models = await http.get("/openai/v1/models")
        assert (await health(here))["failures"] == 0
    assert canary.json()["choices"][0]["message"]["content"] == SAID
    assert other.json()["choices"][0]["message"]["content"] == TRIAL
    assert TRIAL in streamed.text
    assert (rubbish.status_code, models.status_code) == (403, 403)


async def test_a_stranger_is_not_answered() -> None:
    async with gateway("http://127.0.0.1:1/v1") as here, client(here, "wrong") as http:
        assert (await http.post(CHAT, json={"messages": [user(ASK)]})).status_code == 401


async def test_a_real_question_after_a_canary_reaches_the_provider() -> None:
    asked = {"messages": [user(ASK), assistant(SAID), user("hello")]}
    async with provider(sends(OK)) as there, gateway(there.url) as here, client(here) as http:
        await http.post(CHAT, json=asked)
    assert json.loads(there.heard[0].body) == asked


def test_what_an_agent_adds_in_the_users_name_does_not_hide_the_question() -> None:
    added = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nnone\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
    body = {"messages": [{"role": "user", "content": question("ab")}, {"role": "user", "content": added}]}
    assert nonce_of("chat", body) == "ab"
