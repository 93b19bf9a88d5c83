"""Messages, mailboxes, agents and schedules over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from relit.api import openapi, workers
from relit.api.build import build
from relit.api.parts import Defaults, Options, Parts
from relit.api.targets import Targets
from relit.durable.engine import Engine
from relit.errors import Invalid, UnknownWorkflow
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import NewRun, WorkerInfo

PATH = "/v1/agents/auditor/messages"


async def test_a_message_is_on_disk_when_it_is_answered(
    http: httpx.AsyncClient, store: SqliteStore, tmp_path: Path, hand: Any
) -> None:
    answer = await http.post(PATH, json={"message": {"look": "here"}, "key": "k", "expire": "1h", "priority": 90})
    assert answer.status_code == 202
    other = SqliteStore(tmp_path / "relit.db")
    await other.start()
    run = await other.run(answer.json()["id"])
    await other.stop()
    assert (run.target, run.kind, run.mailbox, run.key) == ("auditor/message", "message", "auditor", "k")
    assert (run.priority, run.max_attempts) == (90, 0), "0: the agent's definition says how often"
    assert run.expires_at == run.created_at + 3_600_000
    assert await hand.payloads.decode(run.input) == {"args": [{"look": "here"}], "kwargs": {}}


async def test_an_idempotency_key_makes_one_message(http: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "once"}
    first, second = [(await http.post(PATH, json={"message": 1}, headers=key)).json() for _ in range(2)]
    assert (first["created"], second["created"]) == (True, False)
    assert first["id"] == second["id"]


async def test_a_batch_is_one_commit_in_order(http: httpx.AsyncClient) -> None:
    batch = [{"message": n} for n in range(10)]
    key = {"Idempotency-Key": "batch"}
    first, second = [(await http.post(PATH, json=batch, headers=key)).json() for _ in range(2)]
    assert [each["id"] for each in first] == sorted(each["id"] for each in first)
    assert [each["created"] for each in first + second] == [True] * 10 + [False] * 10
    refused = await http.post(PATH, json=[{"message": 1}, {"mesage": 2}])
    assert refused.status_code == 422
    assert len((await http.get("/v1/runs")).json()["runs"]) == 10


@pytest.mark.parametrize("batch", [[], [{"message": 1}] * 1001])
async def test_a_batch_has_a_size(http: httpx.AsyncClient, batch: list[Any]) -> None:
    assert (await http.post(PATH, json=batch)).status_code == 422


async def test_a_full_mailbox_says_when_to_come_back(http: httpx.AsyncClient) -> None:
    await http.patch("/v1/mailboxes/auditor", json={"depth": 2})
    assert (await http.post(PATH, json=[{"message": n} for n in range(3)])).status_code == 429
    assert (await http.post(PATH, json=[{"message": n} for n in range(2)])).status_code == 202
    full = await http.post(PATH, json={"message": 3})
    assert (full.status_code, full.json()["code"], full.json()["retry"]) == (429, "mailbox-full", True)
    assert int(full.headers["retry-after"]) >= 1


async def test_a_message_to_an_agent_that_is_misspelt(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/message")
    answer = await http.post("/v1/agents/auditr/messages", json={"message": 1})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown-workflow")
    assert answer.json()["detail"] == "the workers have auditor; did you mean auditor?"
    assert (await http.post("/v1/agents/new/messages", json={"message": 1, "force": True})).status_code == 202


async def test_an_agents_defaults_fill_what_the_sender_leaves_out(store: SqliteStore, hand: Any, token: str) -> None:
    options = Options(agents={"auditor": Defaults(priority=80, expire_ms=1000)})
    app = build(Parts(Engine(store, hand.payloads), options))
    headers = {"Authorization": f"Bearer {token}", "Host": "localhost"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", headers=headers
    ) as http:
        silent = (await http.post(PATH, json={"message": 1})).json()["id"]
        loud = (await http.post(PATH, json={"message": 1, "priority": 1, "expire": "1m"})).json()["id"]
    first, second = await store.run(silent), await store.run(loud)
    assert (first.priority, first.expires_at) == (80, first.created_at + 1000)
    assert (second.priority, second.expires_at) == (1, second.created_at + 60_000)


async def test_a_declared_agent_is_known_before_its_first_worker(store: SqliteStore, hand: Any) -> None:
    await hand.join("writer/message")
    targets = Targets(store, {"auditor": Defaults()})
    target, note = await targets.find("auditor", False)
    assert target == "auditor/message"
    assert "waits until one does" in note
    await hand.join("auditor/message", name="second")
    assert await targets.find("auditor/message", False) == ("auditor/message", "")
    with pytest.raises(UnknownWorkflow, match="did you mean auditor"):
        await targets.find("auditor/massage", False)


async def test_who_takes_no_messages_is_told_at_once(store: SqliteStore, hand: Any) -> None:
    targets = Targets(store, {"cron": Defaults()}, {"cron"})
    with pytest.raises(Invalid, match="cron takes no messages"):
        await targets.find("cron", False)
    assert (await targets.find("cron", True))[0] == "cron/message"
    await hand.join("cron/message")
    assert await targets.find("cron", False) == ("cron/message", "")


async def test_a_mailbox_is_limited_paused_and_resumed(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/message")
    box = (await http.patch("/v1/mailboxes/auditor", json={"concurrency": 3, "rate": 2.5, "burst": 4})).json()
    assert (box["concurrency"], box["rate"], box["burst"], box["depth"]) == (3, 2.5, 4, 1000)
    box = (await http.patch("/v1/mailboxes/auditor", json={"depth": None})).json()
    assert (box["concurrency"], box["depth"]) == (3, None)
    assert (await http.post("/v1/mailboxes/auditor/pause")).json()["paused"] is True
    await http.post(PATH, json={"message": 1})
    assert await hand.store.claim("hand", ["auditor/message"], 1) == []
    assert (await http.get("/v1/mailboxes/auditor")).json()["queued"] == 1
    assert (await http.post("/v1/mailboxes/auditor/resume")).json()["paused"] is False
    await hand.claim("auditor/message")
    assert [each["name"] for each in (await http.get("/v1/mailboxes")).json()["mailboxes"]] == ["auditor"]
    assert (await http.get("/v1/mailboxes/none")).status_code == 404
    assert (await http.post("/v1/mailboxes/none/pause")).status_code == 404


async def test_agents_are_shown_with_what_belongs_to_them(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/message", "auditor/audit", "writer/message")
    await http.post(PATH, json=[{"message": 1}, {"message": 2}])
    await hand.claim("auditor/message")
    agents = {agent["name"]: agent for agent in (await http.get("/v1/agents")).json()["agents"]}
    assert set(agents) == {"auditor", "writer"}
    assert agents["auditor"]["targets"] == ["auditor/audit", "auditor/message"]
    assert agents["auditor"]["workers"] == 1
    assert agents["auditor"]["runs"] == {"running": 1, "available": 1}
    assert agents["auditor"]["mailbox"]["active"] == 1
    assert agents["writer"]["runs"] == {}
    assert (await http.get("/v1/agents/writer")).json() == agents["writer"]
    assert (await http.get("/v1/agents/none")).status_code == 404


async def test_workers_and_their_machines(http: httpx.AsyncClient, hand: Any) -> None:
    await hand.join("auditor/message")
    await hand.join("writer/message", name="other")
    listed = (await http.get("/v1/workers")).json()["workers"]
    assert {worker["id"] for worker in listed} == {"hand", "other"}
    await hand.store.leave("other")
    assert len((await http.get("/v1/workers")).json()["workers"]) == 1
    assert len((await http.get("/v1/workers", params={"all": "true"})).json()["workers"]) == 2
    (node,) = (await http.get("/v1/nodes")).json()["nodes"]
    assert (node["host"], node["workers"], node["targets"]) == ("here", 1, ["auditor/message"])


def test_machines_of_the_same_name_are_told_apart_by_their_boot() -> None:
    def worker(boot: str) -> WorkerInfo:
        return WorkerInfo(id=boot, host="h", pid=1, start=1, boot=boot, namespace="n", targets=["a/b"])

    assert len(workers.machines([worker("1"), worker("2"), worker("2")])) == 2


SCHEDULES = "/v1/schedules/beat"
BEAT = {"agent": "auditor", "message": "Look around.", "every": "30m"}


async def test_a_schedule_is_added_shown_and_removed(http: httpx.AsyncClient, hand: Any) -> None:
    made = (await http.put(SCHEDULES, json={**BEAT, "overlap": "queue"})).json()
    assert made["target"] == "auditor/message"
    assert made["spec"] == {"every": "30m", "overlap": "queue"}
    assert made["input"] == {"args": ["Look around."], "kwargs": {}}
    assert 0 < made["next_at"] - await hand.store.now_ms() <= 1_800_000
    assert (await http.get(SCHEDULES)).json() == made
    assert (await http.get("/v1/schedules")).json()["schedules"] == [made]
    assert (await http.delete(SCHEDULES)).status_code == 204
    for answer in (await http.get(SCHEDULES), await http.delete(SCHEDULES), await http.post(SCHEDULES + "/trigger")):
        assert answer.status_code == 404


async def test_the_same_schedule_again_changes_nothing(http: httpx.AsyncClient, hand: Any) -> None:
    await http.put(SCHEDULES, json=BEAT)
    (before,) = await hand.store.schedules()
    await http.put(SCHEDULES, json=BEAT)
    assert await hand.store.schedules() == [before]
    await http.put(SCHEDULES, json={**BEAT, "every": "45m"})
    (after,) = await hand.store.schedules()
    assert after.rev > before.rev


async def test_a_paused_schedule_stays_paused_when_it_is_changed(http: httpx.AsyncClient) -> None:
    await http.put(SCHEDULES, json=BEAT)
    paused = (await http.post(SCHEDULES + "/pause")).json()
    assert (paused["paused"], paused["next_at"]) == (True, None)
    changed = (await http.put(SCHEDULES, json={**BEAT, "every": "45m"})).json()
    assert (changed["paused"], changed["next_at"]) == (True, None)
    resumed = (await http.post(SCHEDULES + "/resume")).json()
    assert resumed["paused"] is False
    assert resumed["next_at"] is not None


async def test_a_schedule_is_fired_by_hand(http: httpx.AsyncClient) -> None:
    made = (
        await http.put(SCHEDULES, json={"agent": "auditor", "workflow": "audit", "args": [1], "every": "1h"})
    ).json()
    key = {"Idempotency-Key": "k"}
    first, second = [(await http.post(SCHEDULES + "/trigger", headers=key)).json() for _ in range(2)]
    assert (first["created"], second["created"], first["id"]) == (True, False, second["id"])
    run = (await http.get(f"/v1/runs/{first['id']}")).json()
    assert (run["target"], run["kind"], run["schedule"]) == ("auditor/audit", "schedule", "beat")
    (firing,) = (await http.get(SCHEDULES + "/firings")).json()["firings"]
    assert (firing["run"], firing["outcome"], firing["reason"]) == (first["id"], "fired", "triggered by a person")
    assert (await http.get(SCHEDULES)).json()["next_at"] == made["next_at"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"agent": "a", "message": 1}, "exactly one"),
        ({"agent": "a", "message": 1, "every": "30m", "cron": "* * * * *"}, "exactly one"),
        ({"agent": "a", "message": 1, "cron": "61 * * * *"}, "cron"),
        ({"agent": "a", "message": 1, "cron": "0 9 * * *", "zone": "Europe/Nowhere"}, "Nowhere"),
        ({"agent": "a", "every": "30m"}, "message"),
        ({"agent": "a", "workflow": "w", "message": 1, "every": "30m"}, "args"),
        ({"agent": "a", "message": 1, "every": "30m", "missed": "never"}, "missed"),
    ],
)
async def test_a_schedule_that_makes_no_sense_is_refused(
    http: httpx.AsyncClient, body: dict[str, Any], word: str
) -> None:
    answer = await http.put(SCHEDULES, json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert word in problem["title"] + problem["detail"]
    assert (await http.get("/v1/schedules")).json()["schedules"] == []


async def test_subscribers_show_their_secret_once(http: httpx.AsyncClient, hand: Any) -> None:
    path = "/v1/subscribers/ops"
    made = (await http.put(path, json={"url": "https://example.org/hook", "events": ["run.failed"]})).json()
    assert made["secret"].startswith("whsec_")
    assert made["cursor"] == await hand.store.last_event()
    (stored,) = await hand.store.subscribers()
    changed = (await http.put(path, json={"url": "https://example.org/other"})).json()
    assert "secret" not in changed
    (after,) = await hand.store.subscribers()
    assert (after.secret, after.cursor, after.url) == (stored.secret, stored.cursor, "https://example.org/other")
    listed = (await http.get("/v1/subscribers")).json()["subscribers"]
    assert [("secret" in each, each["events"]) for each in listed] == [(False, ["*"])]
    assert (await http.delete(path)).status_code == 204
    assert (await http.delete(path)).status_code == 404
    assert (await http.put(path, json={"url": "ftp://x"})).status_code == 422
    assert (await http.put(path, json={"url": "https://x", "events": ["run.nothing"]})).status_code == 422


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


async def test_metrics_count_runs_events_and_requests(http: httpx.AsyncClient, hand: Any) -> None:
    before = samples((await http.get("/metrics")).text)
    await hand.join("auditor/message", 'odd"name\\/message')
    await http.post(PATH, json=[{"message": n} for n in range(3)])
    await hand.complete(await hand.claim("auditor/message"))
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(answer.text)
    assert found['relit_runs{target="auditor/message",state="completed"}'] == 1
    assert found['relit_runs{target="auditor/message",state="available"}'] == 2
    assert found['relit_mailbox_depth{mailbox="auditor"}'] == 2
    assert found['relit_events_total{name="run.enqueued"}'] - before['relit_events_total{name="run.enqueued"}'] == 3
    assert found['relit_events_total{name="run.completed"}'] == 1
    assert found["relit_workers"] == 1
    assert found[f'relit_http_requests_total{{method="POST",route="{openapi_path(PATH)}",status="202"}}'] == 1
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert found["process_cpu_seconds_total"] > 0


def openapi_path(path: str) -> str:
    return path.replace("auditor", "{name}")


async def test_metrics_have_help_and_type_once_each(http: httpx.AsyncClient) -> None:
    lines = (await http.get("/metrics")).text.splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert names == [line.split()[2] for line in lines if line.startswith("# HELP")]
    values = {line.partition("{")[0].partition(" ")[0] for line in lines if not line.startswith("#")}
    assert values <= set(names)


async def test_metrics_are_open_when_the_settings_say_so(store: SqliteStore, hand: Any) -> None:
    app = build(Parts(Engine(store, hand.payloads), Options(metrics_public=True)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        assert (await http.get("/metrics")).status_code == 200


async def test_health_and_readiness(http: httpx.AsyncClient, parts: Parts, store: SqliteStore) -> None:
    assert (await http.get("/healthz")).json()["status"] == "ok"
    assert (await http.get("/readyz")).json()["status"] == "ready"
    await store.stop()
    refused = await http.get("/readyz")
    assert (refused.status_code, refused.json()["code"]) == (503, "store-unavailable")
    assert (await http.get("/healthz")).status_code == 200
    parts.closing.close()
    refused = await http.get("/readyz")
    assert "stopping" in refused.json()["title"]
    assert refused.headers["retry-after"] == "1"


def test_nothing_secret_is_a_field_of_what_is_listed() -> None:
    from relit.api.build import OPERATIONS

    shapes = openapi.document(OPERATIONS)["components"]["schemas"]
    assert "hash" not in shapes["Token"]["properties"]
    assert msgspec.json.encode(shapes)


async def test_a_run_made_elsewhere_is_seen(http: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.enqueue([NewRun(id="1" * 26, agent="a", workflow="b", input=b"\x01\xc0")])
    assert (await http.get(f"/v1/runs/{'1' * 26}")).json()["input"] is None
