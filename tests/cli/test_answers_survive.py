"""Who follows an answer has it whole at its end, nothing twice and nothing missing, whichever process was killed in the
middle of it: on the command line and in Python, with both ways in which an agent resumes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from answering_house import AGENTS, AnsweringHouse, Follower

from relit.gateway.spool import read
from relit.testing.llm import Answer, Rule
from relit.testing.llm.ask import Ask

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

SAYS = " ".join(f"wörd{n}" for n in range(40))
OTHERWISE = SAYS.replace("wörd5", "another")
EVERY = 8  # words: then somebody is killed


def of(message: str, *, again: bool = False) -> Callable[[Ask], bool]:
    """Calls of this message; ``again``: that is marked as one that was delivered before."""
    return lambda ask: message in ask.user and (not again or "[relit: " in ask.user)


RULES = [
    Rule(of("fickle", again=True), OTHERWISE),
    Rule(of(""), Answer(SAYS, pace_s=0.005)),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnsweringHouse]:
    made = AnsweringHouse(tmp_path_factory.mktemp("answering"))
    try:
        await made.start(RULES)
        yield made
    finally:
        await made.stop()


async def followed(
    house: AnsweringHouse, text: str, *kills: tuple[str, ...], agents: tuple[str, ...] = AGENTS
) -> list[Follower]:
    """A message to each, followed twice; every eight words somebody is killed. What the followers have at last."""
    followers: list[Follower] = []
    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        with contextlib.ExitStack() as held:
            holds = [held.enter_context(house.llm.hold(of(text), after=EVERY * n)) for n in range(1, len(kills) + 1)]
            for agent in agents:
                followers += [chatting := Follower(), following := Follower()]
                sent = asyncio.get_running_loop().create_future()
                group.create_task(house.chat(agent, text, chatting, sent))
                group.create_task(house.follow(await sent, following))
            for n, killed in enumerate(kills):
                for each in followers:
                    await each.has(EVERY * (n + 1) - 1)
                    assert each.output is None, "it is in the middle"
                house.kill(*killed)
                holds[n].release()
    return followers


def goes_on(followers: list[Follower]) -> None:
    for each in followers:
        assert each.output == SAYS
        assert each.told == SAYS, "nothing twice, nothing missing"
        assert not any("restarted" in item for item in each.items)


ONE = {"agents": AGENTS, "gateway": ("gateway",), "server": ("server",), "turns": ("turns",)}
ALL = tuple(name for names in ONE.values() for name in names)


async def test_an_answer_goes_on_when_one_after_the_other_is_killed(house: AnsweringHouse) -> None:
    goes_on(await followed(house, "without them all", *ONE.values(), agents=("goes_on",)))


@pytest.mark.parametrize("killed", [*ONE.values(), ALL], ids=[*ONE, "all"])
async def test_it_goes_on_where_it_was(house: AnsweringHouse, killed: tuple[str, ...]) -> None:
    goes_on(await followed(house, f"without {killed}", killed))


async def test_another_answer_is_told_from_its_beginning(house: AnsweringHouse) -> None:
    for each in await followed(house, "fickle", ("goes_on",), agents=("goes_on",)):
        assert [item for item in each.items if "restarted" in item] == [{"restarted": 1}]
        assert each.text == each.output == OTHERWISE


async def test_what_a_killed_gateway_had_passed_on_is_counted_and_no_more(house: AnsweringHouse) -> None:
    [chatting, _] = await followed(house, "paid for", ("gateway",), agents=("goes_on",))
    async with house.client() as client:
        cut, done = await client.run_calls(chatting.run)
    assert (cut.state, done.state) == ("cut", "done")
    assert 0 < cut.output < done.output
    assert 0 < cut.cost < done.cost
    files = (house.data / "run" / "answers").iterdir()
    assert {read(each.read_bytes()) for each in files} <= {None}, "nothing is under way"
