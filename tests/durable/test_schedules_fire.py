"""Schedules in a store: fired once, whoever looks."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import pytest
from durable_house import House

from relit.durable import schedule
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.durable.schedule import parse
from relit.durable.scheduler import Scheduler
from relit.errors import ConfigError, NotFound
from relit.store.values import Mailbox, Schedule

HOURLY = parse({"every": "1h", "jitter": "0s"})


async def made_due(house: House, name: str, ago_ms: int) -> Schedule:
    """Pretend that the schedule's next moment lay so long ago (as after a time without any scheduler)."""
    row = next(row for row in await house.store.schedules() if row.name == name)
    due = schedule.next_after(parse(row.spec), name, await house.store.now_ms() - ago_ms)
    await house.store.put_schedule(msgspec.structs.replace(row, next_at=due))
    return next(row for row in await house.store.schedules() if row.name == name)


async def outcomes(house: House, name: str) -> list[str]:
    return [firing.outcome for firing in reversed(await house.store.firings(name))]


async def test_a_due_schedule_makes_a_message(house: House) -> None:
    scheduler = Scheduler(house.engine)
    await scheduler.add("beat", "a", parse({"every": "1s"}), ["Look around."])
    await scheduler.start()
    async with asyncio.timeout(10):
        while not (runs := await house.store.runs(schedule="beat")):
            await asyncio.sleep(0.02)
    await scheduler.stop()
    await scheduler.stop()
    assert runs[0].target == "a/message"
    assert runs[0].kind == "schedule"
    assert runs[0].mailbox == "a"
    assert (await house.engine.payloads.decode(runs[0].input, Any))["args"] == ["Look around."]


