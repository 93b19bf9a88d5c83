"""Installations that relit did not make: recognised, found alive, their schedules read."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import apsw
import pytest

from relit.agents import adoption, moving, timetables
from relit.agents.config import keep
from relit.agents.kind import Adopt, builtin

ADOPT = Adopt(marks=["x.json"], into="state", pids=["x.pid"], ports={"web": "net.port"}, usual_ports={"web": 1})


def test_a_kind_is_known_by_what_is_there(tmp_path: Path) -> None:
    assert adoption.recognised(tmp_path, builtin()) == []
    (tmp_path / "openclaw.json").write_text("{}")
    assert adoption.recognised(tmp_path, builtin()) == ["openclaw"]


def test_a_living_pid_in_its_pid_file_counts(tmp_path: Path) -> None:
    (tmp_path / "x.pid").write_text(json.dumps({"pid": os.getppid()}))
    with (tmp_path / "x.pid").open():
        found = adoption.living(tmp_path, ADOPT, {"net": {"port": 1}})
    assert found is None or found.pid == os.getppid()  # it counts when it has to do with the folder
    (tmp_path / "x.pid").write_text("2147483647")
    assert adoption.living(tmp_path, ADOPT, {"net": {"port": 1}}) is None


def test_who_answers_at_its_port_runs_it_unless_that_is_another_agent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = adoption.living(tmp_path, ADOPT, {"net": {"port": port}})
        assert found is not None
        assert str(port) in found.why
        assert adoption.living(tmp_path, ADOPT, {"net": {"port": port}}, {port}) is None


def test_a_door_is_read_from_the_configuration_or_an_environment_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# keys\nexport PORT='8642'\nOTHER=1\n")
    assert adoption.door_said(tmp_path, {}, ".env:PORT") == "8642"
    assert adoption.door_said(tmp_path, {}, ".env:NONE") is None
    assert adoption.port_of(tmp_path, ADOPT, {"net": {"port": 99}}, "web") == 99
    assert adoption.port_of(tmp_path, ADOPT, {}, "web") == 1


def test_the_schedules_of_openclaw_are_read(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    database = apsw.Connection(str(tmp_path / "state/openclaw.sqlite"))
    database.execute(
        "CREATE TABLE cron_jobs (job_json, enabled INTEGER, sort_order INTEGER, declaration_key, store_key)"
    )
    jobs = [
        ({"name": "Morning brief", "schedule": {"kind": "cron", "expr": "0 7 * * *", "tz": "Europe/Berlin"},
          "payload": {"kind": "agentTurn", "message": "What is new?"}}, 1),
        ({"name": "Morning brief", "schedule": {"kind": "every", "everyMs": 5_400_000},
          "payload": {"kind": "systemEvent", "text": "Tick"}}, 1),
        ({"name": "once", "schedule": {"kind": "at", "at": "2027-01-01"}, "payload": {}}, 1),
        ({"name": "off", "schedule": {"kind": "cron", "expr": "* * * * *"}, "payload": {}}, 0),
    ]  # fmt: skip
    for number, (job, enabled) in enumerate(jobs):
        row = (json.dumps(job), enabled, number, None, f"{tmp_path}/cron/jobs.json")
        database.execute("INSERT INTO cron_jobs VALUES (?, ?, ?, ?, ?)", row)
    for declared, key in (("heartbeat:main", f"{tmp_path}/cron/jobs.json"), (None, "/elsewhere/cron/jobs.json")):
        database.execute("INSERT INTO cron_jobs VALUES (?, 1, 9, ?, ?)", (json.dumps(jobs[0][0]), declared, key))
    database.close()
    config = {"agents": {"defaults": {"heartbeat": {"every": "45m"}}}}
    found = timetables.read("openclaw", tmp_path, config)
    assert [(each.name, each.every, each.cron, each.zone, each.message) for each in found] == [
        ("heartbeat", "45m", None, None, "Look around."),
        ("morning-brief", None, "0 7 * * *", "Europe/Berlin", "What is new?"),
        ("morning-brief-2", "1h 30m", None, None, "Tick"),
        ("once", None, None, None, ""),
    ]
    assert found[-1].told == "it runs at, which schedules do not"


def test_heartbeats_of_openclaws_single_agents_are_read_and_switched_off(tmp_path: Path) -> None:
    entries = {
        "mia": {"heartbeat": {"every": "30m", "prompt": "Up?"}},
        "leo": {},
        "ida": {"heartbeat": {"every": "0m"}},
    }
    config: dict[str, Any] = {"agents": {"entries": entries}}
    [found] = timetables.read("openclaw", tmp_path, config)
    assert (found.name, found.every, found.message) == ("heartbeat-mia", "30m", "Up?")
    assert "not to this one" in found.told
    kind = builtin()["openclaw"]
    assert keep(config, kind.config[0].file(model=False, silent=True).keep)
    assert entries["mia"] == {"heartbeat": {"every": "0m", "prompt": "Up?"}}
    assert entries["leo"] == {}


def test_all_workspaces_of_openclaws_agents_are_known() -> None:
    adopt = builtin()["openclaw"].adopt
    assert adopt is not None
    entries = {"mia": {"workspace": "/srv/mia"}, "leo": {}, "../x": {"workspace": "/etc"}}
    found = adoption.named({"agents": {"entries": entries}}, adopt.folders)
    assert [(each.key, each.into, each.usual) for each in found] == [
        ("agents.defaults.workspace", "workspace", "workspace"),
        ("agents.entries.mia.workspace", "workspaces/mia", "workspace-mia"),
        ("agents.entries.leo.workspace", "workspaces/leo", "workspace-leo"),
        ("agents.entries.mia.agentDir", "agentdirs/mia", ""),
        ("agents.entries.leo.agentDir", "agentdirs/leo", ""),
    ]
    older = {"agents": {"list": [{"id": "a", "workspace": "/srv/a"}, {"id": "b"}]}}
    assert [(each.key, each.into, each.usual) for each in adoption.named(older, adopt.folders)][1:3] == [
        ("agents.list.0.workspace", "workspaces/0", "workspace-a"),
        ("agents.list.1.workspace", "workspaces/1", "workspace-b"),
    ]


def test_the_schedules_of_hermes_are_read(tmp_path: Path) -> None:
    assert timetables.read("hermes", tmp_path, {}) == []
    (tmp_path / "cron").mkdir()
    job = {"name": "news", "prompt": "Read the news", "schedule": {"kind": "interval", "minutes": 30}, "enabled": True}
    (tmp_path / "cron/jobs.json").write_text(json.dumps({"jobs": [job, job | {"enabled": False}]}))
    assert [(each.name, each.every, each.message) for each in timetables.read("hermes", tmp_path, {})] == [
        ("news", "30m", "Read the news")
    ]


def test_a_copy_that_is_not_like_the_original_is_seen(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "a").mkdir(parents=True)
    (old / "a/b").write_text("one")
    (old / "a/c").write_text("two")
    moving.copy(old, new, [])
    assert moving.differences(old, new, []) == []
    (new / "a/b").unlink()
    (old / "a/c").write_text("three")
    assert [each.partition(":")[0] for each in moving.differences(old, new, [])] == ["a/b", "a/c"]


def test_a_copy_ends_when_it_is_to(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/a").write_text("one")
    with pytest.raises(moving.Stopped):
        moving.copy(tmp_path / "old", tmp_path / "new", [], lambda: True)


def test_paths_in_its_database_lead_to_the_copy() -> None:
    openclaw = builtin()["openclaw"].adopt
    assert openclaw is not None
    moved = [each.sql for each in openclaw.settled("/home/o'neil/.openclaw", "/data/home/state")]
    assert any("'/data/home/state' || substr(store_key, length('/home/o''neil/.openclaw') + 1)" in sql for sql in moved)
    assert not any("{" in sql for sql in moved)
