"""Alerts, to real receivers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import standardwebhooks

from relit.api.webhooks import sign
from relit.durable.alerting import Policy
from relit.durable.alerts import Alerts
from relit.durable.channels import Apprise, Channel, Style, Told, Webhook
from relit.durable.notices import Notice
from relit.lib.clock import SYSTEM_CLOCK
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Alert, Incident
from relit.testing.sink import Served, Sink

SECRET = "whsec_" + "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"
T0 = 1_800_000_000_000
HOUR = 3_600_000
AWAY = "http://127.0.0.1:9/"
DOCUMENT = b'{"id": "i1", "agent": "ada", "opened_ms": 1, "cause": "exit code 1", "log": ["secret"]}'


class Moved:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.offset = 0

    def now_ms(self) -> int:
        return SYSTEM_CLOCK.now_ms() + self.offset

    def boot_ms(self) -> int:
        return SYSTEM_CLOCK.boot_ms() + self.offset

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic()


class Desk:
    """A store, a receiver, and those who tell."""

    def __init__(self, store: SqliteStore, url: str, sink: Sink, clock: Moved) -> None:
        self.store, self.url, self.sink, self.clock = store, url, sink, clock
        self.running: list[Alerts] = []

    def hook(self, name: str = "hook", path: str = "/", style: Style = "plain", **more: Any) -> Webhook:
        given = {"url": self.url + path, "secret": lambda: SECRET, "sign": sign}
        return Webhook(name, style=style, **(given | more))

    async def tell(self, *channels: Channel, **policy: Any) -> Alerts:
        made = Alerts(
            self.store,
            channels or [self.hook()],
            Policy(**({"settle_ms": 0} | policy)),
            chance=Random(1),
            first_s=0.02,
            most_s=0.1,
        )
        self.running.append(made)
        await made.start()
        return made

    async def stop(self) -> None:
        for each in self.running:
            await each.stop()
            await each.stop()
        self.running.clear()

    async def trouble(self, id: str = "i1", **fields: Any) -> None:
        given = {"id": id, "agent": "ada", "instance": "ada", "opened_at": T0, "severity": "warning", "title": "died",
                 "document": DOCUMENT}  # fmt: skip
        await self.store.put_incident(Incident(**(given | fields)))

    def got(self, path: str = "/") -> list[dict[str, Any]]:
        return [msgspec.json.decode(each.body) for each in self.sink.requests if each.path == path]

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not true():
                await asyncio.sleep(0.01)

    async def rows(self, *states: str) -> list[Alert]:
        return [each for each in await self.store.alerts() if not states or each.state in states]

    async def until_rows(self, count: int, *states: str) -> list[Alert]:
        async with asyncio.timeout(30):
            while len(found := await self.rows(*states)) != count:
                await asyncio.sleep(0.01)
            return found

    async def until_noted(self, *kinds: str) -> None:
        """Until the events say that alerts of these kinds were taken."""
        async with asyncio.timeout(30):
            while [event.data["kind"] for event in await self.store.events(names=["alert.sent"])] != [*kinds]:
                await asyncio.sleep(0.01)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    clock = Moved()
    store, sink = SqliteStore(tmp_path / "relit.db", clock=clock), Sink()
    await store.start()
    with Served(sink.app) as url:
        made = Desk(store, url, sink, clock)
        yield made
        await made.stop()
    await store.stop()


async def test_a_trouble_is_told_and_its_end_too_each_once(desk: Desk) -> None:
    await desk.tell()
    await desk.trouble()
    await desk.until(lambda: len(desk.got()) == 1)
    await desk.until_rows(1, "sent")
    await desk.until_noted("opened")
    await desk.stop()
    await desk.tell()  # a server that starts again tells nothing again
    await desk.trouble(rev=2, resolved_at=T0 + 9)
    await desk.until(lambda: len(desk.got()) == 2)
    await desk.until_rows(0)
    first, last = desk.got()
    assert [(each["type"], each["subject"]) for each in (first, last)] == [
        ("alert.opened", "WARNING died"),
        ("alert.resolved", "RESOLVED died"),
    ]
    assert first["key"] == last["key"] == "i1"
    assert first["incidents"][0]["cause"] == "exit code 1"
    assert "secret" not in str(first), "what an agent wrote stays on the machine"
    for request in desk.sink.requests:
        assert (
            standardwebhooks.Webhook(SECRET).verify(request.body, request.headers)["id"]
            == request.headers["webhook-id"]
        )
    await desk.until_noted("opened", "resolved")


async def test_what_was_there_before_the_server_is_told(desk: Desk) -> None:
    await desk.trouble("old", resolved_at=T0 + 1)
    await desk.trouble("i1")
    await desk.trouble("i2", severity="info")
    await desk.tell()
    await desk.until_rows(1, "sent")
    assert [each["key"] for each in desk.got()] == ["i1"]


async def test_a_pager_hears_of_one_incident_under_one_key(desk: Desk) -> None:
    await desk.tell(desk.hook(style="pagerduty", secret=lambda: "R0UT1NG"))
    await desk.trouble()
    await desk.until_rows(1, "sent")
    await desk.trouble(rev=2, severity="critical", rung=4)
    await desk.until_rows(2, "sent")
    await desk.trouble(rev=3, severity="critical", rung=4, resolved_at=T0 + 1)
    await desk.until_rows(0)
    assert [(each["event_action"], each["dedup_key"], each["routing_key"]) for each in desk.got()] == [
        ("trigger", "i1", "R0UT1NG"),
        ("trigger", "i1", "R0UT1NG"),
        ("resolve", "i1", "R0UT1NG"),
    ]
    payload = desk.got()[1]["payload"]
    assert (payload["severity"], payload["source"], payload["summary"]) == ("critical", "ada", "CRITICAL (worse) died")
    assert payload["timestamp"] == "2027-01-15T08:00:00.000Z"


async def test_a_channel_that_fails_holds_up_no_other_and_is_tried_until_it_takes_it(desk: Desk) -> None:
    desk.sink.status = 500
    good = Sink()
    with Served(good.app) as url:
        await desk.tell(desk.hook("bad"), Webhook("good", url + "/", "plain", lambda: "", sign))
        await desk.trouble()
        await desk.until(lambda: len(good.requests) == 1 and len(desk.got()) >= 3)
        assert "webhook-signature" not in good.requests[0].headers
        [waits] = await desk.until_rows(1, "sending")
        assert "it answered 500" in waits.why
        desk.sink.status = 202
        await desk.until_rows(2, "sent")
    assert len({each.headers["webhook-id"] for each in desk.sink.requests}) == 1
    failed = await desk.store.events(names=["alert.failed"])
    assert [(each.data["channel"], each.data["kind"]) for each in failed] == [("bad", "opened")]


async def test_what_nobody_took_is_not_told_when_it_is_over(desk: Desk) -> None:
    await desk.tell(desk.hook(url=AWAY))
    await desk.trouble()
    async with asyncio.timeout(20):
        while not any(each.tries > 1 for each in await desk.rows()):
            await asyncio.sleep(0.01)
    await desk.trouble(rev=2, resolved_at=T0 + 1)
    await desk.until_rows(0)
    assert await desk.store.events(names=["alert.sent"]) == []


async def test_one_cause_is_told_once_with_all_who_suffer(desk: Desk) -> None:
    await desk.tell(gather_ms=400)
    for n in range(7):
        await desk.trouble(f"i{n}", agent=f"agent{n}", group="oom", opened_at=T0 + n)
    await desk.until_rows(1, "sent")
    [told] = desk.got()
    assert [each["agent"] for each in told["incidents"]] == [f"agent{n}" for n in range(7)]
    assert told["subject"] == "WARNING 7 agents (agent0, agent1, agent2, agent3, agent4 and 2 more), as died"
    for n in range(7):
        await desk.trouble(f"i{n}", agent=f"agent{n}", group="oom", rev=2, resolved_at=T0 + 9)
    await desk.until_rows(0)
    assert [each["type"] for each in desk.got()] == ["alert.opened", "alert.resolved"]


async def test_a_trouble_that_stays_critical_is_told_again(desk: Desk) -> None:
    await desk.tell()
    await desk.trouble(severity="critical")
    await desk.until_rows(1, "sent")
    for count in (2, 3):
        desk.clock.offset += 4 * HOUR
        await desk.trouble(severity="critical")  # its node reports it again
        await desk.until_rows(count, "sent")
    assert [each["type"] for each in desk.got()] == ["alert.opened", "alert.again", "alert.again"]
    assert "(still open)" in desk.got()[2]["subject"]


async def test_several_servers_tell_each_trouble_once(desk: Desk) -> None:
    for _ in range(4):
        await desk.tell()
    for n in range(5):
        await desk.trouble(f"i{n}")
        await asyncio.sleep(0.02)
    await desk.until_rows(5, "sent")
    assert sorted(each["key"] for each in desk.got()) == [f"i{n}" for n in range(5)]


class Broken:
    """A channel with a fault of ours."""

    name = "hook"

    async def tell(self, notice: Notice) -> Told:
        raise ZeroDivisionError(notice.key)


async def test_a_fault_of_ours_ends_nothing(desk: Desk) -> None:
    ended: list[BaseException] = []
    alerts = Alerts(desk.store, [Broken()], Policy(settle_ms=0), on_failure=ended.append, first_s=0.02, most_s=0.1)
    desk.running.append(alerts)
    await alerts.start()
    await desk.trouble("i1")
    await desk.trouble("i2")
    async with asyncio.timeout(20):
        while sorted(each.tries > 1 for each in await desk.rows()) != [True, True]:
            await asyncio.sleep(0.01)
    assert "ZeroDivisionError" in (await desk.rows())[0].why
    assert ended == []


class Mute:
    """A channel whose answer never comes; ``ends`` ends it."""

    name = "hook"

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.ends = asyncio.Event()

    async def tell(self, notice: Notice) -> Told:
        self.notices.append(notice)
        await self.ends.wait()
        return Told("unknown", "no answer in time")


async def test_what_may_have_arrived_is_told_again_under_the_same_id_and_so_is_its_end(desk: Desk) -> None:
    mute = Mute()
    await desk.tell(mute)
    await desk.trouble()
    await desk.until(lambda: len(mute.notices) == 1)
    mute.ends.set()
    await desk.until(lambda: len(mute.notices) == 3)
    assert len({each.id for each in mute.notices}) == 1
    await desk.trouble(rev=2, resolved_at=T0 + 1)
    await desk.until(lambda: mute.notices[-1].kind == "resolved")
    assert mute.notices[-1].key == "i1"


async def test_an_alert_in_flight_is_left_to_its_sender_until_its_time_is_up(desk: Desk) -> None:
    mute = Mute()
    first = await desk.tell(mute)
    await desk.trouble()
    await desk.until(lambda: len(mute.notices) == 1)
    await first.stop()  # as if it were killed: nothing is said of the alert
    await desk.tell()
    [held] = await desk.until_rows(1, "sending")
    assert desk.got() == []
    desk.clock.offset += 80_000
    await desk.store.put_alerts([])  # whoever waits looks at the clock
    await desk.until_rows(1, "sent")
    assert [each.headers["webhook-id"] for each in desk.sink.requests] == [held.id]


VICTIM = """
import asyncio, os, signal, sys
from pathlib import Path
from relit.api.webhooks import sign
from relit.durable.alerting import Policy
from relit.durable.alerts import Alerts
from relit.durable.channels import Webhook
from relit.store.sql.sqlite.store import SqliteStore

