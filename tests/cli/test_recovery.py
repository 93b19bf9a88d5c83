"""The promise: what is killed comes back, and its work goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_house import House

from relit.lib import proc


@pytest.fixture
def up(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    house.up()
    try:
        yield house
    finally:
        house.down()


def pids(house: House) -> dict[str, int]:
    """The node and its instances, as the node wrote them down."""
    record = json.loads((house.data / "run" / "node.json").read_bytes())
    return {"node": record["process"]["pid"], **{each["name"]: each["pid"] for each in record["instances"]}}


@pytest.mark.slow
def test_work_survives_the_death_of_server_worker_and_node(up: House) -> None:
    started = up.run("run", "clerk/count", '[15, "200ms"]', "--detach")
    id = started.stdout.split()[0]
    before = pids(up)
    os.kill(before["clerks"], signal.SIGKILL)
    os.kill(before["server"], signal.SIGKILL)

    sent = up.run("send", "clerk", "still here", "--wait", "--timeout", "30s")
    assert "STILL HERE" in sent.stdout, sent.output

    os.kill(before["node"], signal.SIGKILL)
    again = up.spawn("up", "clerks")
    assert again.returncode == 0, again.stderr
    after = pids(up)
    assert after["node"] != before["node"]
    os.kill(after["clerks"], signal.SIGKILL)

    waited = up.run("wait", id, "--timeout", "40s")
    assert waited.exit_code == 0, waited.output
    assert "completed  105" in waited.stdout
    shown = up.json("show", id)
    steps = [step["name"] for step in shown["steps"] if step["kind"] == "step"]
    assert steps == [f"one{number}" for number in range(15)]
    assert shown["run"]["crashes"] >= 1 or shown["run"]["epoch"] >= 3


@pytest.mark.slow
def test_down_ends_everything_and_up_goes_on(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.up()
    id = house.run("run", "clerk/approve", "--detach").stdout.split()[0]
    alive = pids(house)
    house.down()
    for pid in alive.values():
        assert proc.start_time(pid) is None
    assert house.run("ps").exit_code == 1
    house.up()
    try:
        assert house.run("signal", id, "ok", '"yes"').exit_code == 0
        assert "yes" in house.run("wait", id, "--timeout", "30s").stdout
    finally:
        house.down()


@pytest.mark.slow
def test_an_agent_that_cannot_start_is_told_at_once(tmp_path: Path) -> None:
    house = House(tmp_path)
    (tmp_path / "relit.toml").write_text('[agents.wrong]\nentry = "clerks:clerk"\n')
    done = house.spawn("up")
    assert done.returncode == 78
    assert "rename the table to [agents.clerk]" in done.stderr


@pytest.mark.slow
def test_interrupted_run_is_on_disk_and_goes_on(tmp_path: Path) -> None:
    house = House(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "relit.cli", "run", "clerks:count", '[5, "300ms"]'],
        cwd=tmp_path,
        env=house.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "one1" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "--resume" in told
    short = told.split("--resume ")[1].split()[0]
    done = house.spawn("run", "clerks:count", "--resume", short)
    assert done.returncode == 0, done.stderr
    assert "completed  10" in done.stdout
