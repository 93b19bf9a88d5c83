"""The same, on PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from cli_house import House

from relit.testing.postgres import Postgres

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def test_everything_runs_on_postgresql_and_survives(tmp_path: Path) -> None:
    with Postgres() as database:
        house = House(tmp_path)
        house.environment["RELIT_SERVER__DATABASE"] = database.url()
        house.up()
        try:
            id = house.run("run", "clerk/count", '[8, "200ms"]', "--detach").stdout.split()[0]
            record = json.loads((house.data / "run" / "node.json").read_bytes())
            for instance in record["instances"]:
                os.kill(instance["pid"], signal.SIGKILL)
            sent = house.run("send", "clerk", "still here", "--wait", "--timeout", "30s")
            assert "STILL HERE" in sent.stdout, sent.output
            assert "completed  28" in house.run("wait", id, "--timeout", "30s").stdout
            shown = house.run("config", "show").stdout
            assert database.PASSWORD not in shown
            assert not (house.data / "relit.db").exists()
        finally:
            house.down()