async def test_two_schedulers_fire_each_moment_once(house: House) -> None:
    await Scheduler(house.engine).add("beat", "a/work", parse({"every": "1s", "missed": "all", "overlap": "allow"}))
    await made_due(house, "beat", 8_000)
    others = [Scheduler(Engine(house.store, Payloads())) for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        for each in others:
            group.create_task(each.tick())
    firings = await house.store.firings("beat")
    assert len({firing.due_at for firing in firings}) == len(firings) >= 8
    assert len(await house.store.runs(schedule="beat")) == len(firings)


async def test_a_stale_look_fires_nothing(house: House) -> None:
    scheduler = Scheduler(house.engine)
    await scheduler.add("beat", "a/work", HOURLY)
    row = await made_due(house, "beat", 3_600_000)
    now = await house.store.now_ms()
    await scheduler.tick()
    await scheduler._move(row, now)
    assert len(await house.store.firings("beat")) == 1


async def test_missed_firings_are_recorded(house: House) -> None:
    scheduler = Scheduler(house.engine)
    await scheduler.add("beat", "a/work", parse({"every": "1h", "jitter": "0s"}))
    await made_due(house, "beat", 4 * 3_600_000)
    await scheduler.tick()
    assert await outcomes(house, "beat") == ["missed", "missed", "missed", "fired"]
    events = await house.store.events(names=["schedule.missed"])
    assert len(events) == 3


async def test_an_unfinished_run_is_in_the_way(house: House) -> None:
    scheduler = Scheduler(house.engine)
    await scheduler.add("beat", "a/work", HOURLY)
    busy = await scheduler.trigger("beat")
    await made_due(house, "beat", 3_600_000)
    await scheduler.tick()
    [skipped] = [firing for firing in await house.store.firings("beat") if firing.outcome == "skipped"]
    assert busy in str(skipped.reason)


async def test_a_new_firing_replaces_the_unfinished_run(house: House) -> None:
    scheduler = Scheduler(house.engine)
    await scheduler.add("beat", "a/work", parse({"every": "1h", "jitter": "0s", "overlap": "cancel"}))
    busy = await scheduler.trigger("beat")
    await made_due(house, "beat", 3_600_000)
    await scheduler.tick()
    assert (await house.store.run(busy)).state == "cancelled"
    assert "replaced" in await outcomes(house, "beat")


async def test_queued_runs_of_a_workflow_start_one_after_another(house: House) -> None:
    scheduler = Scheduler(house.engine)
    await scheduler.add("beat", "a/work", parse({"every": "1h", "jitter": "0s", "overlap": "queue", "missed": "all"}))
    await made_due(house, "beat", 3 * 3_600_000)
    await scheduler.tick()
    assert await outcomes(house, "beat") == ["fired", "queued", "queued"]
    [stats] = [each for each in await house.store.mailboxes() if each.mailbox.name == "schedule:beat"]
    assert (stats.active, stats.queued) in ((1, 2), (1, 3))


async def test_a_full_mailbox_skips_the_firing_and_says_so(house: House) -> None:
    scheduler = Scheduler(house.engine)
    await house.store.configure_mailbox(Mailbox(name="a", depth=1))
    await house.engine.send("a", "first")
    await scheduler.add("beat", "a", HOURLY, ["m"])
    await made_due(house, "beat", 3_600_000)
    await scheduler.tick()
    [firing] = await house.store.firings("beat")
    assert firing.outcome == "skipped"
    assert firing.reason


async def test_adding_the_same_again_forgets_nothing(house: House) -> None:
    scheduler = Scheduler(house.engine)
    await scheduler.add("beat", "a/work", HOURLY, ["x"])
    due = await made_due(house, "beat", 2 * 3_600_000)
    assert await scheduler.add("beat", "a/work", HOURLY, ["x"]) == due
    changed = await scheduler.add("beat", "a/work", HOURLY, ["y"])
    assert changed.next_at == due.next_at


async def test_a_changed_spec_settles_the_old_one_first(house: House) -> None:
    scheduler = Scheduler(house.engine)
    await scheduler.add("beat", "a/work", HOURLY)
    await made_due(house, "beat", 2 * 3_600_000)
    changed = await scheduler.add("beat", "a/work", parse({"every": "7d"}))
    assert await outcomes(house, "beat") == ["missed", "fired"]
    assert changed.next_at is not None
    assert changed.next_at > await house.store.now_ms()


async def test_a_paused_schedule_is_quiet_and_misses_nothing(house: House) -> None:
    scheduler = Scheduler(house.engine)
    await scheduler.add("beat", "a/work", parse({"every": "1s"}))
    paused = await scheduler.pause("beat")
    assert paused.paused
    assert await scheduler.tick() is None
    resumed = await scheduler.resume("beat")
    assert not resumed.paused
    assert resumed.next_at is not None
    assert await house.store.firings("beat") == []


async def test_a_paused_schedule_stays_paused_when_changed(house: House) -> None:
    scheduler = Scheduler(house.engine)
    await scheduler.add("beat", "a/work", HOURLY)
    await scheduler.pause("beat")
    assert (await scheduler.add("beat", "a/work", parse({"every": "2h"}))).paused
    assert await scheduler.tick() is None


async def test_trigger_makes_a_run_now_and_leaves_the_beat(house: House) -> None:
    scheduler = Scheduler(house.engine)
    before = await scheduler.add("beat", "a/work", HOURLY)
    run = await scheduler.trigger("beat")
    assert (await house.store.run(run)).schedule == "beat"
    assert (await scheduler.get("beat")).next_at == before.next_at


async def test_a_removed_schedule_is_gone(house: House) -> None:
    scheduler = Scheduler(house.engine)
    await scheduler.add("beat", "a/work", HOURLY)
    await scheduler.remove("beat")
    for operation in (scheduler.get, scheduler.pause, scheduler.resume, scheduler.trigger, scheduler.remove):
        with pytest.raises(NotFound):
            await operation("beat")


async def test_a_damaged_row_stops_only_itself(house: House, caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler(house.engine)
    await house.store.put_schedule(Schedule(name="bad", agent="a", workflow="w", input=b"", spec=b"{}", next_at=1))
    await scheduler.add("good", "a/work", HOURLY)
    await made_due(house, "good", 3_600_000)
    with caplog.at_level(logging.ERROR):
        await scheduler.tick()
    assert await outcomes(house, "good") == ["fired"]
    assert "bad does not fire" in caplog.text


async def test_a_spec_that_makes_no_sense_changes_nothing(house: House) -> None:
    with pytest.raises(ConfigError):
        await Scheduler(house.engine).add("beat", "a", schedule.Spec())
    assert await house.store.schedules() == []
