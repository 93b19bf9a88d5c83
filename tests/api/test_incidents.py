"""Incidents over HTTP, and through the client."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from relit.api.server import ApiServer
from relit.client import Client
from relit.control import care
from relit.errors import NotFound
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Effect, Fence, Finish, Incident

T0 = 1_800_000_000_000


async def put(store: SqliteStore, id: str = "01jtrouble0000000000000001", **fields: Any) -> None:
    """An incident as a node reports it."""
    told = care.Incident(
        **(
            {
                "id": id,
                "agent": "ada",
                "instance": "ada",
                "opened_ms": T0,
                "severity": "warning",
                "rung": 2,
                "title": "ada: died 5 times",
                "cause": "exit code 1",
                "timeline": [
                    care.Entry(at_ms=T0, what="died"),
                    care.Entry(at_ms=T0 + 5, what="cleared", outcome="2 locks", took_ms=40),
                ],
                "memory": [(T0, 1 << 20), (T0 + 1000, 3 << 20)],
                "log": ["no", "way"],
                "config": {"a.json": "-1\n+2"},
                "next": "relit logs ada",
            }
            | fields
        )
    )
    await store.put_incident(
        Incident(
            id=told.id,
            agent=told.agent,
            instance=told.instance,
            opened_at=told.opened_ms,
            resolved_at=told.resolved_ms,
            severity=told.severity,
            rung=told.rung,
            group=told.group,
            title=told.title,
            rev=len(told.timeline),
            document=msgspec.json.encode(told),
        )
    )


async def test_incidents_are_listed_and_narrowed(http: httpx.AsyncClient, store: SqliteStore) -> None:
    await put(store, "i1", opened_ms=T0)
    await put(store, "i2", opened_ms=T0 + 1, agent="bob", resolved_ms=T0 + 9)
    await put(store, "i3", opened_ms=T0 + 2)
    found = (await http.get("/v1/incidents")).json()
    assert [each["id"] for each in found["incidents"]] == ["i3", "i2", "i1"]
    assert found["next"] is None
    assert found["incidents"][1] | {"updated_at": 0} == {
        "id": "i2", "agent": "bob", "instance": "ada", "opened_at": T0 + 1, "resolved_at": T0 + 9,
        "severity": "warning", "rung": 2, "title": "ada: died 5 times", "group": "", "updated_at": 0,
    }  # fmt: skip

    async def ids(query: str) -> list[str]:
        return [each["id"] for each in (await http.get(f"/v1/incidents?{query}")).json()["incidents"]]

    assert await ids("open=true") == ["i3", "i1"]
    assert await ids("agent=bob") == ["i2"]
    assert await ids("agent=bob&open=true") == []
    page = (await http.get("/v1/incidents?limit=2")).json()
    assert page["next"] == "i2"
    assert await ids(f"limit=2&before={page['next']}") == ["i1"]
    assert (await http.get("/v1/incidents?limit=0")).status_code == 422


async def test_an_incident_is_whole(http: httpx.AsyncClient, store: SqliteStore) -> None:
    await put(store)
    found = (await http.get("/v1/incidents/01jtrouble0000000000000001")).json()
    assert found["timeline"] == [
        {"at": T0, "what": "died", "outcome": "", "took_ms": None},
        {"at": T0 + 5, "what": "cleared", "outcome": "2 locks", "took_ms": 40},
    ]
    assert found["memory"] == [[T0, 1 << 20], [T0 + 1000, 3 << 20]]
    assert (found["cause"], found["log"], found["config"]) == ("exit code 1", ["no", "way"], {"a.json": "-1\n+2"})
    assert (found["next"], found["effects"], found["runs"]) == ("relit logs ada", [], [])


async def test_what_the_agent_left_open_is_added_when_it_is_asked(
    http: httpx.AsyncClient, store: SqliteStore, hand: Any
) -> None:
    await hand.join("ada/pay", "bob/pay")
    for agent in ("ada", "bob"):
        await http.post("/v1/runs", json={"target": f"{agent}/pay"})
    for agent in ("ada", "bob"):
        run = await hand.claim(f"{agent}/pay")
        fence = Fence(run.id, run.epoch)
        await store.intend(
            fence, Effect(run=run.id, pos="1", name=agent, doubt="ask", key="k", state="open", hash=b"", intent_at=9)
        )
        await store.doubt(fence, "1")
        await store.finish(fence, Finish(state="parked", reason="effect in doubt"))
    await put(store)
    found = (await http.get("/v1/incidents/01jtrouble0000000000000001")).json()
    [effect], [run] = found["effects"], found["runs"]
    assert (effect["name"], effect["pos"], effect["run"]) == ("ada", "1", run["id"])
    assert (run["target"], run["state"], run["reason"]) == ("ada/pay", "parked", "effect in doubt")


async def test_an_incident_is_found_by_a_part_of_its_id(http: httpx.AsyncClient, store: SqliteStore) -> None:
    await put(store, "01jtrouble0000000000000001")
    await put(store, "01jtrouble0000000000000002")
    assert (await http.get("/v1/incidents/00000001")).json()["id"] == "01jtrouble0000000000000001"
    assert (await http.get("/v1/incidents/01jt")).status_code == 409
    for unknown in ("zzz", "%25"):
        answer = await http.get(f"/v1/incidents/{unknown}")
        assert answer.status_code == 404
        assert answer.json()["fix"] == "relit incidents --all"


@pytest.mark.parametrize("document", [b"{", b"[]", b'{"opened_ms": "x"}', b'{"timeline": 3}', b'{"timeline": [3]}'])
async def test_a_report_that_cannot_be_read_does_not_hide_the_trouble(
    http: httpx.AsyncClient, store: SqliteStore, document: bytes
) -> None:
    await store.put_incident(
        Incident(
            id="i1", agent="ada", instance="ada-2", opened_at=T0, title="died", severity="critical", document=document
        )
    )
    found = (await http.get("/v1/incidents/i1")).json()
    assert (found["title"], found["severity"], found["instance"]) == ("died", "critical", "ada-2")
    assert "cannot be read" in found["cause"]


async def test_fields_of_a_later_node_are_no_obstacle(http: httpx.AsyncClient, store: SqliteStore) -> None:
    document = b'{"id": "i1", "agent": "ada", "opened_ms": 1, "cause": "c", "mood": {"a": 1}, "timeline": []}'
    await store.put_incident(Incident(id="i1", agent="ada", instance="ada", opened_at=1, document=document))
    assert (await http.get("/v1/incidents/i1")).json()["cause"] == "c"


async def test_the_client_reads_them(server: ApiServer, token: str, store: SqliteStore) -> None:
    await put(store, "i1")
    await put(store, "i2", resolved_ms=T0 + 1)
    async with Client(server.url, token) as client:
        assert [each.id for each in await client.incidents("ada", open=True)] == ["i1"]
        assert [each.id for each in await client.incidents(limit=1)] == ["i2"]
        found = await client.incident("i1")
        assert (found.open, found.grave, found.timeline[1].outcome) == (True, True, "2 locks")
        with pytest.raises(NotFound):
            await client.incident("i9")


async def test_incidents_need_a_token(server: ApiServer) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as stranger:
        assert (await stranger.get("/v1/incidents")).status_code == 401
