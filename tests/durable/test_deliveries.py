"""Outgoing webhooks, to a real receiver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import standardwebhooks

from relit.api.webhooks import sign
from relit.durable.deliveries import Answer, Deliveries, body_of, judge, wanted
from relit.events import Event
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Subscriber
from relit.testing.sink import Served, Sink

SECRET = "whsec_" + "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"


class Post:
    """The post office and its surroundings."""

    def __init__(self, store: SqliteStore, url: str, sink: Sink) -> None:
        self.store, self.url, self.sink = store, url, sink
        self.deliveries = self.new()

    def new(self) -> Deliveries:
        return Deliveries(self.store, sign, chance=Random(1), first_s=0.02, most_s=0.1)

    async def subscribe(self, name: str = "sink", **options: Any) -> None:
        fields: dict[str, Any] = {"name": name, "url": self.url, "events": [], "secret": SECRET} | options
        await self.store.put_subscriber(Subscriber(**fields))

    async def happen(self, *names: str, **data: Any) -> None:
        await self.store.record([Event(id="", at=0, name=name, agent="a", data=data) for name in names])

    async def row(self, name: str = "sink") -> Subscriber:
        return next(row for row in await self.store.subscribers() if row.name == name)

    async def until(self, requests: int) -> None:
        async with asyncio.timeout(20):
            while len(self.sink.requests) < requests:
                await asyncio.sleep(0.01)

    async def until_cursor(self, cursor: str, name: str = "sink") -> Subscriber:
        async with asyncio.timeout(20):
            while (row := await self.row(name)).cursor != cursor:
                await asyncio.sleep(0.01)
            return row

    def types(self) -> list[str]:
        return [msgspec.json.decode(request.body)["type"] for request in self.sink.requests]


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    store, sink = SqliteStore(tmp_path / "relit.db"), Sink()
    await store.start()
    with Served(sink.app) as url:
        office = Post(store, url, sink)
        yield office
        await office.deliveries.stop()
        await office.deliveries.stop()
    await store.stop()


async def test_events_arrive_in_order_signed_and_are_not_sent_again(post: Post) -> None:
    await post.subscribe()
    await post.happen("run.enqueued", "run.started", "run.completed")
    await post.deliveries.start()
    await post.until(3)
    await post.until_cursor(await post.store.last_event())
    assert post.types() == ["run.enqueued", "run.started", "run.completed"]
    for request in post.sink.requests:
        body = standardwebhooks.Webhook(SECRET).verify(request.body, request.headers)
        assert body["id"] == request.headers["webhook-id"]
        assert body["agent"] == "a"
    await post.deliveries.stop()
    post.deliveries = post.new()
    await post.deliveries.start()
    await post.happen("run.failed")
    await post.until(4)
    assert post.types()[3:] == ["run.failed"]


async def test_a_new_event_is_posted_when_it_happens(post: Post) -> None:
    await post.subscribe()
    await post.deliveries.start()
    for number in range(3):
        await post.happen("run.failed", number=number)
        await post.until(number + 1)


async def test_only_what_was_asked_for_is_posted(post: Post) -> None:
    await post.subscribe(events=["run.f*", "worker.died"])
    await post.happen("run.started", "run.failed", "worker.joined", "worker.died", "run.completed")
    await post.deliveries.start()
    await post.until(2)
    await post.happen("run.failed")
    await post.until(3)
    assert post.types() == ["run.failed", "worker.died", "run.failed"]


async def test_a_failing_receiver_gets_the_same_event_until_it_takes_it(post: Post) -> None:
    post.sink.status = 500
    await post.subscribe()
    await post.happen("run.failed", "run.completed")
    await post.deliveries.start()
    await post.until(3)
    assert (await post.row()).failures >= 2
    assert (await post.row()).cursor == ""
    post.sink.status = 204
    row = await post.until_cursor(await post.store.last_event())
    assert (row.failures, row.retry_at) == (0, None)
    assert set(post.types()[:-1]) == {"run.failed"}
    assert post.types()[-1] == "run.completed"
    assert len({request.headers["webhook-id"] for request in post.sink.requests}) == 2


async def test_one_receiver_that_fails_holds_up_no_other(post: Post) -> None:
    await post.subscribe("away", url="http://127.0.0.1:9/")
    await post.subscribe("sink")
    await post.happen("run.failed")
    await post.deliveries.start()
    await post.until(1)
    async with asyncio.timeout(10):
        while not (await post.row("away")).failures:
            await asyncio.sleep(0.01)


async def test_a_receiver_that_is_gone_is_removed_and_that_is_an_event(post: Post) -> None:
    post.sink.status = 410
    await post.subscribe()
    await post.happen("run.failed")
    await post.deliveries.start()
    async with asyncio.timeout(10):
        while not (events := await post.store.events(names=["subscriber.removed"])):
            await asyncio.sleep(0.01)
    assert events[0].data["subscriber"] == "sink"
    assert await post.store.subscribers() == []


async def test_several_processes_post_each_event_once(post: Post) -> None:
    await post.subscribe()
    others = [post.new() for _ in range(3)]
    for each in others:
        await each.start()
    for number in range(5):
        await post.happen("run.failed", "run.completed", number=number)
        await asyncio.sleep(0.03)
    await post.until_cursor(await post.store.last_event())
    for each in others:
        await each.stop()
    ids = [request.headers["webhook-id"] for request in post.sink.requests]
    assert ids == [event.id for event in await post.store.events()]


async def test_a_process_that_stops_lets_go_at_once(tmp_path: Path) -> None:
    store, sink = SqliteStore(tmp_path / "relit.db"), Sink(seconds=0.5)
    await store.start()
    with Served(sink.app) as url:
        office = Post(store, url, sink)
        await office.subscribe()
        await office.happen("run.failed")
        await office.deliveries.start()
        await office.until(1)
        await office.deliveries.stop()
        assert (await office.row()).retry_at is None
    await store.stop()


async def test_a_process_that_died_is_taken_over_from(post: Post) -> None:
    await post.subscribe(retry_at=await post.store.now_ms() + 300)
    await post.happen("run.failed")
    await post.deliveries.start()
    await post.until(1)


async def test_a_removed_subscriber_does_not_come_back(post: Post) -> None:
    post.sink.status = 500
    await post.subscribe()
    await post.happen("run.failed")
    await post.deliveries.start()
    await post.until(2)
    await post.store.remove_subscriber("sink")
    seen = len(post.sink.requests)
    await asyncio.wait_for(_lines_gone(post.deliveries), 10)
    assert await post.store.subscribers() == []
    assert len(post.sink.requests) <= seen + 2


async def _lines_gone(deliveries: Deliveries) -> None:
    while deliveries._lines:
        await asyncio.sleep(0.02)


async def test_a_changed_subscriber_is_served_as_it_is_now(post: Post) -> None:
    await post.subscribe(url="http://127.0.0.1:9/")
    await post.happen("run.failed")
    await post.deliveries.start()
    async with asyncio.timeout(10):
        while not (await post.row()).failures:
            await asyncio.sleep(0.01)
    await post.subscribe()
    await post.until(1)


async def test_an_unusable_secret_counts_as_a_failure(post: Post) -> None:
    await post.subscribe(secret="whsec_***")
    await post.happen("run.failed")
    await post.deliveries.start()
    async with asyncio.timeout(10):
        while not (await post.row()).failures:
            await asyncio.sleep(0.01)
    assert post.sink.requests == []


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, "taken"), (204, "taken"), (302, "again"), (400, "again"), (410, "gone"), (503, "again"), (None, "again")],
)
def test_an_answer_is_judged_by_its_status(status: int | None, verdict: str) -> None:
    assert judge(Answer(status)) == verdict


def test_patterns_match_names() -> None:
    subscriber = Subscriber(name="s", url="u", events=["run.*"], secret="")
    assert wanted(subscriber, "run.failed")
    assert not wanted(subscriber, "worker.died")
    assert wanted(msgspec.structs.replace(subscriber, events=[]), "anything")


def test_a_retry_after_is_respected_within_reason(tmp_path: Path) -> None:
    deliveries = Deliveries(SqliteStore(tmp_path / "x.db"), sign, chance=Random(1))
    assert deliveries._pause_ms(1, Answer(429, 60)) == 60_000
    assert deliveries._pause_ms(1, Answer(429, 10**9)) == 3_600_000
    assert deliveries._pause_ms(1, Answer(500)) <= 2000
    assert deliveries._pause_ms(10_000, Answer(500)) <= 3_600_000


def test_a_post_says_what_when_and_whose() -> None:
    event = Event(id="7", at=0, name="run.failed", agent="a", run="r", data={"error": "x"})
    assert msgspec.json.decode(body_of(event)) == {
        "type": "run.failed",
        "timestamp": "1970-01-01T00:00:00.000Z",
        "id": "7",
        "agent": "a",
        "run": "r",
        "data": {"error": "x"},
    }
