"""OpenAI's own client works with the gateway as with OpenAI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from clients_house import MODEL, PIXEL, RULES, SCHEMA, STATUSES, STRUCTURED, TEXT, TOOL, Served, served
from gateway_house import TOKEN
from pydantic import BaseModel

from relit.testing.llm import Answer, Rule, When

TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": SCHEMA}}


def says(text: str, **more: Any) -> Any:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 100, **more}


def client(at: Served, token: str = TOKEN, retries: int = 0, **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{at.url}/openai/v1", api_key=token, max_retries=retries, **options)


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path, "openai") as made:
        yield made


class City(BaseModel):
    city: str
    degrees: int


async def test_chat_answers_with_its_usage(at: Served) -> None:
    async with client(at) as ai:
        found = await ai.chat.completions.create(**says("weather"))
    assert found.choices[0].message.content == TEXT
    call = await at.seen.only()
    assert found.usage is not None
    assert (call.state, call.input, call.output, call.estimated) == (
        "done", found.usage.prompt_tokens, found.usage.completion_tokens, False,
    )  # fmt: skip


async def test_chat_streams_piece_by_piece(at: Served) -> None:
    async with client(at) as ai:
        with at.llm.hold(When(), after=3) as hold:
            stream = await ai.chat.completions.create(
                **says("weather", stream=True, stream_options={"include_usage": True})
            )
            pieces = [(await anext(stream)) for _ in range(3)]
            assert "".join(each.choices[0].delta.content or "" for each in pieces) == "It is"
            hold.release()
            rest = [each async for each in stream]
    assert rest[-1].usage is not None
    told = "".join(each.choices[0].delta.content or "" for each in [*pieces, *rest] if each.choices)
    assert told == TEXT
    call = await at.seen.only()
    assert (call.output, call.estimated) == (rest[-1].usage.completion_tokens, False)


@pytest.mark.parametrize("streams", [False, True])
async def test_chat_calls_tools_and_goes_on_with_their_results(at: Served, streams: bool) -> None:
    async with client(at) as ai:
        asked = says("use a tool", tools=TOOLS)
        if streams:
            async with ai.chat.completions.stream(**asked) as stream:
                message = (await stream.get_final_completion()).choices[0].message
        else:
            message = (await ai.chat.completions.create(**asked)).choices[0].message
        assert message.tool_calls is not None
        [call] = message.tool_calls
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", TOOL.arguments)
        result: Any = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
        shown: Any = message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"})
        again = await ai.chat.completions.create(**{**asked, "messages": [*asked["messages"], shown, result]})
    assert again.choices[0].message.content
    assert at.sent["messages"][-1] == result
    assert await at.states() == ["done", "done"]


async def test_chat_answers_in_a_structure(at: Served) -> None:
    async with client(at) as ai:
        plain = await ai.chat.completions.create(**says("structure", response_format=FORMAT))
        assert (plain.choices[0].message.content, at.sent["response_format"]) == (STRUCTURED, FORMAT)
        parsed = await ai.chat.completions.parse(**says("structure", response_format=City))
    assert parsed.choices[0].message.parsed == City(city="Paris", degrees=21)
    assert at.sent["response_format"]["json_schema"]["strict"] is True


async def test_chat_sees_images(at: Served) -> None:
    parts = [
        {"type": "text", "text": "weather"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL * 3000}"}},
    ]
    async with client(at) as ai:
        await ai.chat.completions.create(**{**says(""), "messages": [{"role": "user", "content": parts}]})
    assert at.sent["messages"][0]["content"] == parts


async def test_responses_answer_stream_call_and_parse(at: Served) -> None:
    tools: Any = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
    async with client(at) as ai:
        found = await ai.responses.create(model=MODEL, input="weather")
        assert found.output_text == TEXT
        async with ai.responses.stream(model=MODEL, input="weather") as stream:
            kinds = [event.type async for event in stream]
            whole = await stream.get_final_response()
        assert kinds.count("response.output_text.delta") == len(TEXT.split())
        assert (whole.output_text, kinds[-1]) == (TEXT, "response.completed")
        called = await ai.responses.create(model=MODEL, input="use a tool", tools=tools)
        [item] = [each for each in called.output if each.type == "function_call"]
        assert json.loads(item.arguments) == TOOL.arguments
        given: Any = [{"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}]
        again = await ai.responses.create(model=MODEL, input=given, tools=tools, previous_response_id=called.id)
        assert again.output_text
        parsed = await ai.responses.parse(model=MODEL, input="structure", text_format=City)
    assert parsed.output_parsed == City(city="Paris", degrees=21)
    calls = await at.seen.calls()
    assert {(each.state, each.protocol, each.estimated) for each in calls} == {("done", "responses", False)}


async def test_embeddings_and_models_are_there(at: Served) -> None:
    async with client(at) as ai:
        found = await ai.embeddings.create(model=MODEL, input=["one", "two"])
        assert [len(each.embedding) for each in found.data] == [1536, 1536]
        assert [each.id async for each in ai.models.list()] == [MODEL, "other"]
        assert (await ai.models.retrieve("other")).id == "other"
        with pytest.raises(openai.NotFoundError):
            await ai.models.retrieve("none")
    assert (await at.seen.only()).protocol == "embeddings"


ERRORS = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    413: openai.APIStatusError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
    529: openai.InternalServerError,
}


async def test_a_providers_error_is_raised_as_its_own_class(at: Served) -> None:
    async with client(at) as ai:
        for status in STATUSES:
            for streams in (False, True):
                with pytest.raises(ERRORS[status]) as raised:
                    await ai.chat.completions.create(**says(f"fail {status}", stream=streams))
                assert raised.value.status_code == status
                assert "told so" in raised.value.message
                assert raised.value.response.headers["retry-after"] == "7"
    assert {each.cost for each in await at.seen.calls()} == {0}


async def test_the_gateways_own_refusals_are_understood(at: Served) -> None:
    async with client(at) as ai, client(at, "nobody") as nobody:
        with pytest.raises(openai.AuthenticationError, match="relit: this token"):
            await nobody.chat.completions.create(**says("weather"))
        with pytest.raises(openai.BadRequestError) as priceless:
            await ai.chat.completions.create(**says("weather", model="priceless"))
        with pytest.raises(openai.NotFoundError):
            await ai.with_options(base_url=f"{at.url}/openai/v2").models.list()
        with pytest.raises(openai.APIStatusError) as large:
            await ai.chat.completions.create(**says("x" * (65 << 20)))
    assert (priceless.value.code, large.value.status_code) == ("no-price", 413)
    assert at.llm.requests == []


async def test_a_spent_budget_is_an_end_of_the_quota_and_not_tried_again(tmp_path: Path) -> None:
    async with served(tmp_path, "openai", limit=1) as at, client(at, retries=3) as ai:
        with pytest.raises(openai.APIStatusError) as raised:
            await ai.chat.completions.create(**says("weather"))
    assert (raised.value.status_code, raised.value.type, raised.value.code) == (
        402, "insufficient_quota", "budget-spent",
    )  # fmt: skip
    assert "retry_count" not in raised.value.response.request.headers
    assert raised.value.response.request.headers["x-stainless-retry-count"] == "0"
    assert at.llm.requests == []


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
async def test_its_own_retries_work(status: int, tmp_path: Path) -> None:
    busy = Rule(When(says="weather"), Answer(status=status, retry_after=0.01), times=2)
    async with served(tmp_path, "openai", [busy, *RULES]) as at, client(at, retries=2) as ai:
        found = await ai.chat.completions.create(**says("weather"))
        assert found.choices[0].message.content == TEXT
        assert await at.states() == ["failed", "failed", "done"]


async def test_it_waits_for_room_in_a_crowd(tmp_path: Path) -> None:
    async with served(tmp_path, "openai", at_once=1) as at, client(at, retries=3) as ai:
        with at.llm.hold(When(says="first")) as hold:
            first = asyncio.ensure_future(ai.chat.completions.create(**says("first weather")))
            await hold.caught()
            with pytest.raises(openai.RateLimitError, match="as many calls"):
                await ai.with_options(max_retries=0).chat.completions.create(**says("weather"))
            second = asyncio.ensure_future(ai.chat.completions.create(**says("weather")))
            hold.release()
            assert {(await each).choices[0].message.content for each in (first, second)} == {TEXT}


async def test_leaving_a_stream_ends_the_call_at_the_provider(at: Served) -> None:
    async with client(at) as ai:
        with at.llm.hold(When(), after=3) as hold:
            async with await ai.chat.completions.create(**says("weather", stream=True)) as stream:
                await anext(stream)
                call = await hold.caught()
            assert await call.ended() == "left"
    assert await at.states() == ["cancelled"]


async def test_a_time_limit_of_its_own_ends_the_call_at_the_provider(at: Served) -> None:
    async with client(at, timeout=1.0) as ai:
        with at.llm.hold():
            with pytest.raises(openai.APITimeoutError):
                await ai.chat.completions.create(**says("weather"))
            assert await at.llm.requests[0].ended() == "left"
    assert await at.states() == ["cancelled"]


async def test_a_stream_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    cut = Rule(When(says="weather"), Answer(TEXT, fault="cut", after=3))
    async with served(tmp_path, "openai", [cut]) as at, client(at) as ai:
        stream = await ai.chat.completions.create(**says("weather", stream=True))
        with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
            async for _ in stream:
                pass
        assert await at.states() == ["failed"]


async def test_a_provider_that_is_away_is_an_error_of_the_server(tmp_path: Path) -> None:
    async with served(tmp_path, "openai") as at, client(at) as ai:
        await at.llm.stop()
        with pytest.raises(openai.InternalServerError, match="does not answer") as raised:
            await ai.chat.completions.create(**says("weather"))
        assert raised.value.status_code == 502
