"""A whole relit tells of a trouble that its node reports, through what relit.toml names."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import msgspec
import pytest
from cli_house import House

from relit.testing.sink import Served, Sink


def arrived(sink: Sink, count: int) -> list[dict[str, object]]:
    """What came, once so many posts have come, or nothing will."""
    deadline = time.monotonic() + 40
    while len(sink.requests) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return [msgspec.json.decode(each.body) for each in sink.requests]


@pytest.mark.slow
def test_an_agent_that_cannot_start_again_is_told(tmp_path: Path) -> None:
    house, sink = House(tmp_path), Sink()
    broken = tmp_path / "broken"
    with Served(sink.app) as url:
        (tmp_path / "relit.toml").write_text(
            "[agents.ada]\nkind = 'command'\nsandbox = 'off'\n"
            f"command = ['sh', '-c', 'test ! -e {broken} && exec sleep 1000; exit 1']\n"
            f"[alerts.webhooks.sink]\nurl = '{url}/'\n"
        )
        house.up()
        try:
            broken.touch()
            [ada] = [each for each in house.json("ps")["instances"] if each["name"] == "ada"]
            os.kill(ada["pid"], signal.SIGKILL)
            [opened, *_] = arrived(sink, 1)
            assert opened["type"] == "alert.opened"
            assert "ada: it failed, and nothing that relit may do by itself has helped" in str(opened["subject"])
            shown = house.run("incidents")
            assert shown.exit_code == 3, shown.output
            assert "ada" in shown.stdout
            page = house.run("why", "ada")
            assert page.exit_code == 3
            assert "## Timeline" in page.stdout
        finally:
            house.down()
