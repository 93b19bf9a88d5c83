"""Every store: incidents, and what is told of them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from conformance import DAY, MINUTE, OpenStore, Time, effect, fence, running

from relit.errors import NotFound
from relit.store.base import Store
from relit.store.values import Alert, Incident

T0 = 1_800_000_000_000


def incident(id: str = "i1", **options: Any) -> Incident:
    given = {"id": id, "agent": "ada", "instance": "ada", "opened_at": T0, "title": "ada: died", "rev": 1}
    return Incident(**(given | options))


def alert(id: str = "a1", **options: Any) -> Alert:
    given = {"id": id, "channel": "pager", "kind": "opened", "incident": "i1", "members": ["i1"], "severity": "warning"}
    return Alert(**(given | options))


async def told(store: Store) -> list[str]:
    return [event.name for event in await store.events() if event.name.startswith("incident.")]


def as_told(found: Incident) -> Incident:
    return msgspec.structs.replace(found, seen_at=0, updated_at=0)


# --- incidents -------------------------------------------------------------------------------------------------------


async def test_an_incident_is_kept_as_it_was_told(store: Store) -> None:
    given = incident(severity="warning", rung=2, group="node oom", document='{"log": ["ü\\u0000"]}'.encode())
    before = await store.now_ms()
    assert await store.put_incident(given)
    found = await store.incident("i1")
    assert as_told(found) == given
    assert before <= found.seen_at == found.updated_at <= await store.now_ms()
    with pytest.raises(NotFound):
        await store.incident("i2")


async def test_the_last_word_holds(store: Store, time: Time) -> None:
    await store.put_incident(incident())
    await time.advance(MINUTE)
    assert await store.put_incident(incident(rev=2, title="deeper", rung=3, document=b'{"a": 1}'))
    found = await store.incident("i1")
    assert (found.title, found.rung, found.document) == ("deeper", 3, b'{"a": 1}')
    assert found.updated_at - found.seen_at >= MINUTE
    assert await store.put_incident(incident(rev=2, title="the same again"))
    assert (await store.incident("i1")).title == "the same again"


async def test_an_older_report_that_comes_late_undoes_nothing(store: Store) -> None:
    await store.put_incident(incident(rev=5, title="new", severity="critical", rung=4))
    known = await store.incident("i1")
    assert not await store.put_incident(incident(rev=4, title="old"))
    assert await store.incident("i1") == known
    assert await told(store) == ["incident.opened"]


async def test_what_is_resolved_never_opens_again(store: Store) -> None:
    await store.put_incident(incident(rev=3))
    assert await store.put_incident(incident(rev=2, resolved_at=T0 + 9))  # the end is the last thing that is said
    assert not await store.put_incident(incident(rev=9))
    assert (await store.incident("i1")).resolved_at == T0 + 9
    assert await store.put_incident(incident(rev=4, resolved_at=T0 + 9, title="with its figures"))
    assert (await store.incident("i1")).title == "with its figures"
    assert not await store.put_incident(incident(rev=3, resolved_at=T0 + 9, title="late"))
    assert await told(store) == ["incident.opened", "incident.resolved"]


async def test_its_events_are_those_that_a_person_wants_to_hear(store: Store) -> None:
    for rev, fields in enumerate(
        [
            {},
            {"title": "another word"},
            {"rung": 2},
            {"rung": 2, "severity": "warning"},
            {"rung": 2, "severity": "warning", "group": "g"},
            {"rung": 1, "severity": "info"},
            {"rung": 4, "severity": "critical"},
            {"rung": 4, "severity": "critical", "resolved_at": T0 + 1},
        ]
    ):
        assert await store.put_incident(incident(rev=rev, **fields))
    assert await told(store) == ["incident.opened", *["incident.changed"] * 3, "incident.resolved"]
    last = (await store.events(names=["incident.resolved"]))[0]
    assert last.agent == "ada"
    assert last.data == {"incident": "i1", "title": "ada: died", "severity": "critical", "rung": 4}


async def test_what_was_over_before_it_was_told_has_both_events(store: Store) -> None:
    await store.put_incident(incident(resolved_at=T0 + 1))
    assert await told(store) == ["incident.opened", "incident.resolved"]


async def test_many_who_report_at_once_leave_the_newest(store: Store, open_store: OpenStore) -> None:
    other = open_store()
    await other.start()
    reports = [incident(rev=rev, title=f"rev {rev}") for rev in range(20)]
    await asyncio.gather(*((store, other)[each.rev % 2].put_incident(each) for each in reports))
    assert (await store.incident("i1")).title == "rev 19"
    assert (await told(store)).count("incident.opened") == 1
    await other.stop()


async def test_incidents_are_listed_newest_first_and_paged(store: Store) -> None:
    for number in range(7):
        agent = "ada" if number % 2 else "bob"
        ended = T0 + 100 if number == 3 else None
        await store.put_incident(incident(f"i{number}", agent=agent, opened_at=T0 + number // 2, resolved_at=ended))
    everyone = [each.id for each in await store.incidents()]
    assert everyone == ["i6", "i5", "i4", "i3", "i2", "i1", "i0"]
    assert [each.id for each in await store.incidents(limit=3, before="i5")] == ["i4", "i3", "i2"]
    assert [each.id for each in await store.incidents(agent="ada")] == ["i5", "i3", "i1"]
    assert [each.id for each in await store.incidents(agent="ada", open_only=True)] == ["i5", "i1"]
    assert [each.id for each in await store.incidents(agent="ada", limit=1, before="i5")] == ["i3"]
    assert [each.id for each in await store.incidents(open_only=True, before="i4", limit=2)] == ["i2", "i1"]
    assert await store.incidents(before="unknown") == []
    assert {each.document for each in await store.incidents()} == {b""}


async def test_incidents_are_found_by_a_part_of_their_id(store: Store) -> None:
    for id in ("01jabc", "01jxyz"):
        await store.put_incident(incident(id))
    assert await store.find_incidents("xyz") == ["01jxyz"]
    assert await store.find_incidents("01JA") == ["01jabc"]
    assert len(await store.find_incidents("01j")) == 2
    assert await store.find_incidents("%") == await store.find_incidents("")


async def test_who_waits_for_incidents_is_woken(store: Store, open_store: OpenStore) -> None:
    other = open_store()
    await other.start()
    heard = other.subscribe("incidents")
    await store.put_incident(incident())
    assert await heard.wait(5)
    heard.close()
    await other.stop()


async def test_incidents_go_with_retention_unless_they_are_open(store: Store, time: Time) -> None:
    now = await store.now_ms()
    await store.put_incident(incident("old", opened_at=now, resolved_at=now))
    await store.put_incident(incident("open", opened_at=now))
    await store.put_alerts([alert("a1", incident="old", made_at=now), alert("a2", incident="open", made_at=now)])
    await store.forget(DAY)
    assert len(await store.incidents()) == len(await store.alerts()) == 2
    await time.advance(2 * DAY)
    await store.put_incident(incident("young", opened_at=now, resolved_at=await store.now_ms()))
    await store.forget(DAY)
    assert {each.id for each in await store.incidents()} == {"open", "young"}
    assert [each.id for each in await store.alerts()] == ["a2"]


async def test_the_effects_of_one_agent(store: Store) -> None:
    mine = await running(store)
    await store.intend(fence(mine), effect(mine.id))
    assert [each.run for each in await store.effects(agent="a")] == [mine.id]
    assert await store.effects(agent="b") == []
    assert await store.effects(agent="a", states=("in_doubt",)) == []
    await store.doubt(fence(mine), "1")
    assert [each.pos for each in await store.effects(agent="a", states=("in_doubt",))] == ["1"]


# --- alerts ----------------------------------------------------------------------------------------------------------


async def test_alerts_are_kept_until_they_are_closed(store: Store) -> None:
    first = alert(members=["i1", "i2"], made_at=5, why="no answer", retry_at=7, tries=2, severity="critical")
    await store.put_alerts([alert("a2", made_at=6), first])
    assert await store.alerts() == [first, alert("a2", made_at=6)]
    await store.put_alerts([alert(kind="resolved")])
    assert (await store.alerts())[0] == first


async def test_an_alert_moves_from_where_it_was(store: Store) -> None:
    await store.put_alerts([alert()])
    held = msgspec.structs.replace(alert(), state="sending", tries=1, retry_at=9, severity="critical")
    assert await store.move_alert(alert(), held)
    assert not await store.move_alert(alert(), held)
    sent = msgspec.structs.replace(held, state="sent", retry_at=None, sent_at=8, why="")
    assert await store.move_alert(held, sent)
    assert await store.alerts() == [sent]


async def test_of_many_who_take_an_alert_one_gets_it(store: Store, open_store: OpenStore) -> None:
    other = open_store()
    await other.start()
    await store.put_alerts([alert()])
    held = msgspec.structs.replace(alert(), state="sending", tries=1, retry_at=9)
    got = await asyncio.gather(*(each.move_alert(alert(), held) for each in (store, other) * 5))
    assert got.count(True) == 1
    await other.stop()


async def test_closing_an_alert_closes_all_of_its_incident_on_that_channel(store: Store) -> None:
    made = [alert(), alert("a2", kind="resolved"), alert("b1", channel="mail"), alert("c1", incident="i2")]
    await store.put_alerts(made)
    assert await store.move_alert(made[1], msgspec.structs.replace(made[1], state="sent", closed=True))
    assert [each.id for each in await store.alerts()] == ["b1", "c1"]
    assert not await store.move_alert(made[0], msgspec.structs.replace(made[0], state="sending"))


async def test_who_waits_for_alerts_is_woken(store: Store) -> None:
    heard = store.subscribe("alerts")
    await store.put_alerts([alert()])
    assert await heard.wait(5)
    heard.close()
