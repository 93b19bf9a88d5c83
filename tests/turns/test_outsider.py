"""Messages through the durable engine into something that dies, comes back, and never wants one twice at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.durable.retry import Retry
from relit.durable.ticker import Ticker
from relit.durable.worker import Worker
from relit.errors import RunFailed, StoreUnavailable, TurnFailed
from relit.node.redact import Redactor
from relit.store.blobs import ObstoreBlobs
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Mailbox
from relit.turns.chat import Lost, Refused
from relit.turns.money import Shortage
from relit.turns.outsider import AGAIN, DELIVERIES, Ways, outsider

Act = Callable[[str], str]


class Toy:
    """An agent whose turns are scripted: each entry of ``script`` answers, breaks off ("…"), or raises."""

    def __init__(self, *script: str | Exception) -> None:
        self.script = list(script)
        self.heard: list[str] = []
        self.replays = self.shed = False
        self.dies: bool | None = True
        self.hides = Redactor(["hunter2 and more"], looks=False)
        self.unready: list[str] = []
        self.short: list[Shortage | None] = []  # what is said of its money, look by look
        self.looks: list[str] = []
        self.at_once = self.most = self.settles = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self.stand: asyncio.Event | None = None  # where an answer stops before its end

    async def ready(self) -> str | None:
        return self.unready.pop() if self.unready else None

    async def died(self) -> bool | None:
        return self.dies

    async def settled(self) -> None:
        self.settles += 1

    def made_room(self) -> bool:
        return self.shed

    async def shortage(self, run: str) -> Shortage | None:
        self.looks.append(run)
        return self.short.pop(0) if self.short else None

    async def mark(self) -> int:
        self.heard.append("marked")
        return 7

    async def back(self, mark: int) -> None:
        self.heard.append(f"back to {mark}")

    async def turn(self, text: str, session: str) -> AsyncIterator[str]:
        self.heard.append(f"{session}: {text}")
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.hold.wait()
            act = self.script.pop(0) if self.script else "done"
            if isinstance(act, Exception):
                raise act
            for piece in act.removesuffix("…").split(" "):
                yield piece + " "
            if self.stand is not None:
                await self.stand.wait()
            if act.endswith("…"):
                raise Lost("it went away", taken=True)
        finally:
            self.at_once -= 1


class House:
    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "relit.db")
        self.engine = Engine(self.store, Payloads(ObstoreBlobs(str(folder / "blobs"))))
        self.workers: list[Worker] = []

    async def work(self, toy: Toy, attempts: int = 3) -> Worker:
        ways = Ways(pause_s=0.01, retry=Retry(attempts=attempts, first="1ms", no_retry_on=(TurnFailed,)))
        worker = Worker(self.engine, [outsider("claw", toy, Mailbox(name="claw"), ways)])
        await worker.start()
        self.workers.append(worker)
        return worker

    async def send(self, message: Any) -> str:
        return await self.engine.start("claw", (message,))

    async def answer(self, run: str) -> Any:
        return await self.engine.result(run, timeout="20s")

    async def told(self, run: str) -> list[Any]:
        """All that its followers saw."""
        payloads = self.engine.payloads
        return [await payloads.decode(item.data, Any) for item in await self.store.stream(run)]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    await made.store.start()
    ticker = Ticker(made.store)
    await ticker.start()
    yield made
    for worker in made.workers:
        await worker.stop()
    await ticker.stop()
    assert await made.store.check() == []
    await made.store.stop()


async def test_an_answer_is_the_runs_result(house: House) -> None:
    toy = Toy("it is done")
    await house.work(toy)
    assert await house.answer(await house.send("do it")) == "it is done "
    assert toy.heard == ["main: do it"]
    assert toy.settles == 0


async def test_a_message_may_name_its_session(house: House) -> None:
    toy = Toy()
    await house.work(toy)
    await house.answer(await house.send({"text": "hi", "session": "ops-1"}))
    assert toy.heard == ["ops-1: hi"]


async def test_an_agent_that_is_not_ready_is_waited_for(house: House) -> None:
    toy = Toy()
    toy.unready = ["healing", "starting"]
    await house.work(toy)
    assert await house.answer(await house.send("hi")) == "done "


async def test_an_agent_that_dies_in_a_turn_gets_the_message_again_marked(house: House) -> None:
    toy = Toy(Lost("it went away", taken=True), "back again")
    await house.work(toy)
    assert await house.answer(await house.send("hi")) == "back again "
    assert toy.heard == ["main: hi", f"main: {AGAIN}hi"]


async def test_one_that_replays_goes_back_and_hears_the_message_as_if_for_the_first_time(house: House) -> None:
    toy = Toy(Lost("it went away", taken=True), Lost("connection refused", taken=False), "done again")
    toy.replays = True
    await house.work(toy)
    assert await house.answer(await house.send("hi")) == "done again "
    assert toy.heard == ["marked", "main: hi", "back to 7", "main: hi", "back to 7", "main: hi"]


async def test_it_goes_back_for_another_process_as_well(house: House) -> None:
    toy = Toy("told at last")
    toy.replays = True
    toy.hold.clear()
    worker = await house.work(toy)
    run = await house.send("hi")
    async with asyncio.timeout(10):
        while not toy.at_once:
            await asyncio.sleep(0.01)
    house.workers.remove(worker)
    await worker.stop()
    toy.hold.set()
    await house.work(toy)
    assert await house.answer(run) == "told at last "
    assert toy.heard == ["marked", "main: hi", "back to 7", "main: hi"]
    assert toy.settles == 0, "going back ends whatever went on"


@pytest.mark.parametrize(("status", "marked"), [(502, True), (500, True), (429, False), (503, False)])
async def test_what_failed_when_it_was_under_way_is_a_redelivery(house: House, status: int, marked: bool) -> None:
    toy = Toy(Refused(status, "its model failed"), "done")
    await house.work(toy)
    assert await house.answer(await house.send("hi")) == "done "
    assert toy.heard == ["main: hi", f"main: {AGAIN if marked else ''}hi"]


@pytest.mark.parametrize("failure", [Refused(502, "its model failed"), Refused(429, "busy"), "half…"])
async def test_each_delivery_is_another_life_of_the_turn(house: House, failure: Any) -> None:
    """Else nothing that it did would be on record for the next one: it would be bought, and sent, again."""

    class Living(Toy):
        lives: ClassVar[list[str]] = []

        async def turn(self, text: str, session: str) -> AsyncIterator[str]:
            self.lives.append((await house.store.calls.turn("claw")).life)
            async for piece in super().turn(text, session):
                yield piece

    Living.lives = []
    await house.work(Living(failure, "done"))
    assert await house.answer(await house.send("hi")) == "done "
    assert len(set(Living.lives)) == 2


async def test_a_message_that_the_agent_fails_each_time_ends(house: House) -> None:
    toy = Toy(*[Refused(500, "it cannot")] * 3)
    await house.work(toy)
    with pytest.raises(RunFailed, match="the agent failed it: HTTP status 500"):
        await house.answer(await house.send("hi"))
    assert len(toy.heard) == 3


async def test_a_message_that_was_not_taken_is_no_redelivery(house: House) -> None:
    toy = Toy(Lost("connection refused", taken=False), "now")
    await house.work(toy)
    assert await house.answer(await house.send("hi")) == "now "
    assert toy.heard == ["main: hi", "main: hi"]


async def test_a_message_that_kills_its_agent_each_time_becomes_a_dead_letter(house: House) -> None:
    toy = Toy(*[Lost("it went away", taken=True)] * DELIVERIES, "the next one")
    await house.work(toy)
    bad, good = await house.send("poison"), await house.send("fine")
    with pytest.raises(RunFailed, match="did not finish a message"):
        await house.answer(bad)
    assert (await house.store.run(bad)).state == "discarded"
    assert await house.answer(good) == "the next one "


async def test_a_message_that_an_agent_hangs_up_on_and_lives_is_tried_as_long_as_one_that_it_fails(
    house: House,
) -> None:
    """Something around it died: its gateway, for example, and it never asks twice."""
    toy = Toy(*[Lost("it went away", taken=True)] * (DELIVERIES + 1), "at last")
    toy.dies = False
    await house.work(toy, attempts=DELIVERIES + 2)
    assert await house.answer(await house.send("hi")) == "at last "
    assert toy.settles == DELIVERIES + 1


async def test_a_message_over_which_an_agent_falls_silent_each_time_is_tried_no_longer_than_a_deadly_one(
    house: House,
) -> None:
    toy = Toy(*[Lost("it said nothing for 15m", taken=True, mute=True)] * DELIVERIES)
    toy.dies = False
    await house.work(toy, attempts=DELIVERIES + 2)
    with pytest.raises(RunFailed, match="the agent was lost: it said nothing for 15m"):
        await house.answer(await house.send("hi"))
    assert toy.settles == DELIVERIES


async def test_an_agent_of_which_nobody_knows_whether_it_died_may_have_died_of_it(house: House) -> None:
    toy = Toy(*[Lost("it went away", taken=True)] * DELIVERIES)
    toy.dies = None
    await house.work(toy)
    with pytest.raises(RunFailed, match="the agent was lost"):
        await house.answer(await house.send("hi"))
    assert toy.settles == DELIVERIES, "it may work on it all the same"


async def test_a_message_whose_agent_makes_room_for_others_is_no_dead_letter(house: House) -> None:
    toy = Toy(*[Lost("it was killed", taken=True)] * 2, "at last")
    toy.shed = True
    await house.work(toy)
    assert await house.answer(await house.send("hi")) == "at last "


async def test_a_passing_trouble_is_tried_again_and_a_refusal_is_not(house: House) -> None:
    toy = Toy(Refused(503, "overloaded"), "then", Refused(400, "too long"))
    await house.work(toy)
    assert await house.answer(await house.send("one")) == "then "
    with pytest.raises(RunFailed, match="refused"):
        await house.answer(await house.send("two"))
    assert len(toy.heard) == 3


async def test_a_message_waits_while_its_budget_is_spent_and_no_failure_is_counted(house: House) -> None:
    broke = Refused(402, "the budget is spent")
    toy = Toy(*[broke] * 9, "paid")
    toy.short = [Shortage(f"c{number // 3}", "no money", 2 - number % 3) for number in range(27)]
    await house.work(toy)
    run = await house.send("do it")
    assert await house.answer(run) == "paid "
    assert toy.looks == [run] * 27
    assert len(toy.heard) == 10
    told = await house.told(run)
    assert told[:2] == [{"waiting": "no money"}, {"redelivered": 2}]
    assert told[-1] == {"text": "paid "}


async def test_an_agent_that_fails_without_asking_for_more_has_failed(house: House) -> None:
    """Some ask nothing for a while after they were refused; some have another trouble."""
    toy = Toy(*[Refused(402, "the budget is spent")] * 9)
    toy.short = [Shortage("c", "no money")] * 9
    await house.work(toy)
    with pytest.raises(RunFailed, match="did not finish a message"):
        await house.answer(await house.send("do it"))
    assert len(toy.heard) == 1 + 3


async def test_failures_from_before_it_had_to_wait_for_money_count_no_more(house: House) -> None:
    toy = Toy(*[Refused(402, "the budget is spent")] * 8, "paid")
    toy.short = [Shortage(call, "no money") for call in "aaabbbbccccddd"]
    await house.work(toy)
    assert await house.answer(await house.send("do it")) == "paid "


async def test_a_message_that_no_days_budget_can_pay_ends_and_says_so(house: House) -> None:
    toy = Toy(Refused(402, "the budget is spent"))
    toy.short = [Shortage("c", "more than a day's", hopeless=True)]
    await house.work(toy)
    with pytest.raises(RunFailed, match="cannot pay for a message"):
        await house.answer(await house.send("do it"))
    assert len(toy.heard) == 1


async def test_one_message_at_a_time_in_order(house: House) -> None:
    toy = Toy("a", "b", "c")
    await house.work(toy)
    runs = [await house.send(text) for text in ("1", "2", "3")]
    assert [await house.answer(run) for run in runs] == ["a ", "b ", "c "]
    assert toy.heard == ["main: 1", "main: 2", "main: 3"]
    assert toy.most == 1


async def test_one_that_may_work_on_is_settled_before_the_message_comes_again(house: House) -> None:
    """It went away, and perhaps only its connection did."""
    toy = Toy("half an…", "done")
    toy.dies = False
    await house.work(toy)
    assert await house.answer(await house.send("do it")) == "done "
    assert toy.settles == 1
    assert toy.heard == ["main: do it", f"main: {AGAIN}do it"]


async def begun(house: House, toy: Toy) -> str:
    """A run whose message the agent has heard."""
    run = await house.send("hi")
    async with asyncio.timeout(20):
        while not toy.heard:
            await asyncio.sleep(0.01)
    return run


async def test_another_worker_settles_what_the_dead_one_began(house: House) -> None:
    """The step was begun by another process: its caller is gone, and the agent may still be at it."""
    toy = Toy("first", "second")
    toy.hold.clear()
    worker = await house.work(toy)
    run = await begun(house, toy)
    await worker.stop()
    toy.hold.set()
    await house.work(toy)
    assert await house.answer(run) in ("first ", "second ")
    assert toy.settles == 1
    assert toy.heard == ["main: hi", f"main: {AGAIN}hi"]
    assert toy.most == 1


@pytest.mark.parametrize(
    "trouble", [*(Refused(status, "busy") for status in (409, 425, 429, 503)), Lost("connection refused", taken=False)]
)
@pytest.mark.parametrize("replays", [False, True])
async def test_what_a_dead_worker_began_is_a_redelivery_also_after_it_was_turned_away(
    house: House, trouble: Exception, replays: bool
) -> None:
    toy = Toy("never heard", trouble, trouble, "done")
    toy.replays = replays
    toy.stand = asyncio.Event()
    worker = await house.work(toy)
    run = await house.send("hi")
    async with asyncio.timeout(20):
        while not await house.told(run):
            await asyncio.sleep(0.01)
    house.workers.remove(worker)
    await worker.stop()
    toy.stand = None
    await house.work(toy)
    assert await house.answer(run) == "done "
    marked, back = f"main: {AGAIN}hi", ["back to 7", "main: hi"]
    assert toy.heard == (["marked", "main: hi", *back * 3] if replays else ["main: hi", *[marked] * 3])
    numbers = [item["redelivered"] for item in await house.told(run) if "redelivered" in item]
    assert numbers == ([1, 1, 1] if isinstance(trouble, Lost) else [1, 2, 2])
    assert toy.settles == (0 if replays else 1)


async def test_a_worker_that_lost_its_lease_settles_what_it_began_itself(house: House) -> None:
    """Its process lives on, and takes the run again: the agent may still be at it."""
    toy = Toy("first", "second")
    toy.hold.clear()
    worker = await house.work(toy)
    run = await begun(house, toy)
    await house.store.leave(worker.id)
    async with asyncio.timeout(20):
        while len(toy.heard) < 2:
            await asyncio.sleep(0.01)
    toy.hold.set()
    assert await house.answer(run) in ("first ", "second ")
    assert toy.settles == 1
    assert toy.heard == ["main: hi", f"main: {AGAIN}hi"]


@pytest.mark.parametrize(("trouble", "settles"), [(Lost("it went away", taken=True), 2), (Refused(502, "no"), 0)])
async def test_what_cannot_be_told_of_a_delivery_at_once_leaves_it_a_delivery(
    house: House, trouble: Exception, settles: int
) -> None:
    """What is asked after it may fail, a store that is away for example: the step is tried again then."""

    class Failing(Toy):
        fails = True

        async def settled(self) -> None:
            await super().settled()
            self.fail()

        async def shortage(self, run: str) -> Shortage | None:
            self.fail()
            return None

        def fail(self) -> None:
            if self.fails:
                self.fails = False
                raise StoreUnavailable("the store does not answer")

    toy = Failing(trouble, "done")
    toy.dies = False
    await house.work(toy)
    assert await house.answer(await house.send("hi")) == "done "
    assert toy.heard == ["main: hi", f"main: {AGAIN}hi"]
    assert toy.settles == settles


@pytest.mark.parametrize(
    ("again", "told"),
    [
        ("one two three", [{"text": "three "}]),
        ("one four", [{"restarted": 1}, {"text": "one four "}]),
        ("one", [{"restarted": 1}, {"text": "one "}]),
    ],
)
async def test_of_an_answer_that_comes_again_only_what_is_new_is_told(
    house: House, again: str, told: list[Any]
) -> None:
    await house.work(Toy("one two…", again))
    run = await house.send("hi")
    assert await house.answer(run) == f"{again} "
    assert await house.told(run) == [{"text": "one "}, {"text": "two "}, {"redelivered": 2}, *told]


async def test_another_attempt_of_a_delivery_goes_on_as_well(house: House) -> None:
    await house.work(Toy("one two…", Refused(502, "its model failed"), Refused(429, "busy"), "one two three"))
    run = await house.send("hi")
    assert await house.answer(run) == "one two three "
    items = await house.store.stream(run)
    assert {item.attempt for item in items} == {1}, "a higher one tells followers to forget what they have"
    assert "".join(item.get("text", "") for item in await house.told(run)) == "one two three "


async def test_another_process_knows_what_the_dead_one_has_told(house: House) -> None:
    toy = Toy("one two", "one two three")
    toy.stand = asyncio.Event()
    worker = await house.work(toy)
    run = await house.send("hi")
    async with asyncio.timeout(20):
        while await house.told(run) != [{"text": "one "}, {"text": "two "}]:
            await asyncio.sleep(0.01)
    house.workers.remove(worker)
    await worker.stop()
    toy.stand = None
    await house.work(toy)
    assert await house.answer(run) == "one two three "
    assert (await house.told(run))[2:] == [{"redelivered": 1}, {"text": "three "}]


@pytest.mark.parametrize("message", [7, None, {"txt": "hi"}, {"text": "hi", "session": "../x"}, {"text": 3}])
async def test_what_is_no_message_is_refused_with_what_would_be_one(house: House, message: Any) -> None:
    await house.work(Toy())
    with pytest.raises(RunFailed, match="no message for this agent"):
        await house.answer(await house.send(message))


async def test_no_secret_of_the_agent_is_told_or_kept(house: House) -> None:
    await house.work(Toy("it is hunter2 and more or hunter2 and", "no: hunter2 and more"))
    run = await house.send("say it")
    assert await house.answer(run) == "it is [redacted:secret] or hunter2 and "
    told = [each["text"] for each in await house.told(run)]
    assert told == ["it ", "is ", "[redacted:secret] ", "or ", "hunter2 and "]


async def test_why_an_agent_failed_shows_no_secret_either(house: House) -> None:
    await house.work(Toy(Refused(400, "no access with hunter2 and more")))
    with pytest.raises(RunFailed) as caught:
        await house.answer(await house.send("do it"))
    assert "no access with [redacted:secret]" in str(caught.value.why)
