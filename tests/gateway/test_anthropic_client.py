"""Anthropic's own client works with the gateway as with Anthropic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from clients_house import MODEL, PIXEL, RULES, SCHEMA, STATUSES, STRUCTURED, TEXT, TOOL, Served, served
from gateway_house import TOKEN
from pydantic import BaseModel

from relit.testing.llm import Answer, Rule, When

TOOLS: Any = [{"name": "weather", "description": "It tells the weather.", "input_schema": SCHEMA}]


def says(text: str, **more: Any) -> Any:
    return {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": text}], **more}


def client(at: Served, token: str = TOKEN, retries: int = 0, **options: Any) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=f"{at.url}/anthropic", api_key=token, max_retries=retries, **options)


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path, "anthropic") as made:
        yield made


class City(BaseModel):
    city: str
    degrees: int


async def test_messages_answer_with_their_usage(at: Served) -> None:
    async with client(at) as ai:
        found = await ai.messages.create(**says("weather"))
    assert [each.text for each in found.content if each.type == "text"] == [TEXT]
    call = await at.seen.only()
    assert (call.state, call.input, call.output, call.estimated) == (
        "done", found.usage.input_tokens, found.usage.output_tokens, False,
    )  # fmt: skip


async def test_its_auth_token_is_as_good_as_its_key(at: Served) -> None:
    async with anthropic.AsyncAnthropic(base_url=f"{at.url}/anthropic", auth_token=TOKEN) as ai:
        assert (await ai.messages.create(**says("weather"))).content


async def test_messages_stream_piece_by_piece(at: Served) -> None:
    async with client(at) as ai:
        with at.llm.hold(When(), after=5) as hold:
            async with ai.messages.stream(**says("weather")) as stream:
                texts = stream.text_stream
                first = [await anext(texts), await anext(texts)]
                assert first == ["It", " is"]
                hold.release()
                rest = [each async for each in texts]
                whole = await stream.get_final_message()
    assert "".join([*first, *rest]) == TEXT
    call = await at.seen.only()
    assert (call.input, call.output, call.estimated) == (whole.usage.input_tokens, whole.usage.output_tokens, False)


@pytest.mark.parametrize("streams", [False, True])
async def test_messages_call_tools_and_go_on_with_their_results(at: Served, streams: bool) -> None:
    asked = says("use a tool", tools=TOOLS)
    async with client(at) as ai:
        if streams:
            async with ai.messages.stream(**asked) as stream:
                message = await stream.get_final_message()
        else:
            message = await ai.messages.create(**asked)
        [use] = message.content
        assert use.type == "tool_use"
        assert (use.name, use.input, message.stop_reason) == ("weather", TOOL.arguments, "tool_use")
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}]}
        shown = {"role": "assistant", "content": [use.model_dump(include={"type", "id", "name", "input"})]}
        again = await ai.messages.create(**{**asked, "messages": [*asked["messages"], shown, result]})
    assert again.content
    assert at.sent["messages"][-1] == result
    assert await at.states() == ["done", "done"]


async def test_messages_answer_in_a_structure(at: Served) -> None:
    shape = {"format": {"type": "json_schema", "schema": SCHEMA}}
    async with client(at) as ai:
        plain = await ai.messages.create(**says("structure", output_config=shape))
        assert [each.text for each in plain.content if each.type == "text"] == [STRUCTURED]
        assert at.sent["output_config"] == shape
        parsed = await ai.messages.parse(**says("structure", output_format=City))
    assert parsed.parsed_output == City(city="Paris", degrees=21)


async def test_messages_see_images(at: Served) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL * 3000}
    parts = [{"type": "text", "text": "weather"}, {"type": "image", "source": source}]
    async with client(at) as ai:
        await ai.messages.create(**{**says(""), "messages": [{"role": "user", "content": parts}]})
    assert at.sent["messages"][0]["content"] == parts


async def test_tokens_are_counted_and_cost_nothing(at: Served) -> None:
    async with client(at) as ai:
        found = await ai.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "weather"}])
    assert found.input_tokens > 0
    assert await at.seen.calls() == []


async def test_models_are_listed(at: Served) -> None:
    async with client(at) as ai:
        assert [each.id async for each in ai.models.list()] == [MODEL, "other"]
        assert (await ai.models.retrieve("other")).id == "other"
        with pytest.raises(anthropic.NotFoundError):
            await ai.models.retrieve("none")


ERRORS = {
    400: anthropic.BadRequestError,
    401: anthropic.AuthenticationError,
    403: anthropic.PermissionDeniedError,
    404: anthropic.NotFoundError,
    413: anthropic.RequestTooLargeError,
    422: anthropic.UnprocessableEntityError,
    429: anthropic.RateLimitError,
    500: anthropic.InternalServerError,
    503: anthropic.ServiceUnavailableError,
    529: anthropic.OverloadedError,
}


async def test_a_providers_error_is_raised_as_its_own_class(at: Served) -> None:
    async with client(at) as ai:
        for status in STATUSES:
            for streams in (False, True):
                with pytest.raises(ERRORS[status]) as raised:
                    await ai.messages.create(**says(f"fail {status}", stream=streams))
                assert raised.value.status_code == status
                assert "told so" in raised.value.message
                assert raised.value.response.headers["retry-after"] == "7"
    assert {each.cost for each in await at.seen.calls()} == {0}


async def test_the_gateways_own_refusals_are_understood(at: Served) -> None:
    async with client(at) as ai, client(at, "nobody") as nobody:
        with pytest.raises(anthropic.AuthenticationError, match="relit: this token"):
            await nobody.messages.create(**says("weather"))
        with pytest.raises(anthropic.BadRequestError, match="nobody knows the price"):
            await ai.messages.create(**says("weather", model="priceless"))
        with pytest.raises(anthropic.NotFoundError):
            await ai.with_options(base_url=f"{at.url}/openai").messages.create(**says("weather"))
        with pytest.raises(anthropic.RequestTooLargeError):
            await ai.messages.create(**says("x" * (65 << 20)))
    assert at.llm.requests == []


async def test_a_spent_budget_is_a_matter_of_billing_and_not_tried_again(tmp_path: Path) -> None:
    async with served(tmp_path, "anthropic", limit=1) as at, client(at, retries=3) as ai:
        with pytest.raises(anthropic.PaymentRequiredError, match="budget") as raised:
            await ai.messages.create(**says("weather"))
    assert raised.value.type == "billing_error"
    assert raised.value.response.request.headers["x-stainless-retry-count"] == "0"
    assert at.llm.requests == []


@pytest.mark.parametrize("status", [408, 409, 429, 500, 529])
async def test_its_own_retries_work(status: int, tmp_path: Path) -> None:
    busy = Rule(When(says="weather"), Answer(status=status, retry_after=0.01), times=2)
    async with served(tmp_path, "anthropic", [busy, *RULES]) as at, client(at, retries=2) as ai:
        assert (await ai.messages.create(**says("weather"))).content
        assert await at.states() == ["failed", "failed", "done"]


async def test_it_waits_for_room_in_a_crowd(tmp_path: Path) -> None:
    async with served(tmp_path, "anthropic", at_once=1) as at, client(at, retries=3) as ai:
        with at.llm.hold(When(says="first")) as hold:
            first = asyncio.ensure_future(ai.messages.create(**says("first weather")))
            await hold.caught()
            with pytest.raises(anthropic.RateLimitError, match="as many calls"):
                await ai.with_options(max_retries=0).messages.create(**says("weather"))
            second = asyncio.ensure_future(ai.messages.create(**says("weather")))
            hold.release()
            assert all([(await each).content for each in (first, second)])


async def test_leaving_a_stream_ends_the_call_at_the_provider(at: Served) -> None:
    async with client(at) as ai:
        with at.llm.hold(When(), after=4) as hold:
            async with ai.messages.stream(**says("weather")) as stream:
                assert await anext(stream.text_stream) == "It"
                call = await hold.caught()
            assert await call.ended() == "left"
    assert await at.states() == ["cancelled"]


async def test_a_time_limit_of_its_own_ends_the_call_at_the_provider(at: Served) -> None:
    async with client(at, timeout=1.0) as ai:
        with at.llm.hold():
            with pytest.raises(anthropic.APITimeoutError):
                await ai.messages.create(**says("weather"))
            assert await at.llm.requests[0].ended() == "left"
    assert await at.states() == ["cancelled"]


async def test_a_stream_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    cut = Rule(When(says="weather"), Answer(TEXT, fault="cut", after=4))
    async with served(tmp_path, "anthropic", [cut]) as at, client(at) as ai:
        stream = await ai.messages.create(**says("weather", stream=True))
        with pytest.raises((anthropic.APIConnectionError, httpx2.RemoteProtocolError)):
            async for _ in stream:
                pass
        assert await at.states() == ["failed"]


async def test_a_provider_that_is_away_is_an_error_of_the_server(tmp_path: Path) -> None:
    async with served(tmp_path, "anthropic") as at, client(at) as ai:
        await at.llm.stop()
        with pytest.raises(anthropic.InternalServerError, match="does not answer") as raised:
            await ai.messages.create(**says("weather"))
        assert raised.value.status_code == 502
