"""What a node reports, in the server's store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relit.app.backend import StoreBackend, kept
from relit.control.care import Entry, Incident
from relit.documents.incidents import whole
from relit.node.trouble import ENTRIES_MOST
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.wakeups import Wakeups

T0 = 1_800_000_000_000


def report(entries: int = 1, **fields: Any) -> Incident:
    timeline = [Entry(at_ms=T0 + n, what=f"{n}", outcome="done", took_ms=n) for n in range(entries)]
    given = {"id": "i1", "agent": "ada", "instance": "ada", "opened_ms": T0, "timeline": timeline}
    return Incident(**(given | fields))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "relit.db", wakeups=Wakeups())
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
def backend(store: SqliteStore) -> StoreBackend:
    return StoreBackend(store, 5, None, None)  # type: ignore[arg-type]  # asks nothing of volumes, tries nothing


async def test_a_report_is_kept_whole(backend: StoreBackend, store: SqliteStore) -> None:
    told = report(
        2, severity="critical", rung=4, title="ada: died\x00\nagain", cause="c", impact="i", exit="code 1",
        memory=[(T0, 5)], log=["\x00"], config={"a": "-x"}, next="relit logs ada", group="oom",
    )  # fmt: skip
    await backend.incident(told)
    found = whole(await store.incident("i1"))
    assert (found.title, found.rung, found.severity, found.group) == ("ada: died· again", 4, "critical", "oom")
    assert (found.cause, found.impact, found.exit, found.next) == ("c", "i", "code 1", "relit logs ada")
    assert (found.memory, found.log, found.config) == ([(T0, 5)], ["\x00"], {"a": "-x"})
    assert [(each.at, each.what, each.outcome, each.took_ms) for each in found.timeline] == [
        (T0, "0", "done", 0),
        (T0 + 1, "1", "done", 1),
    ]


async def test_reports_that_overtake_each_other_leave_the_newest(backend: StoreBackend, store: SqliteStore) -> None:
    for told in (report(1), report(3, rung=3), report(2, rung=2), report(4, resolved_ms=T0 + 9), report(3)):
        await backend.incident(told)
    found = whole(await store.incident("i1"))
    assert (len(found.timeline), found.resolved_at) == (4, T0 + 9)
    assert [event.name for event in await store.events()] == [
        "incident.opened",
        "incident.changed",
        "incident.resolved",
    ]


async def test_a_report_that_comes_twice_is_one(backend: StoreBackend, store: SqliteStore) -> None:
    await backend.incident(report(2))
    await backend.incident(report(2))
    assert len(await store.events()) == len(await store.incidents()) == 1


def test_a_timeline_that_is_as_long_as_it_may_be_keeps_the_newest_report() -> None:
    full = report(ENTRIES_MOST)
    later = msgspec.structs.replace(full, timeline=[*full.timeline[1:], Entry(at_ms=T0, what="later")])
    assert kept(full).rev == kept(later).rev
