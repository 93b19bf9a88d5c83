"""The same API on PostgreSQL: what rests on its ids, its order of events and its errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from relit.api.server import ApiServer
from relit.client import Client
from relit.lib.ids import new_id
from relit.store.sql.postgres.store import PostgresStore

pytestmark = pytest.mark.postgres


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(postgres_url, schema=f"api_{new_id()}")
    await store.start()
    yield store
    await store.stop()


async def test_events_go_on_where_they_were(http: httpx.AsyncClient, server: ApiServer, token: str, hand: Any) -> None:
    async with Client(server.url, token) as client:
        sent = [(await client.send("auditor", n)).id for n in range(20)]
        seen: list[str | None] = []
        place = "start"
        while len(seen) < 20:
            async with aclosing(client.events(["run.enqueued"], after=place)) as events:
                for _ in range(5):
                    event = await anext(events)
                    seen.append(event.run)
                    place = event.id
    assert seen == sent
    answer = await http.get("/v1/events", headers={"Last-Event-ID": "1 OR 1"})
    assert answer.status_code == 422


async def test_a_run_is_started_followed_and_awaited(server: ApiServer, token: str, hand: Any) -> None:
    async with Client(server.url, token) as client:
        started = await client.start("auditor/audit", [1])
        waiting = asyncio.ensure_future(client.result(started.id, timeout="20s"))
        await hand.join("auditor/audit")
        run = await hand.claim("auditor/audit")
        await hand.step(run, {"n": 1})
        await hand.emit(run, "x")
        await hand.complete(run, "done")
        told = [each.event async for each in client.stream(started.id)]
        assert await waiting == "done"
    assert sorted(told) == ["end", "item", "step"]


async def test_metrics_and_lists(http: httpx.AsyncClient) -> None:
    await http.put("/v1/schedules/beat", json={"agent": "auditor", "message": 1, "every": "30m"})
    assert (await http.post("/v1/schedules/beat/trigger")).status_code == 202
    for path in ("/metrics", "/v1/agents", "/v1/mailboxes", "/v1/schedules/beat/firings", "/v1/effects", "/v1/nodes"):
        assert (await http.get(path)).status_code == 200, path
    assert (await http.get(f"/v1/runs/{'0' * 26}")).status_code == 404
    run = (await http.get("/v1/runs")).json()["runs"][0]["id"]
    key = {"Idempotency-Key": "k"}
    forks = [(await http.post(f"/v1/runs/{run}/fork", json={}, headers=key)).json()["id"] for _ in range(2)]
    assert forks[0] == forks[1]
