"""The vendors' clients for Node work with the gateway as with the vendors."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import node_clients_house as node_house
import pytest
from clients_house import PIXEL, RULES, SCHEMA, STATUSES, TEXT, TOOL, Served, served
from gateway_house import TOKEN
from node_clients_house import Client

from relit.gateway.routes import Kind
from relit.testing.llm import Answer, Rule, When
from relit.testing.servers import Missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
VENDORS: tuple[Kind, ...] = ("openai", "anthropic")
TOOLS = {
    "openai": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}],
    "anthropic": [{"name": "weather", "input_schema": SCHEMA}],
}


@pytest.fixture(scope="module")
def place() -> Path:
    """Where they are. Without Node or packages these tests are skipped, except in CI, where nothing may be missing."""
    try:
        return node_house.installed()
    except Missing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="module", params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def js(place: Path, vendor: Kind) -> Iterator[Client]:
    with node_house.client(place, vendor) as made:
        yield made


@pytest.fixture
async def at(tmp_path: Path, vendor: Kind) -> AsyncIterator[Served]:
    async with served(tmp_path, vendor) as made:
        yield made


def to(at: Served, text: str = "weather", **more: Any) -> dict[str, Any]:
    return {"url": at.url, "token": TOKEN, "retries": 0, "text": text, **more}


async def test_a_call_is_answered_with_its_usage(js: Client, at: Served) -> None:
    found = (await js.told("chat", **to(at)))["value"]
    assert found["text"] == TEXT
    call = await at.seen.only()
    counted = [found["usage"].get(name) for name in ("completion_tokens", "output_tokens")]
    assert (call.state, call.estimated, call.output in counted) == ("done", False, True)


async def test_a_stream_comes_piece_by_piece(js: Client, at: Served) -> None:
    with at.llm.hold(When(), after=5) as hold:
        await js.ask("stream", **to(at))
        assert [await js.heard(), await js.heard()] == [{"said": "It"}, {"said": " is"}]
        hold.release()
    said = "It is"
    while "said" in (found := await js.heard()):
        said += found["said"]
    assert said == TEXT
    call = await at.seen.only()
    assert (call.state, call.estimated) == ("done", False)
    assert call.output in found["value"].values()


@pytest.mark.parametrize("streams", [False, True])
async def test_tools_are_called_and_their_results_heard(js: Client, at: Served, vendor: Kind, streams: bool) -> None:
    found = (await js.told("tools", **to(at, "use a tool", tools=TOOLS[vendor], streams=streams)))["value"]
    assert (found["name"], json.loads(found["given"])) == ("weather", TOOL.arguments)
    assert "sunny" in json.dumps(at.sent["messages"][-1])
    assert await at.states() == ["done", "done"]


async def test_an_answer_has_the_structure_that_was_asked_for(js: Client, at: Served, vendor: Kind) -> None:
    shaped = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": SCHEMA}}
    told = await js.told("structure", **to(at, "structure", format=shaped if vendor == "openai" else SCHEMA))
    assert told == {"value": {"city": "Paris", "degrees": 21}}


async def test_images_arrive(js: Client, at: Served, vendor: Kind) -> None:
    data = PIXEL * 3000
    image = (
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        if vendor == "openai"
        else {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    )
    parts = [{"type": "text", "text": "weather"}, image]
    assert await js.told("image", **to(at, parts=parts)) == {"value": None}
    assert at.sent["messages"][0]["content"] == parts


async def test_what_else_there_is(js: Client, at: Served, vendor: Kind) -> None:
    found = (await js.told("lists", **to(at)))["value"]
    assert found["models"] == ["m", "other"]
    if vendor == "openai":
        assert found["sizes"] == [1536, 1536]
        assert (await js.told("responses", **to(at)))["value"] == {"text": TEXT, "streamed": TEXT}
    else:
        assert found["counted"] > 0
    assert {(each.state, each.estimated) for each in await at.seen.calls()} <= {("done", False)}


CLASSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}


async def test_a_providers_error_is_raised_as_its_own_class(js: Client, at: Served) -> None:
    for status in STATUSES:
        error = (await js.told("chat", **to(at, f"fail {status}")))["error"]
        assert (error["status"], error["after"]) == (status, "7")
        assert "told so" in error["message"]
        if status in CLASSES:
            assert error["class"] == CLASSES[status]
    assert {each.cost for each in await at.seen.calls()} == {0}


async def test_the_gateways_own_refusals_are_understood(js: Client, at: Served) -> None:
    refused = (await js.told("chat", **to(at, token="nobody")))["error"]
    assert (refused["class"], refused["status"]) == ("AuthenticationError", 401)
    priceless = (await js.told("chat", **to(at, model="priceless")))["error"]
    assert (priceless["status"], priceless["code"]) == (400, "no-price")
    large = (await js.told("chat", **to(at, "x" * (65 << 20))))["error"]
    assert large["status"] == 413
    assert at.llm.requests == []


async def test_a_spent_budget_is_told_and_not_tried_again(js: Client, vendor: Kind, tmp_path: Path) -> None:
    async with served(tmp_path, vendor, limit=1) as at:
        error = (await js.told("chat", **to(at, retries=3)))["error"]
    kind = {"openai": "insufficient_quota", "anthropic": "billing_error"}[vendor]
    assert (error["status"], error["type"], error["code"]) == (402, kind, "budget-spent")


@pytest.mark.parametrize("status", [429, 500, 529])
async def test_their_own_retries_work(js: Client, vendor: Kind, status: int, tmp_path: Path) -> None:
    busy = Rule(When(says="weather"), Answer(status=status, retry_after=0.01), times=2)
    async with served(tmp_path, vendor, [busy, *RULES]) as at:
        assert (await js.told("chat", **to(at, retries=2)))["value"]["text"] == TEXT
        assert await at.states() == ["failed", "failed", "done"]


async def test_leaving_a_stream_ends_the_call_at_the_provider(js: Client, vendor: Kind, at: Served) -> None:
    """OpenAI's client is left at the first event, which is all that it has got by then."""
    with at.llm.hold(When(), after=1 if vendor == "openai" else 5) as hold:
        await js.ask("leave", **to(at))
        call = await hold.caught()
        assert await js.heard() == {"value": None}
        assert await call.ended() == "left"
    assert await at.states() == ["cancelled"]


async def test_giving_up_a_call_ends_it_at_the_provider(js: Client, at: Served) -> None:
    with at.llm.hold() as hold:
        await js.ask("abort", **to(at))
        call = await hold.caught()
        assert (await js.heard())["error"]["class"] == "APIUserAbortError"
        assert await call.ended() == "left"
    assert await at.states() == ["cancelled"]


async def test_a_stream_that_breaks_off_is_an_error(js: Client, vendor: Kind, tmp_path: Path) -> None:
    cut = Rule(When(says="weather"), Answer(TEXT, fault="cut", after=5))
    async with served(tmp_path, vendor, [cut]) as at:
        assert "error" in await js.told("stream", **to(at))
        assert await at.states() == ["failed"]
