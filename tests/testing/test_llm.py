"""The scripted model server speaks each protocol as providers do, and its answers say the same in all of them."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from relit.testing.llm import Answer, Rule, ScriptedLLM, ToolCall, When

Said = tuple[str, list[tuple[str, dict[str, Any]]], str]
"""What a client makes of an answer: the text, the tool calls, and why it ended."""

CALLS = (ToolCall("read", {"path": "a long/path of a file"}), ToolCall("list"))
RULES = [
    Rule(When(says="look", step=1), Answer("Let me look.", CALLS)),
    Rule(When(says="quietly", step=1), Answer(calls=CALLS[:1])),
    Rule(When(step=2), "It says {result}"),
]


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def responses(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "input": text, **more}


def messages(text: str, **more: Any) -> dict[str, Any]:
    return {**chat(text), "max_tokens": 100, **more}


def chat_said(answer: dict[str, Any]) -> Said:
    choice = answer["choices"][0]
    calls = [call["function"] for call in choice["message"].get("tool_calls", [])]
    named = [(call["name"], json.loads(call["arguments"])) for call in calls]
    return choice["message"]["content"] or "", named, choice["finish_reason"]


def responses_said(answer: dict[str, Any]) -> Said:
    texts = [part["text"] for item in answer["output"] if item["type"] == "message" for part in item["content"]]
    calls = [item for item in answer["output"] if item["type"] == "function_call"]
    return "".join(texts), [(call["name"], json.loads(call["arguments"])) for call in calls], answer["status"]


def messages_said(answer: dict[str, Any]) -> Said:
    texts = [block["text"] for block in answer["content"] if block["type"] == "text"]
    calls = [(block["name"], block["input"]) for block in answer["content"] if block["type"] == "tool_use"]
    return "".join(texts), calls, answer["stop_reason"]


def events(body: str) -> list[dict[str, Any]]:
    """The data of each event, and that its name is its type where it has one."""
    found = []
    for block in body.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        data = {} if fields["data"] == "[DONE]" else json.loads(fields["data"])
        assert fields.get("event") == data.get("type")
        found.append(data)
    return found


def chat_joined(body: str) -> dict[str, Any]:
    """The answer as OpenAI's client puts it together from its chunks."""
    assert body.endswith("data: [DONE]\n\n")
    chunks = events(body)[:-1]
    assert {(chunk["object"], chunk["id"]) for chunk in chunks} == {("chat.completion.chunk", chunks[0]["id"])}
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert deltas[0]["role"] == "assistant"
    calls: dict[int, dict[str, Any]] = {}
    for part in (part for delta in deltas for part in delta.get("tool_calls", [])):
        begun = calls.setdefault(part["index"], {"function": {"name": part["function"].get("name"), "arguments": ""}})
        begun.setdefault("id", part.get("id"))
        begun["function"]["arguments"] += part["function"]["arguments"]
    text = "".join(delta.get("content") or "" for delta in deltas)
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert set(reasons[:-1]) == {None}
    message = {"role": "assistant", "content": text, "tool_calls": list(calls.values())}
    return {"choices": [{"message": message, "finish_reason": reasons[-1]}]}


def responses_joined(body: str) -> dict[str, Any]:
    """The final response, once the deltas before it have been found to be the same."""
    told = events(body)
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert [event["type"] for event in (*told[:2], told[-1])] == [
        "response.created", "response.in_progress", "response.completed",
    ]  # fmt: skip
    whole: dict[str, Any] = told[-1]["response"]
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert done == whole["output"]
    for index, item in enumerate(done):
        mine = [event for event in told if event.get("output_index") == index]
        assert {event["item_id"] for event in mine if "item_id" in event} == {item["id"]}
        deltas = "".join(event["delta"] for event in mine if event["type"].endswith(".delta"))
        assert deltas == (item["content"][0]["text"] if item["type"] == "message" else item["arguments"])
        assert (mine[0]["type"], mine[-1]["type"]) == ("response.output_item.added", "response.output_item.done")
    return whole


def messages_joined(body: str) -> dict[str, Any]:
    """The message as Anthropic's client puts it together from its events."""
    told = [event for event in events(body) if event["type"] != "ping"]
    assert (told[0]["type"], told[-1]["type"]) == ("message_start", "message_stop")
    message: dict[str, Any] = told[0]["message"]
    raw = ""
    for event in told[1:-1]:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
                raw = ""
            case "content_block_delta" if event["delta"]["type"] == "text_delta":
                message["content"][event["index"]]["text"] += event["delta"]["text"]
            case "content_block_delta":
                raw += event["delta"]["partial_json"]
            case "content_block_stop" if message["content"][-1]["type"] == "tool_use":
                message["content"][-1]["input"] = json.loads(raw)
            case "message_delta":
                message.update(event["delta"])
                message["usage"].update(event["usage"])
    return message