class Killed(Webhook):
    async def tell(self, notice):
        told = await super().tell(notice)
        assert told.verdict == "taken", told
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.start()
    alerts = Alerts(store, [Killed("hook", sys.argv[2], "pagerduty", lambda: "KEY", sign)], Policy(settle_ms=0))
    await alerts.start()
    await asyncio.sleep(40)

asyncio.run(main())
"""


async def test_killed_between_the_post_and_its_note_a_pager_can_tell_that_it_is_the_same(
    desk: Desk, tmp_path: Path
) -> None:
    await desk.trouble()
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", VICTIM, str(tmp_path / "relit.db"), desk.url + "/"],
        timeout=50,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    assert len(desk.got()) == 1
    desk.clock.offset += 80_000
    await desk.tell(desk.hook(style="pagerduty", secret=lambda: "KEY"))
    await desk.until_rows(1, "sent")
    await desk.trouble(rev=2, resolved_at=T0 + 1)
    await desk.until_rows(0)
    assert [(each["event_action"], each["dedup_key"]) for each in desk.got()] == [
        ("trigger", "i1"),
        ("trigger", "i1"),
        ("resolve", "i1"),
    ]
    assert len({each.headers["webhook-id"] for each in desk.sink.requests}) == 2


async def test_who_tells_nobody_does_nothing(desk: Desk) -> None:
    alerts = Alerts(desk.store, [], Policy())
    await alerts.start()
    await desk.trouble()
    await alerts.stop()
    assert await desk.rows() == []


# --- Apprise ---------------------------------------------------------------------------------------------------------


def of_apprise(desk: Desk, name: str = "mail", path: str = "/told", **more: Any) -> Apprise:
    address = desk.url.replace("http://", "json://") + path
    return Apprise(name, lambda: address, **more)


@pytest.mark.slow
async def test_apprise_takes_an_alert_where_it_reaches(desk: Desk) -> None:
    await desk.tell(of_apprise(desk))
    await desk.trouble(severity="critical", title="ada: <died> & died")
    await desk.until_rows(1, "sent")
    [told] = desk.got("/told")
    assert told["title"] == "CRITICAL ada: <died> & died"
    assert told["type"] == "failure"
    assert told["message"].startswith("ada: exit code 1.")
    assert "More: relit why ada" in told["message"]
    await desk.trouble(severity="critical", rev=2, resolved_at=T0 + 60_000)
    await desk.until_rows(0)
    assert [each["type"] for each in desk.got("/told")] == ["failure", "success"]


@pytest.mark.slow
async def test_apprise_says_why_not_and_shows_no_secret(desk: Desk) -> None:
    refused = await Apprise("m", lambda: "json://me:hunter2@127.0.0.1:9/x").tell(notice())
    assert refused.verdict == "refused"
    assert refused.why
    unreadable = await Apprise("m", lambda: "nonsense://me:hunter2@x").tell(notice())
    assert unreadable.verdict == "refused"
    assert "hunter2" not in refused.why + unreadable.why


@pytest.mark.slow
async def test_a_service_that_hangs_is_given_up(desk: Desk) -> None:
    slow = Sink(seconds=30)
    with Served(slow.app) as url:
        channel = Apprise("m", lambda: url.replace("http://", "json://") + "/?rto=60", timeout_s=6)
        told = await channel.tell(notice())
    assert told == Told("unknown", "no answer in time")


def notice() -> Notice:
    from relit.documents import IncidentDetail

    trouble = IncidentDetail(id="i1", agent="ada", opened_at=T0, title="died")
    return Notice(id="a1", key="i1", kind="opened", severity="warning", incidents=[trouble], at=T0)
