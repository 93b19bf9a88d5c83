"""What only the PostgreSQL dialect can get wrong: opening, connections lost in the middle, batches, the lock order."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from conformance import COMPLETED, HOUR, add, claim, fence, join, message, new_run, running, step

from relit.errors import ConfigError, SchemaTooNew, StoreCorrupt, StoreUnavailable
from relit.events import Event
from relit.lib import crashpoints
from relit.store.sql import journal
from relit.store.sql.postgres.store import PostgresStore
from relit.store.sql.postgres.transaction import PostgresTx
from relit.store.sql.tx import Op, Tx
from relit.store.values import Audited, Mailbox, Wait
from relit.testing.postgres import Postgres
from relit.testing.servers import free_ports

pytestmark = pytest.mark.postgres


@pytest.fixture
async def store(postgres: Postgres) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(postgres.create_database(), patience=10)
    await store.start()
    yield store
    await store.stop()


def url_of(store: PostgresStore) -> str:
    return store._postgres._address.dsn


def writer_pid(store: PostgresStore) -> int:
    connection: Any = store._postgres._writer._connection
    return int(connection.get_server_pid())


async def sql(store: PostgresStore, statement: str, *args: object) -> Any:
    connection = await asyncpg.connect(url_of(store), server_settings={"search_path": "relit"})
    try:
        return await connection.fetchval(statement, *args)
    finally:
        await connection.close()


@pytest.mark.parametrize("statement", ["UPDATE audit SET who = 'nobody'", "DELETE FROM audit", "TRUNCATE audit"])
async def test_nobody_changes_the_audit_trail(store: PostgresStore, statement: str) -> None:
    await store.secrets.audit([Audited(what="set", name="a", who="me")])
    with pytest.raises(asyncpg.RaiseError, match="only grows"):
        await sql(store, statement)


# --- opening -----------------------------------------------------------------------------------------------------


async def test_a_wrong_password_says_so(postgres: Postgres) -> None:
    url = postgres.url().replace(postgres.PASSWORD, "wrong")
    with pytest.raises(ConfigError, match="password authentication failed") as refused:
        await PostgresStore(url).start()
    assert "wrong" not in str(refused.value).replace("authentication", "")
    assert refused.value.fix


async def test_a_missing_database_says_how_to_make_it(postgres: Postgres) -> None:
    with pytest.raises(ConfigError, match="createdb absent"):
        await PostgresStore(postgres.url("absent")).start()


async def test_an_unreachable_server_may_come_back() -> None:
    url = f"postgresql://u:secret@127.0.0.1:{free_ports(1)[0]}/d"
    with pytest.raises(StoreUnavailable, match="pg_isready") as refused:
        await PostgresStore(url).start()
    assert "secret" not in str(refused.value)
    assert refused.value.retry


async def test_an_unknown_host_may_come_back() -> None:
    with pytest.raises(StoreUnavailable):
        await PostgresStore("postgresql://u@nowhere.invalid/d").start()


@pytest.mark.parametrize("schema", ["Robert'); DROP TABLE", "", "a-b", "Relit"])
async def test_a_strange_schema_name_is_refused(schema: str) -> None:
    with pytest.raises(ConfigError, match="schema name"):
        PostgresStore("postgresql://u@h/d", schema=schema)


async def test_a_broken_dsn_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError):
        await PostgresStore("postgresql://u@h:port/d").start()


async def test_a_newer_schema_is_refused(store: PostgresStore) -> None:
    await sql(store, "UPDATE meta SET value = '999' WHERE key = 'schema_version'")
    with pytest.raises(SchemaTooNew, match="version 999"):
        await PostgresStore(url_of(store)).start()


async def test_a_schema_of_another_program_is_refused(postgres: Postgres) -> None:
    url = postgres.create_database()
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE SCHEMA relit; CREATE TABLE relit.theirs (x int)")
    await connection.close()
    with pytest.raises(StoreCorrupt, match="another program"):
        await PostgresStore(url).start()


async def test_writing_after_stop_is_a_clear_error(store: PostgresStore) -> None:
    await store.stop()
    with pytest.raises(StoreUnavailable, match="was stopped"):
        await store.enqueue([new_run()])
    with pytest.raises(StoreUnavailable, match="was stopped"):
        await store.runs()


async def test_stop_commits_what_waits(store: PostgresStore) -> None:
    writes = [asyncio.ensure_future(store.enqueue([new_run()])) for _ in range(50)]
    await asyncio.sleep(0)
    await store.stop()
    assert len(await asyncio.gather(*writes)) == 50


async def test_it_works_over_tls(own_postgres: Postgres) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    postgres = own_postgres
    key, certificate = postgres.data / "server.key", postgres.data / "server.crt"
    subprocess.run(
        ["openssl", "req", "-new", "-x509", "-days", "2", "-nodes", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate, "-keyout", key],
        check=True, capture_output=True,
    )  # fmt: skip
    owner = postgres.data.stat()
    for file in (key, certificate):
        shutil.chown(file, owner.st_uid, owner.st_gid)
        file.chmod(0o600)
    authority = Path(shutil.copy(certificate, postgres.folder / "authority.crt"))
    authority.chmod(0o644)
    try:
        postgres.sql("ALTER SYSTEM SET ssl = on")
    except RuntimeError as error:
        pytest.skip(str(error))  # the PyPI build has no TLS
    postgres.sql("SELECT pg_reload_conf()")
    store = PostgresStore(f"{postgres.create_database()}?sslmode=verify-full&sslrootcert={authority}")
    await store.start()
    await store.enqueue([new_run(id="safe")])
    assert await sql(store, "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                            "WHERE application_name = 'relit'")  # fmt: skip
    await store.stop()


# --- batches -----------------------------------------------------------------------------------------------------


async def test_writes_that_wait_share_one_transaction(store: PostgresStore) -> None:
    before = await sql(store, "SELECT n FROM commits")
    await asyncio.gather(*(store.enqueue([new_run()]) for _ in range(300)))
    assert await sql(store, "SELECT n FROM commits") - before <= 4


async def test_an_operation_that_fails_undoes_only_itself(store: PostgresStore) -> None:
    async def half(tx: Tx, batch: Any) -> list[None]:
        await tx.many("token_put", [(name, "h", "", 0, None) for name in batch])
        if "bad" in batch:
            raise ValueError("after its first write")
        return [None for _ in batch]

    names = [f"good-{n}" for n in range(40)]
    names.insert(17, "bad")
    results = await asyncio.gather(*(store._postgres.write(Op(half, name)) for name in names), return_exceptions=True)
    assert [name for name, result in zip(names, results, strict=True) if result is not None] == ["bad"]
    assert isinstance(results[17], ValueError)
    assert sorted(token.name for token in await store.tokens()) == sorted(set(names) - {"bad"})


async def test_a_statement_that_fails_fails_its_operation_alone(store: PostgresStore) -> None:
    await join(store)
    ids = [await add(store) for _ in range(30)]
    runs = {run.id: run for run in await claim(store)}
    await store.append(fence(runs[ids[4]]), [step(1)])
    writes = [store.append(fence(runs[id_]), [step(1)]) for id_ in ids]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [id_ for id_, result in zip(ids, results, strict=True) if result is not None] == [ids[4]]


# --- connections -------------------------------------------------------------------------------------------------


class AtCommit:
    """Does something at the first commit after this, at a moment the code names."""

    def __init__(self) -> None:
        self.kill: str | None = None

    def __enter__(self) -> AtCommit:
        crashpoints.install(self)
        return self

    def __exit__(self, *_: object) -> None:
        crashpoints.install(None)

    def __call__(self, name: str) -> None:
        if name == "store.commit.before" and self.kill is not None:
            command, self.kill = self.kill, None
            subprocess.run(command, shell=True, check=True)


async def test_a_connection_cut_while_it_is_idle_is_made_again(store: PostgresStore, postgres: Postgres) -> None:
    await add(store)
    postgres.sql(f"SELECT pg_terminate_backend({writer_pid(store)})")
    await asyncio.gather(*(add(store) for _ in range(10)))
    assert len(await store.runs()) == 11


async def test_a_connection_cut_before_commit_writes_once(store: PostgresStore, postgres: Postgres) -> None:
    run = await running(store)
    at_commit = AtCommit()
    bin_ = postgres._bin
    at_commit.kill = (
        f"{bin_}/psql -X -q -c 'SELECT pg_terminate_backend({writer_pid(store)})' "
        f"'{postgres.url(socket=True)}' >/dev/null"
    )
    with at_commit:
        await store.append(fence(run), [step(1)])
    assert at_commit.kill is None
    assert len(await store.steps(run.id)) == 1
    await store.append(fence(run), [step(2)])


class LosesTheAnswer:
    """A connection whose next COMMIT takes place, or does not, and whose answer never comes."""

    def __init__(self, connection: Any, *, takes_place: bool) -> None:
        self._connection = connection
        self._takes_place = takes_place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, statement: str, *args: object) -> Any:
        if statement.endswith("COMMIT"):
            if self._takes_place:
                await self._connection.execute(statement)
            self._connection.terminate()
            raise ConnectionResetError("the answer was lost")
        return await self._connection.execute(statement, *args)


@pytest.mark.parametrize("takes_place", [True, False])
async def test_a_commit_whose_answer_was_lost_is_resolved(store: PostgresStore, takes_place: bool) -> None:
    run = await running(store)
    writer = store._postgres._writer
    writer._connection = LosesTheAnswer(writer._connection, takes_place=takes_place)
    heard = store.subscribe("ready")
    results = await asyncio.gather(store.append(fence(run), [step(1)]), store.enqueue([new_run(id="other")]))
    assert results[1][0].created
    assert len(await store.steps(run.id)) == 1
    assert (await store.run("other")).state == "available"
    assert await heard.wait(5)
    assert await store.check() == []


async def test_the_server_crashes_in_the_middle_and_nothing_acknowledged_is_lost(own_postgres: Postgres) -> None:
    store = PostgresStore(own_postgres.create_database())
    await store.start()
    await join(store)
    acknowledged: list[tuple[str, int]] = []
    for _ in range(8):
        await add(store)
    runs = await claim(store)
    stop = asyncio.Event()

    async def work(run: Any) -> None:
        seq = 0
        while not stop.is_set():
            seq += 1
            await store.append(fence(run), [step(seq)])
            acknowledged.append((run.id, seq))

    async def crash() -> None:
        for _ in range(3):
            count = len(acknowledged)
            while len(acknowledged) < count + 50:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(own_postgres.restart)
        stop.set()

    await asyncio.gather(crash(), *(work(run) for run in runs))
    found = {(run.id, each.seq) for run in runs for each in await store.steps(run.id, limit=100_000)}
    assert found == set(acknowledged), "every answer is on disk, and nothing was written without an answer"
    assert await store.check() == []
    await store.stop()


async def test_while_the_server_is_away_writes_wait_and_then_give_up(own_postgres: Postgres) -> None:
    store = PostgresStore(own_postgres.create_database(), patience=0.5)
    await store.start()
    own_postgres.stop("immediate")
    results = await asyncio.gather(add(store), add(store), store.runs(), return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 3
    assert "nothing of it was written" in str(results[0])
    own_postgres.start()
    await add(store)
    assert len(await store.runs()) == 1
    await store.stop()


async def test_a_store_stops_while_the_server_is_away(own_postgres: Postgres) -> None:
    store = PostgresStore(own_postgres.create_database())
    await store.start()
    own_postgres.stop("immediate")
    write = asyncio.ensure_future(add(store))
    await asyncio.sleep(0)
    await asyncio.wait_for(store.stop(), 10)
    with pytest.raises(StoreUnavailable):
        await write


async def test_a_listener_that_was_cut_off_wakes_everyone_when_it_is_back(
    store: PostgresStore, postgres: Postgres
) -> None:
    other = PostgresStore(url_of(store))
    await other.start()
    heard = other.subscribe("run:whatever")
    pid = other._wakeups._connection.get_server_pid()  # type: ignore[attr-defined]
    postgres.sql(f"SELECT pg_terminate_backend({pid})")
    assert await heard.wait(10)
    ready = other.subscribe("ready")
    await add(store)
    assert await ready.wait(10)
    await other.stop()


async def test_a_batch_with_too_many_topics_wakes_everyone(store: PostgresStore) -> None:
    other = PostgresStore(url_of(store))
    await other.start()
    await join(store)
    for _ in range(3):
        await store.enqueue([new_run() for _ in range(150)])
    runs = await claim(store, limit=450)
    heard = other.subscribe(f"end:{runs[-1].id}")
    await asyncio.gather(*(store.finish(fence(run), COMPLETED) for run in runs))
    assert await heard.wait(10)
    await other.stop()


# --- several processes -------------------------------------------------------------------------------------------


async def test_a_claim_cannot_slip_between_a_check_and_its_commit(store: PostgresStore) -> None:
    """A worker thought dead is at its commit when it is reaped: the reaper waits, and the step counts."""
    other = PostgresStore(url_of(store))
    await other.start()
    run = await running(store)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(tx: PostgresTx, batch: Any) -> list[None]:
        entered.set()
        await leave.wait()
        return [None for _ in batch]

    held = asyncio.gather(store.append(fence(run), [step(1)]), store._postgres.write(Op(slow, None)))
    await entered.wait()
    reap = asyncio.ensure_future(other.reap("worker", proven=True, poison_after=5))
    done, _ = await asyncio.wait([reap], timeout=0.2)
    leave.set()
    await held
    assert not done, "it waited for the lock on the run"
    assert await reap is not None
    assert (await other.run(run.id)).epoch == run.epoch + 1
    assert len(await other.steps(run.id)) == 1
    await other.stop()


async def test_a_child_that_ends_while_its_parent_goes_to_sleep_wakes_it(store: PostgresStore) -> None:
    other = PostgresStore(url_of(store))
    await other.start()
    parent = await running(store)
    child = await running(store, parent=parent.id)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slowly(tx: Tx, batch: Any) -> list[Any]:
        results = await journal.suspend(tx, batch)
        entered.set()
        await leave.wait()
        return results

    wait = Wait(pos="1", kind="child", name=child.id)
    asleep = asyncio.ensure_future(store._postgres.write(Op(slowly, (fence(parent), [wait], "child"))))
    await entered.wait()
    end = asyncio.ensure_future(other.finish(fence(child), COMPLETED))
    done, _ = await asyncio.wait([end], timeout=0.2)
    leave.set()
    assert await asleep is True, "the child had not ended yet"
    await end
    assert not done, "it waited for the lock on the parent"
    assert (await store.run(parent.id)).state == "available"
    await other.stop()


async def test_two_processes_that_fill_and_empty_the_same_mailboxes_do_not_deadlock(store: PostgresStore) -> None:
    other = PostgresStore(url_of(store))
    await other.start()
    for name in ("a", "b", "c"):
        await store.configure_mailbox(Mailbox(name=name, concurrency=2))
    total, done = 90, []

    async def process(mine: PostgresStore, worker: str) -> None:
        await join(mine, worker)
        sends = [mine.enqueue([message(mailbox=name)]) for name in "cba" * (total // 6)]
        await asyncio.gather(*sends)
        while len(done) < total:
            heard = mine.subscribe("ready")
            runs = await claim(mine, worker)
            await asyncio.gather(*(mine.finish(fence(run), COMPLETED) for run in runs))
            done.extend(runs)
            if not runs:
                await heard.wait(0.2)
            heard.close()

    await asyncio.wait_for(asyncio.gather(process(store, "one"), process(other, "two")), 30)
    assert len({run.id for run in done}) == len(done) == total
    assert await sql(store, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    assert await store.check() == []
    await other.stop()


async def test_an_open_transaction_hides_later_events_until_it_ends(store: PostgresStore) -> None:
    blocker = await asyncpg.connect(url_of(store), server_settings={"search_path": "relit"})
    await blocker.execute("BEGIN")
    await blocker.execute("INSERT INTO events (at, name, data) VALUES (1, 'early', '\\x80')")
    await store.record([Event("", 0, "late")])
    heard = store.subscribe("events")
    assert await store.events() == [], "the earlier transaction is still open: its event would be skipped"
    await blocker.execute("COMMIT")
    assert await heard.wait(5), "its end is noticed though nobody announced it"
    names: list[str] = []
    while len(names) < 2:
        await heard.wait(1)
        names = [event.name for event in await store.events()]
    assert names == ["early", "late"]
    await blocker.close()


async def test_schemas_in_one_database_do_not_meet(store: PostgresStore) -> None:
    other = PostgresStore(url_of(store), schema="elsewhere")
    await other.start()
    heard = other.subscribe("ready")
    await add(store, timeout_ms=HOUR)
    assert await other.runs() == []
    assert not await heard.wait(0.1)
    await other.stop()
