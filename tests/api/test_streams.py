"""Server-sent events over real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from relit.api.follow import merge
from relit.api.parts import Parts
from relit.api.server import ApiServer
from relit.link import Frame, frames
from relit.store.values import NewRun, Step, StreamItem


@asynccontextmanager
async def following(http: httpx.AsyncClient, path: str, **options: Any) -> AsyncIterator[AsyncIterator[Frame]]:
    async with http.stream("GET", path, **options) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield frames(response.aiter_bytes())


async def named(stream: AsyncIterator[Frame], count: int) -> list[Frame]:
    found: list[Frame] = []
    async for frame in stream:
        if frame.event:
            found.append(frame)
        if len(found) == count:
            break
    return found


async def running(http: httpx.AsyncClient, hand: Any) -> Any:
    await hand.join("auditor/audit")
    await http.post("/v1/runs", json={"target": "auditor/audit"})
    return await hand.claim("auditor/audit")


async def test_a_run_is_followed_to_its_end(http: httpx.AsyncClient, hand: Any) -> None:
    run = await running(http, hand)
    await hand.emit(run, "first\u2028line")
    async with following(http, f"/v1/runs/{run.id}/stream") as stream:
        first = await named(stream, 2)
        await hand.step(run, {"n": 1})
        await hand.emit(run, "second")
        second = await named(stream, 2)
        await hand.complete(run, "done")
        last = await named(stream, 9)
    assert [frame.event for frame in first] == ["item", "state"]
    assert json.loads(first[0].data)["data"] == "first\u2028line"
    assert {frame.event for frame in second} == {"step", "item"}
    assert [frame.event for frame in last] == ["end"]
    assert json.loads(last[0].data)["output"] == "done"


async def test_a_stream_goes_on_after_the_last_event_id(http: httpx.AsyncClient, hand: Any) -> None:
    run = await running(http, hand)
    for n in range(5):
        await hand.step(run, n)
        await hand.emit(run, n)
    await hand.complete(run)
    path = f"/v1/runs/{run.id}/stream"
    async with following(http, path) as stream:
        whole = await named(stream, 11)
    for cut in range(10):
        async with following(http, path, headers={"Last-Event-ID": whole[cut].id}) as stream:
            assert await named(stream, 10 - cut) == whole[cut + 1 :]


async def test_a_stream_follows_a_continued_run(http: httpx.AsyncClient, hand: Any) -> None:
    run = await running(http, hand)
    next_run = NewRun(id="0" * 26, agent="auditor", workflow="audit", input=run.input)
    await hand.finish(run, state="completed", next_run=next_run)
    await hand.complete(await hand.claim("auditor/audit"), "end")
    async with following(http, f"/v1/runs/{run.id}/stream") as stream:
        found = await named(stream, 2)
    assert [(frame.event, json.loads(frame.data)["id"]) for frame in found] == [
        ("continued", run.id),
        ("end", "0" * 26),
    ]
    async with following(http, f"/v1/runs/{run.id}/stream", headers={"Last-Event-ID": found[0].id}) as stream:
        assert await named(stream, 1) == found[1:]


async def test_a_place_that_is_none_is_refused(http: httpx.AsyncClient, hand: Any) -> None:
    run = await running(http, hand)
    answer = await http.get(f"/v1/runs/{run.id}/stream", headers={"Last-Event-ID": "what"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_events_come_as_they_happen(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/audit")
    async with following(http, "/v1/events", params={"names": "run.*"}) as stream:
        await http.post("/v1/runs", json={"target": "auditor/audit"})
        (frame,) = await named(stream, 1)
    event = json.loads(frame.data)
    assert (frame.event, event["name"], event["id"]) == ("run.enqueued", "run.enqueued", frame.id)
    assert (event["agent"], event["data"]["target"]) == ("auditor", "auditor/audit")


async def test_no_event_is_lost_between_two_connections(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/audit")
    async with following(http, "/v1/events") as stream:
        place = (await anext(stream)).id
    for _ in range(20):
        await http.post("/v1/runs", json={"target": "auditor/audit"})
    seen = []
    for _ in range(4):
        async with following(http, "/v1/events", headers={"Last-Event-ID": place}) as stream:
            for frame in await named(stream, 5):
                seen.append(json.loads(frame.data)["run"])
                place = frame.id
    runs = (await http.get("/v1/runs")).json()["runs"]
    assert seen == [run["id"] for run in runs][::-1]


async def test_events_of_one_run_move_the_place_past_the_others(http: httpx.AsyncClient, hand: Any) -> None:
    run = await running(http, hand)
    await http.post("/v1/runs", json={"target": "auditor/audit"})
    last = await hand.store.last_event()
    async with following(http, "/v1/events", params={"run": run.id, "after": "start"}) as stream:
        events = [frame.event async for frame in until(stream, last)]
    assert events == ["run.enqueued", "run.started"]


async def until(stream: AsyncIterator[Frame], place: str) -> AsyncIterator[Frame]:
    async for frame in stream:
        if frame.event:
            yield frame
        if frame.id == place:
            return


async def test_events_come_as_pages_too(http: httpx.AsyncClient, hand: Any) -> None:
    run = await running(http, hand)
    headers = {"Accept": "application/json"}
    page = (await http.get("/v1/events", headers=headers, params={"limit": 2})).json()
    assert [event["name"] for event in page["events"]] == ["worker.joined", "run.enqueued"]
    rest = (await http.get("/v1/events", headers=headers, params={"after": page["next"], "run": run.id})).json()
    assert [event["name"] for event in rest["events"]] == ["run.started"]
    end = (await http.get("/v1/events", headers=headers, params={"after": rest["next"]})).json()
    assert end == {"events": [], "next": rest["next"]}


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_an_id_that_is_none_is_refused(http: httpx.AsyncClient, accept: str) -> None:
    for headers in ({"Last-Event-ID": "1 OR 1"}, {"Last-Event-ID": "x" * 5000}):
        answer = await http.get("/v1/events", headers=headers | {"Accept": accept})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_a_name_that_is_no_event_is_told(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/events", params={"names": "run.finnished"})
    assert answer.status_code == 422
    assert "run.completed" in answer.json()["fix"]


async def test_a_quiet_stream_shows_that_it_lives(http: httpx.AsyncClient) -> None:
    async with following(http, "/v1/events") as stream:
        first, second = await anext(stream), await anext(stream)
    assert (first.event, second.event) == ("", "")


async def test_stopping_ends_streams_and_waits_at_once(
    http: httpx.AsyncClient, server: ApiServer, parts: Parts, hand: Any
) -> None:
    run = await running(http, hand)
    waiting = asyncio.ensure_future(http.get(f"/v1/runs/{run.id}/wait", params={"wait": "60s"}))
    async with (
        following(http, "/v1/events") as events,
        following(http, f"/v1/runs/{run.id}/stream") as stream,
    ):
        await anext(events)
        await anext(stream)
        while parts.closing.waiting < 3:
            await asyncio.sleep(0)
        async with asyncio.timeout(1.5):
            await server.stop()
        assert [frame.event async for frame in events if frame.event] == []
        assert [frame.event async for frame in stream if frame.event] == []
    assert (await waiting).json()["state"] == "running"


async def test_a_reader_that_does_not_read_does_not_hold_up_the_stop(
    http: httpx.AsyncClient, server: ApiServer, hand: Any, token: str
) -> None:
    run = await running(http, hand)
    for _ in range(40):
        await hand.emit(run, "x" * 200_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    request = f"GET /v1/runs/{run.id}/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(request.encode())
    await reader.readline()
    async with asyncio.timeout(4):
        await server.stop()
    writer.close()


def step(seq: int, at: int) -> Step:
    return Step(seq=seq, pos=str(seq), kind="step", name="s", hash=b"", result=b"\x01\xc0", finished_at=at)


def item(idx: int, at: int) -> StreamItem:
    return StreamItem(idx=idx, pos="1", attempt=1, data=b"\x01\xc0", at=at)


def test_steps_and_items_are_merged_by_time() -> None:
    one, two, zero, first, second = step(1, 10), step(2, 20), item(0, 5), item(1, 10), item(2, 15)
    assert merge([one, two], [zero, first, second], 9) == [zero, first, one, second, two]


def test_what_is_past_a_full_page_of_the_other_kind_waits() -> None:
    one, two = step(1, 10), step(2, 20)
    late = item(0, 30)
    assert merge([one, two], [late], 2) == [one, two]
    assert merge([step(1, 99)], [item(0, 1), item(1, 2)], 2) == [item(0, 1), item(1, 2)]
    assert merge([step(1, 50), step(2, 40)], [], 2) == [step(1, 50)]
