"""Runs over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from relit.store.values import Effect, Fence, NewRun


async def started(http: httpx.AsyncClient, **body: Any) -> str:
    answer = await http.post("/v1/runs", json={"target": "auditor/audit", **body})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def test_a_started_run_is_on_disk_with_its_input(http: httpx.AsyncClient, hand: Any) -> None:
    run = await started(http, args=[1, {"a": [2]}], kwargs={"deep": True}, priority=70, timeout="1h")
    found = (await http.get(f"/v1/runs/{run}")).json()
    assert found["state"] == "available"
    assert found["input"] == {"args": [1, {"a": [2]}], "kwargs": {"deep": True}}
    assert found["priority"] == 70
    assert found["deadline_at"] - found["created_at"] == 3_600_000
    assert (await hand.payloads.decode((await hand.store.run(run)).input))["args"] == [1, {"a": [2]}]


async def test_input_is_one_argument(http: httpx.AsyncClient) -> None:
    run = await started(http, input="x")
    assert (await http.get(f"/v1/runs/{run}")).json()["input"] == {"args": ["x"], "kwargs": {}}


async def test_an_idempotency_key_starts_one_run(http: httpx.AsyncClient) -> None:
    body = {"target": "auditor/audit"}
    first, second = [await http.post("/v1/runs", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert first.json()["created"]
    assert second.json() == {"id": first.json()["id"], "created": False, "note": first.json()["note"]}


async def test_an_unknown_workflow_is_told_with_its_neighbour(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/audit")
    answer = await http.post("/v1/runs", json={"target": "auditor/adit"})
    assert answer.status_code == 404
    assert answer.json()["code"] == "unknown-workflow"
    assert "did you mean auditor/audit?" in answer.json()["detail"]
    forced = await http.post("/v1/runs", json={"target": "auditor/adit", "force": True})
    assert forced.status_code == 202
    assert "waits until one does" in forced.json()["note"]


async def test_a_bare_name_finds_the_only_workflow_of_that_name(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/audit", "writer/message")
    for name, target in (("audit", "auditor/audit"), ("writer", "writer/message")):
        run = (await http.post("/v1/runs", json={"target": name})).json()["id"]
        assert (await http.get(f"/v1/runs/{run}")).json()["target"] == target


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "target"),
        ({"target": "a/b/c", "force": True}, "a/b/c"),
        ({"target": "a/b", "priority": 101}, "priority"),
        ({"target": "a/b", "delay": "soon"}, "delay"),
        ({"target": "a/b", "at": "2026-01-31T09:00:00"}, "time zone"),
        ({"target": "a/b", "prority": 1}, "prority"),
        ({"target": "a/b", "input": 1, "args": [2]}, "excludes"),
        ({"target": "a/b", "input": {"$bytes": "%%%"}}, "value"),
    ],
)
async def test_a_wrong_body_is_refused_by_name(http: httpx.AsyncClient, body: dict[str, Any], word: str) -> None:
    answer = await http.post("/v1/runs", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "invalid"
    assert word in problem["title"] + problem["detail"]
    assert (await http.get("/v1/runs")).json()["runs"] == []


async def test_a_list_is_paged_newest_first_and_filtered(http: httpx.AsyncClient, hand: Any) -> None:
    ids = [await started(http) for _ in range(5)]
    await http.post("/v1/runs", json={"target": "other/work"})
    pages, before = [], None
    while True:
        query: dict[str, Any] = {"agent": "auditor", "limit": 2, **({"before": before} if before else {})}
        page = (await http.get("/v1/runs", params=query)).json()
        pages += [run["id"] for run in page["runs"]]
        if (before := page["next"]) is None:
            break
    assert pages == ids[::-1]
    await http.post(f"/v1/runs/{ids[0]}/cancel", json={"reason": "enough"})
    page = (await http.get("/v1/runs", params={"state": "cancelled,failed"})).json()
    assert [run["id"] for run in page["runs"]] == [ids[0]]
    assert "input" not in page["runs"][0]


async def test_a_short_id_finds_its_run(http: httpx.AsyncClient) -> None:
    run = await started(http)
    assert (await http.get(f"/v1/runs/{run[-8:]}")).json()["id"] == run
    assert (await http.get("/v1/runs/zzzz")).status_code == 404
    other = await started(http)
    answer = await http.get(f"/v1/runs/{run[:2]}")
    assert answer.status_code == 409
    assert other in answer.json()["detail"]


async def test_the_journal_comes_in_pages(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/audit")
    await started(http)
    run = await hand.claim("auditor/audit")
    for value in ("a", b"\x00\xff", float("nan")):
        await hand.step(run, value)
    page = (await http.get(f"/v1/runs/{run.id}/journal", params={"limit": 2})).json()
    assert [step["result"] for step in page["steps"]] == ["a", {"$bytes": "AP8="}]
    rest = (await http.get(f"/v1/runs/{run.id}/journal", params={"after": page["next"]})).json()
    assert [step["result"] for step in rest["steps"]] == [{"$float": "nan"}]
    assert rest["next"] is None


async def test_large_payloads_are_references_until_asked_for(http: httpx.AsyncClient) -> None:
    run = await started(http, input="x" * 100_000)
    assert (await http.get(f"/v1/runs/{run}")).json()["input"] == {
        "$blob": None,
        "size": pytest.approx(100_000, abs=50),
    }
    whole = (await http.get(f"/v1/runs/{run}", params={"payloads": "full"})).json()
    assert whole["input"]["args"] == ["x" * 100_000]


async def test_a_wait_answers_when_the_run_ends(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/audit")
    await started(http)
    run = await hand.claim("auditor/audit")
    waiting = asyncio.ensure_future(http.get(f"/v1/runs/{run.id}/wait", params={"wait": "20s"}))
    await hand.complete(run, {"answer": 42})
    answer = (await waiting).json()
    assert answer["state"] == "completed"
    assert answer["output"] == {"answer": 42}


async def test_a_wait_that_ends_first_tells_the_state(http: httpx.AsyncClient) -> None:
    run = await started(http)
    answer = await http.get(f"/v1/runs/{run}/wait", params={"wait": "0.01"})
    assert answer.status_code == 200
    assert answer.json()["state"] == "available"


async def test_a_wait_follows_a_continued_run(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/audit")
    await started(http)
    run = await hand.claim("auditor/audit")
    next_run = NewRun(id="0" * 26, agent="auditor", workflow="audit", input=run.input)
    await hand.finish(run, state="completed", next_run=next_run)
    await hand.complete(await hand.claim("auditor/audit"), "end")
    answer = (await http.get(f"/v1/runs/{run.id}/wait")).json()
    assert (answer["id"], answer["output"]) == ("0" * 26, "end")


async def test_a_signal_is_delivered_once(http: httpx.AsyncClient, hand: Any) -> None:
    run = await started(http)
    body = {"name": "go", "payload": {"by": "me"}, "id": "s1"}
    first, second = [await http.post(f"/v1/runs/{run}/signal", json=body) for _ in range(2)]
    assert (first.status_code, first.json()) == (202, {"id": "s1", "created": True})
    assert second.json()["created"] is False
    (signal,) = (await hand.store.journal(run)).signals
    assert await hand.payloads.decode(signal.payload) == {"by": "me"}


async def test_the_same_signal_id_for_two_runs_is_two_signals(http: httpx.AsyncClient) -> None:
    for run in [await started(http), await started(http)]:
        answer = await http.post(f"/v1/runs/{run}/signal", json={"name": "go"}, headers={"Idempotency-Key": "approved"})
        assert answer.json() == {"id": "approved", "created": True}


async def test_a_heartbeat_is_shown(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/audit")
    id_ = await started(http)
    run = await hand.claim("auditor/audit")
    assert (await http.get(f"/v1/runs/{id_}")).json().get("beat_at") is None
    await hand.store.beat(Fence(run.id, run.epoch), await hand.payloads.encode({"page": 3}))
    shown = (await http.get(f"/v1/runs/{id_}")).json()
    assert shown["beat"] == {"page": 3}
    assert shown["beat_at"] >= shown["started_at"]


async def test_cancel_pause_resume_retry(http: httpx.AsyncClient, hand: Any) -> None:
    run = await started(http)
    assert (await http.post(f"/v1/runs/{run}/pause")).json()["state"] == "parked"
    assert (await http.post(f"/v1/runs/{run}/resume")).json()["state"] == "available"
    cancelled = (await http.post(f"/v1/runs/{run}/cancel")).json()
    assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "cancelled by a person")
    again = await http.post(f"/v1/runs/{run}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert (await http.post(f"/v1/runs/{run}/retry")).json()["state"] == "available"


async def test_a_dead_letter_is_requeued(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/message")
    await http.post("/v1/agents/auditor/messages", json={"message": "hi"})
    run = await hand.claim("auditor/message")
    await hand.finish(run, state="discarded", reason="three attempts")
    assert (await http.post(f"/v1/runs/{run.id}/requeue")).json()["state"] == "available"


async def test_a_fork_takes_the_first_steps_along(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/audit")
    await started(http, input="old")
    run = await hand.claim("auditor/audit")
    for value in range(3):
        await hand.step(run, value)
    body, key = {"seq": 2, "input": "new"}, {"Idempotency-Key": "once"}
    forked = (await http.post(f"/v1/runs/{run.id}/fork", json=body, headers=key)).json()
    assert forked["forked_from"] == run.id
    assert forked["input"]["args"] == ["new"]
    assert len((await http.get(f"/v1/runs/{forked['id']}/journal")).json()["steps"]) == 2
    again = (await http.post(f"/v1/runs/{run.id}/fork", json=body, headers=key)).json()
    assert again["id"] == forked["id"]
    assert len((await http.get("/v1/runs")).json()["runs"]) == 2


async def test_an_effect_in_doubt_is_resolved(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/audit")
    await started(http)
    run = await hand.claim("auditor/audit")
    fence = Fence(run.id, run.epoch)
    request = await hand.payloads.encode({"args": ["a@b.c"], "kwargs": {}})
    effect = Effect(
        run=run.id, pos="2/0.1", name="mail", doubt="ask", key="k", state="open", hash=b"h", request=request
    )
    await hand.store.intend(fence, effect)
    await hand.store.doubt(fence, effect.pos)
    await hand.finish(run, state="parked", reason="effect in doubt")
    (found,) = (await http.get("/v1/effects")).json()["effects"]
    assert (found["state"], found["pos"], found["request"]["args"]) == ("in_doubt", "2/0.1", ["a@b.c"])
    assert (await http.post(f"/v1/runs/{run.id}/resume")).status_code == 409
    body = {"run": run.id, "pos": "2/0.1", "done": True, "result": {"sent": 1}}
    assert (await http.post("/v1/effects/resolve", json=body)).json()["state"] == "available"
    (step,) = (await http.get(f"/v1/runs/{run.id}/journal")).json()["steps"]
    assert step["result"] == {"sent": 1}


async def test_a_failed_run_tells_why(http: httpx.AsyncClient, hand: Any) -> None:
    from relit.durable.faults import describe, dump

    await hand.join("auditor/audit")
    await started(http)
    run = await hand.claim("auditor/audit")
    await hand.finish(run, state="failed", error=dump(describe(ValueError("no luck"))))
    found = (await http.get(f"/v1/runs/{run.id}")).json()
    assert (found["error"]["type"], found["error"]["message"]) == ("ValueError", "no luck")


async def test_a_run_that_is_not_there(http: httpx.AsyncClient) -> None:
    for path in ("", "/journal", "/waits", "/wait", "/stream"):
        answer = await http.get(f"/v1/runs/{'0' * 26}{path}")
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"