def chat_again(text: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The request that an agent goes on with, the tools having run."""
    said = answer["choices"][0]["message"]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "42"} for call in said["tool_calls"]]
    return {**chat(text), "messages": [*chat(text)["messages"], said, *results]}


def responses_again(text: str, answer: dict[str, Any]) -> dict[str, Any]:
    calls = [item["call_id"] for item in answer["output"] if item["type"] == "function_call"]
    results = [{"type": "function_call_output", "call_id": call, "output": "42"} for call in calls]
    return responses("", input=[{"role": "user", "content": text}, *answer["output"], *results])


def messages_again(text: str, answer: dict[str, Any]) -> dict[str, Any]:
    calls = [block["id"] for block in answer["content"] if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call, "content": "42"} for call in calls]
    said = [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": results}]
    return {**messages(text), "messages": [*messages(text)["messages"], *said]}


@dataclass(frozen=True)
class Dialect:
    """How one protocol is spoken."""

    path: str
    ask: Callable[..., dict[str, Any]]
    said: Callable[[dict[str, Any]], Said]
    joined: Callable[[str], dict[str, Any]]
    again: Callable[[str, dict[str, Any]], dict[str, Any]]
    ended: str
    called: str


DIALECTS = {
    "chat": Dialect("/v1/chat/completions", chat, chat_said, chat_joined, chat_again, "stop", "tool_calls"),
    "responses": Dialect(
        "/v1/responses", responses, responses_said, responses_joined, responses_again, "completed", "completed"
    ),
    "messages": Dialect(
        "/v1/messages", messages, messages_said, messages_joined, messages_again, "end_turn", "tool_use"
    ),
}
every_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        ScriptedLLM(RULES, models=("m", "n"), strict=True) as llm,
        httpx.AsyncClient(base_url=llm.url, verify=False) as client,
    ):
        yield client


async def whole(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


async def streamed(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> str:
    answer = await client.post(path, json={**body, "stream": True})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return answer.text


@every_dialect
async def test_without_a_rule_the_users_words_come_back(client: httpx.AsyncClient, dialect: Dialect) -> None:
    answer = await whole(client, dialect.path, dialect.ask("hello there"))
    assert dialect.said(answer) == ("You said: hello there", [], dialect.ended)
    assert answer["model"] == "m"


@every_dialect
async def test_tool_calls_come_with_their_arguments(client: httpx.AsyncClient, dialect: Dialect) -> None:
    answer = await whole(client, dialect.path, dialect.ask("look"))
    calls = [("read", {"path": "a long/path of a file"}), ("list", {})]
    assert dialect.said(answer) == ("Let me look.", calls, dialect.called)


@every_dialect
@pytest.mark.parametrize("text", ["hello there", "look", "quietly"])
async def test_a_stream_adds_up_to_the_whole_answer(client: httpx.AsyncClient, dialect: Dialect, text: str) -> None:
    answer = await whole(client, dialect.path, dialect.ask(text))
    body = await streamed(client, dialect.path, dialect.ask(text))
    assert dialect.said(dialect.joined(body)) == dialect.said(answer)


@every_dialect
async def test_a_stream_comes_in_many_pieces(client: httpx.AsyncClient, dialect: Dialect) -> None:
    told = events(await streamed(client, dialect.path, dialect.ask("look")))
    assert sum("delta" in json.dumps(event) for event in told) > 5


@every_dialect
async def test_a_streamed_tool_call_is_answered_and_the_model_goes_on(
    client: httpx.AsyncClient, dialect: Dialect
) -> None:
    first = dialect.joined(await streamed(client, dialect.path, dialect.ask("look")))
    second = await whole(client, dialect.path, dialect.again("look", first))
    assert dialect.said(second)[0] == "It says 42\n42"


@every_dialect
async def test_the_same_requests_to_another_server_have_the_same_answers(dialect: Dialect) -> None:
    found = []
    for _ in range(2):
        async with ScriptedLLM(RULES) as llm, httpx.AsyncClient(base_url=llm.url, verify=False) as client:
            body = dialect.ask("look")
            found.append([await whole(client, dialect.path, body), await streamed(client, dialect.path, body)])
    assert found[0] == found[1]


@pytest.mark.parametrize(("path", "ask", "names"), [
    ("/v1/chat/completions", chat, ("prompt_tokens", "completion_tokens")),
    ("/v1/responses", responses, ("input_tokens", "output_tokens")),
    ("/v1/messages", messages, ("input_tokens", "output_tokens")),
])  # fmt: skip
async def test_an_answer_tells_the_tokens(
    client: httpx.AsyncClient, path: str, ask: Callable[..., dict[str, Any]], names: tuple[str, str]
) -> None:
    few, many = [(await whole(client, path, ask("hello " * count)))["usage"] for count in (1, 100)]
    assert 0 < few[names[0]] < many[names[0]]
    assert 0 < few[names[1]] < many[names[1]]


async def test_a_chat_stream_tells_the_usage_only_if_asked(client: httpx.AsyncClient) -> None:
    path = "/v1/chat/completions"
    without = events(await streamed(client, path, chat("hello")))[:-1]
    told = events(await streamed(client, path, chat("hello", stream_options={"include_usage": True})))[:-1]
    assert all("usage" not in chunk for chunk in without)
    assert [chunk["usage"] for chunk in told[:-1]] == [None] * len(without)
    assert told[-1]["choices"] == []
    assert told[-1]["usage"]["completion_tokens"] == 3


async def test_a_response_goes_on_from_the_one_before(client: httpx.AsyncClient) -> None:
    first = await whole(client, "/v1/responses", responses("look"))
    calls = [item["call_id"] for item in first["output"] if item["type"] == "function_call"]
    results = [{"type": "function_call_output", "call_id": call, "output": "42"} for call in calls]
    body = responses("", input=results, previous_response_id=first["id"])
    assert responses_said(await whole(client, "/v1/responses", body))[0] == "It says 42\n42"


async def test_a_response_that_was_not_stored_is_not_found(client: httpx.AsyncClient) -> None:
    first = await whole(client, "/v1/responses", responses("hello", store=False))
    answer = await client.post("/v1/responses", json=responses("more", previous_response_id=first["id"]))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "previous_response_not_found"


async def test_tokens_are_counted_before_a_message_is_sent(client: httpx.AsyncClient) -> None:
    counted = await whole(client, "/v1/messages/count_tokens", chat("hello"))
    assert counted["input_tokens"] > 0


async def test_models_are_listed_for_each_provider(client: httpx.AsyncClient) -> None:
    openai = (await client.get("/v1/models")).json()
    anthropic = (await client.get("/v1/models", headers={"anthropic-version": "2023-06-01"})).json()
    assert [openai["object"], *(model["id"] for model in openai["data"])] == ["list", "m", "n"]
    assert [(model["type"], model["id"]) for model in anthropic["data"]] == [("model", "m"), ("model", "n")]
    assert (anthropic["first_id"], anthropic["last_id"], anthropic["has_more"]) == ("m", "n", False)


async def test_one_model_is_found_by_its_name(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/models/n")).json()["id"] == "n"
    missing = await client.get("/v1/models/o")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


async def test_the_same_text_has_the_same_vector_in_either_encoding(client: httpx.AsyncClient) -> None:
    body = {"model": "e", "input": ["a", "b", "a"], "dimensions": 16}
    plain = await whole(client, "/v1/embeddings", body)
    packed = await whole(client, "/v1/embeddings", {**body, "encoding_format": "base64"})
    a, b, again = [each["embedding"] for each in plain["data"]]
    assert a == again != b
    assert sum(value * value for value in a) == pytest.approx(1)
    assert struct.unpack("<16f", base64.b64decode(packed["data"][0]["embedding"])) == pytest.approx(a)


@pytest.mark.parametrize(
    ("given", "count"), [("a", 1), ([1, 2], 1), ([[1, 2], [3]], 2)], ids=["text", "tokens", "lists"]
)
async def test_an_embedding_may_be_of_tokens(client: httpx.AsyncClient, given: Any, count: int) -> None:
    found = await whole(client, "/v1/embeddings", {"model": "e", "input": given})
    assert [len(each["embedding"]) for each in found["data"]] == [1536] * count


@pytest.mark.parametrize(("path", "body"), [
    ("/v1/chat/completions", {}),
    ("/v1/responses", {}),
    ("/v1/messages", chat("max_tokens is missing")),
    ("/v1/embeddings", {}),
    ("/v1/chat/completions", chat("a", messages=[{"role": "robot"}])),
])  # fmt: skip
async def test_a_request_that_no_provider_takes_is_refused(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    answer = await client.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_a_body_that_is_no_json_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/chat/completions", content=b"{")).status_code == 400


async def test_a_path_that_no_provider_has_is_not_found(client: httpx.AsyncClient) -> None:
    openai = await client.get("/api/tags")
    anthropic = await client.post("/v1/complete", headers={"anthropic-version": "2023-06-01"})
    assert (openai.status_code, openai.json()["error"]["message"]) == (404, "there is no GET /api/tags here")
    assert (anthropic.status_code, anthropic.json()["error"]["type"]) == (404, "not_found_error")


def _without_results(dialect: Dialect, body: dict[str, Any]) -> dict[str, Any]:
    name = "input" if dialect.path == "/v1/responses" else "messages"
    last = {"role": "user", "content": "are you there?"}
    kept = [item for item in body[name] if "42" not in json.dumps(item)]
    return {**body, name: [*kept, last]}


@every_dialect
async def test_a_strict_server_refuses_a_tool_call_without_its_result(
    client: httpx.AsyncClient, dialect: Dialect
) -> None:
    first = await whole(client, dialect.path, dialect.ask("look"))
    answer = await client.post(dialect.path, json=_without_results(dialect, dialect.again("look", first)))
    assert answer.status_code == 400
    assert any(word in answer.json()["error"]["message"] for word in ("tool_result", "tool_call_id", "No tool output"))


@every_dialect
async def test_a_server_that_is_not_strict_takes_it(dialect: Dialect) -> None:
    async with ScriptedLLM(RULES) as llm, httpx.AsyncClient(base_url=llm.url, verify=False) as client:
        first = await whole(client, dialect.path, dialect.ask("look"))
        await whole(client, dialect.path, _without_results(dialect, dialect.again("look", first)))
