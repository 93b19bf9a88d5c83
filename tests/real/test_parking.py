"""Real agents that are idle stand still in swap, and answer their next message as if nothing had been."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_house import RealHouse, about

from relit.lib.footprint import Forest, look
from relit.testing.llm import Rule
from swap_files import swap_file

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]
FROZEN_MB = 60  # of an OpenClaw that held 1.3 GB


def held_mb(pid: int) -> float:
    """Its own share of memory, with all its processes."""
    smaps = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in Forest(look()).members(pid)]
    lines = [line for text in smaps for line in text.splitlines() if line.startswith("Pss:")]
    return sum(int(line.split()[1]) for line in lines) / 1024


@pytest.mark.parametrize("kind", ["openclaw", "hermes"])
async def test_an_idle_one_is_frozen_and_its_next_message_lets_it_go_on(
    tmp_path: Path, runtimes: Path, kind: str
) -> None:
    house = RealHouse(tmp_path, runtimes, {"one": kind}, [Rule(about("hello"), "Hi.")])
    with swap_file(tmp_path, 4 << 30):
        try:
            await house.start()
            idle = 'idle = { then = "freeze", after = "5s" }'
            config = house.config().replace(f'kind = "{kind}"\n', f'kind = "{kind}"\n{idle}\n')
            (tmp_path / "relit.toml").write_text(config)
            await house.relit("up", "--timeout", "300s", timeout=360)
            await house.ready("one")
            assert (await house.answer(await house.send("one", "hello"))).strip() == "Hi."
            for _ in range(2):
                pid = int(house.status("one")["pid"])
                await house.until(lambda: house.status("one")["state"] == "frozen", "it to be frozen")
                await house.until(lambda: held_mb(pid) <= FROZEN_MB, "its memory to be free", timeout=30)  # noqa: B023
                assert (await house.answer(await house.send("one", "hello again"))).strip() == "Hi."
                assert house.status("one")["pid"] == pid
            assert house.incidents("one") == []
        finally:
            await house.stop()
