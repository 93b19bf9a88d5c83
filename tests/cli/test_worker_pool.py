"""As many workers as there is work, as a user has them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_house import House

CLERK = '''
import os
import time

import relit


@relit.agent(name="clerk")
async def clerk(ctx: relit.Context, message: str) -> str:
    """Takes a moment for each."""

    def work(text: str) -> str:
        time.sleep(0.5)
        return f"{text} {os.getpid()}"

    return await ctx.step(work, message)
'''


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    (tmp_path / "desk.py").write_text(CLERK)
    (tmp_path / "relit.toml").write_text(
        '[worker]\nconcurrency = 1\n[agents.clerk]\nentry = "desk:clerk"\n'
        "pool = { min = 0, max = 3 }\nmailbox = { concurrency = 9 }\n"
    )
    made.environment["RELIT_CONFIG"] = str(tmp_path / "relit.toml")
    try:
        yield made
    finally:
        made.down()


def up(house: House) -> list[str]:
    record = json.loads((house.data / "run" / "node.json").read_bytes())
    named = [each for each in record["instances"] if each["name"].startswith("clerk")]
    return [each["name"] for each in named if each["state"] == "ready"]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_messages_bring_workers_and_each_is_answered(house: House) -> None:
    done = house.spawn("up", "--timeout", "60s", timeout=90)
    assert done.returncode == 0, done.stderr
    assert up(house) == []
    runs = [str(house.json("send", "clerk", f"letter-{number}")["id"]) for number in range(24)]
    until = time.monotonic() + 60
    while len(up(house)) < 3:
        assert time.monotonic() < until, up(house)
        time.sleep(0.1)
    answers = [house.json("wait", run, "--timeout", "100s")["output"].split() for run in runs]
    assert [words[0] for words in answers] == [f"letter-{number}" for number in range(24)]
    assert len({words[1] for words in answers}) > 1
