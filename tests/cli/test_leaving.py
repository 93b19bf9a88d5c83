"""The node ends alone, for an upgrade of relit or by a fault: what it keeps lives on, and the next one takes over."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_house import AgentHouse

from relit.app import specs
from relit.lib import proc

pytestmark = pytest.mark.slow

FAULTY = """
import asyncio, sys
from relit.node.node import Node

async def faulty(self):
    await asyncio.sleep(1)
    raise RuntimeError("a fault of its own")

Node.wait = faulty
from relit.cli.main import cli
cli(sys.argv[1:])
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[AgentHouse]:
    made = AgentHouse(tmp_path)
    made.up()
    try:
        yield made
    finally:
        made.down()


def pids(house: AgentHouse) -> dict[str, int]:
    return {each["name"]: each["pid"] for each in house.json("ps", "--all")["instances"]}


def node(house: AgentHouse) -> int | None:
    found: int | None = house.json("ps", "--all")["node"]
    return found


def test_agents_live_on_while_relit_is_upgraded(house: AgentHouse) -> None:
    before, first = pids(house), node(house)
    left = house.run("down", "--leave")
    assert left.exit_code == 0, left.output
    assert node(house) is None
    assert all(proc.start_time(pid) for pid in before.values())
    assert "no node was running" in house.run("down", "--leave").output
    house.up()
    assert node(house) not in (None, first)
    assert pids(house) == before, "the same relit"

    os.utime(specs.__file__)  # as by an installation
    house.run("down", "--leave")
    house.up()
    after = pids(house)
    assert after["tick"] == before["tick"]
    assert {name for name in after if after[name] != before[name]} >= {"server", "volumes"}


def test_a_fault_of_the_node_stops_no_agent(house: AgentHouse) -> None:
    before = pids(house)
    house.run("down", "--leave")
    flags = ["--data", str(house.data), "--config", str(house.config)]
    faulty = subprocess.run(
        [sys.executable, "-c", FAULTY, *flags, "node", "run"], cwd=house.folder, env=house.environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert faulty.returncode != 0
    assert "a fault of its own" in faulty.stderr
    assert proc.start_time(before["tick"]) is not None
    began = time.monotonic()
    house.up()
    assert pids(house)["tick"] == before["tick"]
    assert time.monotonic() - began < 30
