"""Every store: the vault's rows and the audit trail."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from conformance import OpenStore

from relit.errors import NotFound, Overtaken
from relit.store.base import Store
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.sql.store import SqlStore
from relit.store.values import Audited, Lock, Secret
from relit.vault.base import Rows

LOCK = Lock(key="aa")
OTHER = Lock(key="bb", kind="passphrase", salt=b"\0salt", cost="2 8 1")


def secret(name: str = "openai", version: int = 1, sealed: bytes = b"\0v") -> Secret:
    return Secret(name=name, version=version, wrapped=b"\0k", sealed=sealed)


def noted(what: str = "set", name: str = "openai") -> Audited:
    return Audited(what=what, name=name, who="me", whom="models.default")


@pytest.fixture
async def rows(store: Store) -> Rows:
    assert isinstance(store, SqlStore)
    return store.secrets


async def test_the_first_lock_holds(rows: Rows) -> None:
    assert await rows.lock() is None
    assert await rows.begin(LOCK) == LOCK
    assert await rows.begin(OTHER) == LOCK
    assert await rows.lock() == LOCK


async def test_a_secret_is_kept_and_its_entry_with_it(rows: Rows, store: Store) -> None:
    await rows.begin(LOCK)
    before = await store.now_ms()
    await rows.put(LOCK, secret(), noted())
    [found] = await rows.secrets()
    assert (found.name, found.version, found.wrapped, found.sealed) == ("openai", 1, b"\0k", b"\0v")
    assert before <= found.set_at == found.sealed_at <= await store.now_ms()
    [entry] = await rows.audited()
    assert (entry.what, entry.name, entry.who, entry.whom) == ("set", "openai", "me", "models.default")
    assert entry.at == found.set_at


@pytest.mark.parametrize(("version", "lock"), [(1, LOCK), (3, LOCK), (2, OTHER)])
async def test_whoever_did_not_see_the_newest_writes_nothing(rows: Rows, version: int, lock: Lock) -> None:
    await rows.begin(LOCK)
    await rows.put(LOCK, secret(), noted())
    with pytest.raises(Overtaken):
        await rows.put(lock, secret(version=version, sealed=b"other"), noted())
    assert [each.sealed for each in await rows.secrets()] == [b"\0v"]
    assert len(await rows.audited()) == 1


async def test_a_new_version_takes_the_place_of_the_old_one(rows: Rows) -> None:
    await rows.begin(LOCK)
    await rows.put(LOCK, secret(), noted())
    await rows.put(LOCK, secret(version=2, sealed=b"new"), noted())
    assert [(each.version, each.sealed) for each in await rows.secrets()] == [(2, b"new")]


async def test_what_is_removed_is_gone_and_noted(rows: Rows) -> None:
    await rows.begin(LOCK)
    await rows.put(LOCK, secret(), noted())
    await rows.remove("openai", noted("removed"))
    with pytest.raises(NotFound):
        await rows.remove("openai", noted("removed"))
    assert await rows.secrets() == []
    assert [each.what for each in await rows.audited()] == ["removed", "set"]


async def test_all_are_sealed_anew_or_none(rows: Rows) -> None:
    await rows.begin(LOCK)
    for name in ("a", "b"):
        await rows.put(LOCK, secret(name), noted(name=name))
    one, two = secret("a", sealed=b"A"), secret("b", sealed=b"B")
    with pytest.raises(Overtaken):
        await rows.replace(LOCK, OTHER, [one], noted("rotated", ""))
    with pytest.raises(Overtaken):
        await rows.replace(OTHER, LOCK, [one, two], noted("rotated", ""))
    assert await rows.lock() == LOCK
    await rows.replace(LOCK, OTHER, [one, two], noted("rotated", ""))
    assert await rows.lock() == OTHER
    assert [each.sealed for each in await rows.secrets()] == [b"A", b"B"]


async def test_the_trail_is_paged_and_narrowed(rows: Rows) -> None:
    await rows.audit([noted("read", name) for name in ("a", "b", "a", "c")])
    newest = await rows.audited(limit=2)
    assert [each.name for each in newest] == ["c", "a"]
    assert [each.name for each in await rows.audited(before=newest[-1].id)] == ["b", "a"]
    assert [each.name for each in await rows.audited(name="a")] == ["a", "a"]


async def test_it_outlives_the_process(open_store: OpenStore, store: Store, rows: Rows) -> None:
    await rows.begin(OTHER)
    await rows.put(OTHER, secret(), noted())
    again = open_store()
    assert isinstance(again, SqlStore)
    await again.start()
    try:
        assert await again.secrets.lock() == OTHER
        assert [each.name for each in await again.secrets.secrets()] == ["openai"]
    finally:
        await again.stop()


@pytest.mark.parametrize("statement", ["UPDATE audit SET who = 'nobody'", "DELETE FROM audit"])
async def test_nobody_changes_the_trail_of_sqlite(tmp_path: Path, statement: str) -> None:
    store = SqliteStore(tmp_path / "trail.db")
    await store.start()
    await store.secrets.audit([noted()])
    await store.stop()
    with pytest.raises(apsw.ConstraintError, match="only grows"):
        apsw.Connection(str(tmp_path / "trail.db")).execute(statement)
