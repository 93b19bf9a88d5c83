"""A spent budget is no answer and no failure of a message: it waits until there is money again."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import pytest
from real_house import RealHouse, about

from relit.store.sql.calls import USD
from relit.testing.llm import Rule

pytestmark = [pytest.mark.real, pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(900)]
PRICES = "[prices.m]\ninput = 100.0\noutput = 0.01\n"


def calls(house: RealHouse) -> list[tuple[str, int, int]]:
    """State, reserve and cost of all, in their order."""
    with sqlite3.connect(f"file:{house.data / 'relit.db'}?mode=ro", uri=True) as rows:
        return rows.execute("SELECT state, reserved, cost FROM calls ORDER BY started_at, id").fetchall()


def told(house: RealHouse, run: str) -> str:
    with sqlite3.connect(f"file:{house.data / 'relit.db'}?mode=ro", uri=True) as rows:
        return str(rows.execute("SELECT data FROM stream WHERE run = ?", (run,)).fetchall())


async def allow(house: RealHouse, usd: float) -> None:
    """The budget of the one agent, which stands last in the file; until it counts."""
    file, before = house.folder / "relit.toml", {name: house.status(name)["pid"] for name in ("gateway", "turns")}
    text = file.read_text().partition("budget")[0]
    file.write_text(f'{text}budget = {{ day = "{usd:.6f} USD" }}\n')
    await house.relit("up", timeout=360)
    for name, pid in before.items():
        await house.ready(name, not_pid=pid)


@pytest.mark.parametrize("house", ["openclaw", "hermes"], indirect=True)
async def test_a_message_waits_for_its_budget(house: RealHouse) -> None:
    house.llm.rules[:] = [Rule(about("capital"), "It is Paris."), Rule(about("river"), "It is the Seine.")]
    await house.ready("one")
    file = house.folder / "relit.toml"
    file.write_text(PRICES + file.read_text())
    await allow(house, 1000)
    assert await house.answer(await house.send("one", "Which capital?")) == "It is Paris."

    made = calls(house)
    spent, most = sum(cost for _, _, cost in made), max(reserved for _, reserved, _ in made)
    await allow(house, (most + spent / 2) / USD)
    run = await house.send("one", "Which river?")
    await house.until(lambda: calls(house)[-1][0] == "refused", "a call that is refused")
    async with asyncio.timeout(120):
        while json.loads(await house.relit("show", run, "--json"))["run"]["state"] != "waiting":
            await asyncio.sleep(0.5)
    assert not [each for each in house.llm.requests if about("river")(each.ask)]

    await allow(house, 1000)
    if house.agents["one"] == "openclaw":  # it asks its model nothing for ten minutes after a refusal
        await house.until(lambda: told(house, run).count("redelivered"), "it is delivered again")
        return
    assert "the Seine" in await house.answer(run)
