"""An agent that asks for too much at once takes no room of others."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from gateway_house import CHAT, HELLO, TOKEN, client
from hypothesis import given
from hypothesis import strategies as st
from watched_house import OTHER, watched

from relit.gateway.canned import answer, question
from relit.gateway.crowd import AT_ONCE, BYTES_MOST, Crowd
from relit.gateway.refusal import Refused
from relit.settings.model import Gateway as Table
from relit.testing.llm import ScriptedLLM, When

ASKED = {**HELLO, "max_tokens": 10}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=200), st.integers(1, 4))
def test_no_agent_ever_has_more_places_than_there_are(steps: list[tuple[str, bool]], most: int) -> None:
    crowd, inside = Crowd(most), {name: list[object]() for name in "abc"}
    for name, enters in steps:
        if enters:
            place = crowd.place(name)
            if place.__enter__():
                inside[name].append(place)
                assert len(inside[name]) <= most
            else:
                assert len(inside[name]) == most
                place.__exit__(None, None, None)
        elif inside[name]:
            inside[name].pop().__exit__(None, None, None)  # type: ignore[attr-defined]
    assert set(vars(crowd)["_inside"].values()) <= {len(each) for each in inside.values()}


def test_what_one_agent_asks_fills_no_more_memory_than_it_may() -> None:
    crowd = Crowd(9)
    with crowd.room("a") as one, crowd.room("a") as two, crowd.room("b") as other:
        one(BYTES_MOST - 10)
        two(10)
        with pytest.raises(Refused, match="256 MB in all"):
            two(1)
        other(BYTES_MOST)
    with crowd.room("a") as again:
        again(BYTES_MOST)
    assert not vars(crowd)["_bytes"]


def test_as_many_are_let_in_as_the_settings_say() -> None:
    assert Table().concurrency == AT_ONCE == 64


async def test_one_call_too_many_is_told_to_come_again(tmp_path: Path) -> None:
    async with ScriptedLLM() as llm, watched(f"{llm.url}/v1", tmp_path, at_once=2) as seen:
        async with client(seen.here) as http, client(seen.here, OTHER) as others:
            with llm.hold(When()) as hold:
                asking = [asyncio.ensure_future(http.post(CHAT, json={**ASKED, "who": who})) for who in range(2)]
                for who in range(2):
                    await llm.request(lambda ask, who=who: ask.body.get("who") == who)
                refused = await http.post(CHAT, json=ASKED)
                elsewhere = asyncio.ensure_future(others.post(CHAT, json={**ASKED, "who": 2}))
                await llm.request(lambda ask: ask.body.get("who") == 2)
                hold.release()
                assert {each.status_code for each in await asyncio.gather(*asking, elsewhere)} == {200}
            assert (await http.post(CHAT, json=ASKED)).status_code == 200
        assert len(await seen.calls()) == 3
    assert refused.status_code == 429
    assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("1", "true")
    error = refused.json()["error"]
    assert (error["type"], error["code"], error["retry"]) == ("requests", "too-many-calls", True)
    assert "gateway.concurrency" in error["message"]


async def test_anthropics_clients_are_told_in_their_words(tmp_path: Path) -> None:
    async with (
        ScriptedLLM() as llm,
        watched(llm.url, tmp_path, at_once=1, kind="anthropic") as seen,
        client(seen.here) as http,
    ):
        with llm.hold(When()) as hold:
            asking = asyncio.ensure_future(http.post("/anthropic/v1/messages", json=ASKED))
            await hold.caught()
            refused = await http.post("/anthropic/v1/messages", json=ASKED)
            hold.release()
            await asking
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")


async def test_a_canary_is_answered_in_any_crowd(tmp_path: Path) -> None:
    """Who is busy is not ill."""
    canary = {**HELLO, "messages": [{"role": "user", "content": question("1")}]}
    async with ScriptedLLM() as llm, watched(f"{llm.url}/v1", tmp_path, at_once=1) as seen, client(seen.here) as http:
        with llm.hold(When()) as hold:
            asking = asyncio.ensure_future(http.post(CHAT, json=ASKED))
            await hold.caught()
            answered = await http.post(CHAT, json=canary)
            large = await http.post(CHAT, content=json.dumps({**canary, "x": "x" * (2 << 20)}))
            hold.release()
            await asking
    assert answered.json()["choices"][0]["message"]["content"] == answer("1")
    assert large.status_code == 429, "what is large is not read to see who asks"


@pytest.mark.parametrize("ends", ["refused", "left", "failed"])
async def test_a_place_is_free_again_however_its_call_ended(ends: str, tmp_path: Path) -> None:
    async with ScriptedLLM() as llm, watched(f"{llm.url}/v1", tmp_path, at_once=1) as seen, client(seen.here) as http:
        if ends == "left":
            with llm.hold(When()) as hold:
                asking = asyncio.ensure_future(http.post(CHAT, json=ASKED))
                call = await hold.caught()
                asking.cancel()
                assert await call.ended() == "left"
                await seen.settled()
        elif ends == "refused":
            await http.post(CHAT, json={**ASKED, "model": "unknown"})
        else:
            await http.post(CHAT, content=b"{")
        assert (await http.post(CHAT, json=ASKED)).status_code == 200


async def test_many_more_than_fit_are_all_answered(tmp_path: Path) -> None:
    async with ScriptedLLM() as llm, watched(f"{llm.url}/v1", tmp_path, at_once=8) as seen:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=seen.here.url, headers=headers, timeout=30, verify=False) as http:

            async def until_answered() -> int:
                tries = 1
                while (await http.post(CHAT, json=ASKED)).status_code == 429:
                    tries += 1
                    await asyncio.sleep(0.01)
                return tries

            tries = await asyncio.gather(*(until_answered() for _ in range(60)))
        assert len(await seen.calls()) == 60
    assert sum(tries) >= 60
