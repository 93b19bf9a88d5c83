"""What must hold for both real agents at every commit: start, answer, one kill in a turn, one broken configuration."""

from __future__ import annotations

import pytest
from real_house import RealHouse, about

from relit.testing.llm import Rule

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(900)]
CONFIG = {"openclaw": "state/openclaw.json", "hermes": "home/config.yaml"}
both = pytest.mark.parametrize("house", CONFIG, indirect=True)


@both
async def test_it_answers_and_survives_a_kill_in_a_turn_and_a_broken_configuration(house: RealHouse) -> None:
    house.llm.rules[:] = [Rule(about("capital"), "It is Paris."), Rule(about("river"), "It is the Seine.")]
    pid = await house.ready("one")
    assert await house.answer(await house.send("one", "Which capital?")) == "It is Paris."
    await house.known_good("one")

    with house.llm.hold(about("river")) as hold:
        run = await house.send("one", "Which river?")
        await hold.caught(timeout=120)
        house.kill(pid)
        pid = await house.ready("one", not_pid=pid)
    assert "the Seine" in await house.answer(run)

    kind = house.agents["one"]
    (house.home("one") / CONFIG[kind]).write_text("{ broken: [")
    seen = len(house.entries("one"))
    house.kill(pid)
    done = [each for each in await house.healed("one", seen) if each.took_ms is not None]
    assert [each.what.partition(":")[0] for each in done] == ["put its configuration back"]
    await house.ready("one", not_pid=pid)
    assert await house.answer(await house.send("one", "Which capital again?")) == "It is Paris."
