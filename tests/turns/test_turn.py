"""One turn over HTTP, against a real server that answers, refuses, breaks off, or is not there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from relit.agents.kind import Inject
from relit.testing.llm import Answer, Rule, ScriptedLLM, When
from relit.turns.chat import Chat, Lost, Refused

RULES = [
    Rule(When(says="broken"), Answer("one two three four five", fault="cut", after=2)),
    Rule(When(says="vanish"), Answer(fault="cut", after=0)),
    Rule(When(says="busy"), Answer(status=429, retry_after=2)),
    Rule(When(says="outage"), Answer("API call failed after 3 retries: no")),
]


@pytest.fixture
async def llm() -> AsyncIterator[ScriptedLLM]:
    async with ScriptedLLM(RULES) as served:
        yield served


@pytest.fixture
async def chat(llm: ScriptedLLM) -> AsyncIterator[Chat]:
    async with httpx.AsyncClient(trust_env=False) as http:
        headers = {"Authorization": "Bearer door", "x-session": "relit-{session}"}
        url, failures = f"{llm.url}/v1/chat/completions", ["API call failed after "]
        yield Chat(http, Inject(url=url, headers=headers, model="agent", failures=failures))


async def said(chat: Chat, text: str) -> str:
    return "".join([piece async for piece in chat.turn(text, "main")])


async def test_the_answer_comes_in_pieces(chat: Chat, llm: ScriptedLLM) -> None:
    assert await said(chat, "ping") == "You said: ping"
    request = llm.requests[0]
    assert request.headers["x-session"] == "relit-main"
    assert request.ask.body["stream"] is True


@pytest.mark.parametrize("text", ["broken", "vanish"])
async def test_an_agent_that_goes_away_in_a_turn_may_have_begun(chat: Chat, text: str) -> None:
    with pytest.raises(Lost) as lost:
        await said(chat, text)
    assert lost.value.taken


async def test_an_agent_that_is_not_there_has_begun_nothing() -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(Lost) as lost:
            await said(Chat(http, Inject(url="http://127.0.0.1:9/v1/chat/completions")), "ping")
    assert not lost.value.taken


async def test_what_the_agent_refuses_is_told(chat: Chat) -> None:
    with pytest.raises(Refused) as refused:
        await said(chat, "busy")
    assert refused.value.status == 429


async def test_an_answer_that_tells_of_an_outage_is_none(chat: Chat) -> None:
    with pytest.raises(Refused) as refused:
        await said(chat, "outage")
    assert refused.value.status == 502
