"""What only the SQLite dialect can get wrong: its file, its locks, its disk, several processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import apsw
import pytest

from relit.errors import ConfigError, SchemaTooNew, StoreCorrupt, StoreFull, StoreUnavailable
from relit.lib.ids import new_id
from relit.lib.proc import myself
from relit.store.sql.sqlite.connection import migrate, open_connection
from relit.store.sql.sqlite.database import CHECKPOINT_PAGES
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.sql.tx import Op, Tx
from relit.store.values import Fence, NewRun, Step, WorkerInfo
from relit.store.wakeups import Wakeups


def new_run(**options: object) -> NewRun:
    return NewRun(**({"id": new_id(), "agent": "a", "workflow": "w", "input": b"\x01\xc0"} | options))  # type: ignore[arg-type]


async def opened(path: Path) -> SqliteStore:
    store = SqliteStore(path, wakeups=Wakeups())
    await store.start()
    return store


async def joined(store: SqliteStore, name: str = "worker") -> str:
    me = myself()
    info = WorkerInfo(
        id=name, host="h", pid=me.pid, start=me.start, boot=me.boot, namespace=me.namespace, targets=["a/w"]
    )
    await store.join(info, 60_000)
    return name


async def test_an_operation_that_fails_undoes_only_itself(tmp_path: Path) -> None:
    store = await opened(tmp_path / "relit.db")

    async def half(tx: Tx, batch: list[str]) -> list[None]:
        await tx.many("token_put", [(batch[0], "h", "", 0, None)])
        raise ValueError("after its first write")

    writes = [
        store.enqueue([new_run(id="first")]),
        store._database.write(Op(half, "ghost")),  # type: ignore[arg-type]
        store.enqueue([new_run(id="second")]),
    ]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(results[1], ValueError)
    assert [run.id for run in await store.runs()] == ["second", "first"]
    assert await store.tokens() == []
    await store.stop()


async def test_writes_that_wait_share_one_commit(tmp_path: Path) -> None:
    store = await opened(tmp_path / "relit.db")
    before = (tmp_path / "relit.db-wal").stat().st_size
    await asyncio.gather(*(store.enqueue([new_run()]) for _ in range(200)))
    frames = ((tmp_path / "relit.db-wal").stat().st_size - before) / 4120
    assert frames < 200, "each commit writes at least two frames: 200 commits would be 400"
    await store.stop()


async def test_the_log_is_brought_into_the_file_when_it_is_long(tmp_path: Path) -> None:
    store = await opened(tmp_path / "relit.db")
    for _ in range(20):
        await store.enqueue([new_run() for _ in range(400)])
    log = (tmp_path / "relit.db-wal").stat().st_size
    file = (tmp_path / "relit.db").stat().st_size
    assert log < 3 * 4120 * CHECKPOINT_PAGES
    assert file > 1_000_000
    await store.stop()


async def test_writing_after_stop_is_a_clear_error(tmp_path: Path) -> None:
    store = await opened(tmp_path / "relit.db")
    await store.stop()
    await store.stop()
    with pytest.raises(StoreUnavailable, match="not started, or was stopped"):
        await store.enqueue([new_run()])


async def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    other = apsw.Connection(str(tmp_path / "relit.db"))
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(StoreCorrupt, match="another program"):
        await opened(tmp_path / "relit.db")


async def test_rubbish_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "relit.db"
    path.write_bytes(b"not a database at all " * 400)
    with pytest.raises(StoreCorrupt):
        await opened(path)
    assert path.read_bytes().startswith(b"not a database")


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "relit.db"
    await (await opened(path)).stop()
    newer = apsw.Connection(str(path))
    newer.execute("PRAGMA user_version = 999")
    newer.close()
    with pytest.raises(SchemaTooNew, match="version 999"):
        await opened(path)


async def test_a_missing_folder_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        await opened(tmp_path / "absent" / "relit.db")


async def test_full_disk_writes_nothing_and_recovers_when_space_returns(tmp_path: Path) -> None:
    store = await opened(tmp_path / "relit.db")
    await store.enqueue([new_run(id="before")])

    async def limit(tx: Tx, batch: list[int]) -> list[None]:
        await tx.many("limit", [()])
        return [None]

    database = store._database
    pages = apsw.Connection(str(tmp_path / "relit.db")).pragma("page_count")
    database._sql["limit"] = f"PRAGMA max_page_count = {pages + 2}"  # type: ignore[attr-defined]
    await database.write(Op(limit, None))  # type: ignore[arg-type]
    writes = [store.enqueue([new_run(id=f"big-{i}", input=b"x" * 50_000)]) for i in range(3)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(result, StoreFull) for result in results), results
    assert [run.id for run in await store.runs()] == ["before"]
    database._sql["limit"] = "PRAGMA max_page_count = 1000000"  # type: ignore[attr-defined]
    await database.write(Op(limit, None))  # type: ignore[arg-type]
    await store.enqueue([new_run(id="after", input=b"x" * 50_000)])
    assert [run.id for run in await store.runs()] == ["before", "after"]
    assert await store.check() == []
    await store.stop()


CHILD = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from relit.lib.ids import new_id
    from relit.store.sql.sqlite.store import SqliteStore
    from relit.store.values import NewRun

    async def main(path, count):
        store = SqliteStore(Path(path))
        await store.start()
        async def one():
            run = new_id()
            await store.enqueue([NewRun(id=run, agent="a", workflow="w", input=b"\\x01\\xc0")])
            print(run, flush=True)
        for _ in range(count // 10):
            await asyncio.gather(*(one() for _ in range(10)))
        await store.stop()

    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
""")


def enqueuing(path: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(path), str(count)], stdout=subprocess.PIPE, text=True)


async def test_several_processes_write_one_file(tmp_path: Path) -> None:
    store = await opened(tmp_path / "relit.db")
    children = [enqueuing(tmp_path / "relit.db", 200) for _ in range(3)]
    said = [await asyncio.to_thread(child.communicate, timeout=50) for child in children]
    acknowledged = {line for out, _ in said for line in out.split()}
    assert len(acknowledged) == 600
    assert acknowledged == {run.id for run in await store.runs(limit=1000)}
    await store.stop()


async def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "relit.db"
    await (await opened(path)).stop()
    child = enqueuing(path, 1_000_000)
    assert child.stdout is not None
    acknowledged = [child.stdout.readline().strip() for _ in range(300)]
    os.kill(child.pid, signal.SIGKILL)
    rest, _ = await asyncio.to_thread(child.communicate)
    acknowledged += [line for line in rest.split("\n")[:-1] if line]
    store = await opened(path)
    durable = {run.id for run in await store.runs(limit=1_000_000)}
    assert set(acknowledged) <= durable
    assert await store.check() == []
    await store.stop()


async def test_a_fork_in_another_process_wakes_a_subscriber_here(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "relit.db")
    await store.start()
    ready = store.subscribe("ready")
    child = enqueuing(tmp_path / "relit.db", 10)
    assert await ready.wait(30)
    await asyncio.to_thread(child.communicate, timeout=30)
    await store.stop()


async def test_a_late_claim_of_a_dead_boot_counts_as_expired(tmp_path: Path) -> None:
    store = await opened(tmp_path / "relit.db")
    worker = await joined(store)
    await store.enqueue([new_run(id="r")])
    claimed = await store.claim(worker, ["a/w"], 1)
    await store.stop()
    other = apsw.Connection(str(tmp_path / "relit.db"))
    other.execute("UPDATE workers SET lease_boot = 'an earlier boot', lease_until = 1 << 60")
    other.close()
    store = await opened(tmp_path / "relit.db")
    assert await store.expired_workers() == [worker]
    reaped = await store.reap(worker, proven=False, poison_after=5)
    assert reaped is not None
    assert reaped.runs == 1
    with pytest.raises(Exception, match="not the newest"):
        await store.append(
            Fence("r", claimed[0].epoch), [Step(seq=1, pos="1", kind="step", name="s", hash=b"", result=b"")]
        )
    await store.stop()


def test_many_open_a_file_that_nobody_has_made_yet(tmp_path: Path) -> None:
    """Server, volumes, workers and the gateway do, at their very first start."""
    faults: list[Exception] = []

    def open_it(path: Path, together: threading.Barrier) -> None:
        together.wait()
        try:
            connection = open_connection(path)
            migrate(connection, path)
            connection.close()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told below
            faults.append(error)

    for number in range(60):
        together = threading.Barrier(6)
        threads = [threading.Thread(target=open_it, args=(tmp_path / f"{number}.db", together)) for _ in range(6)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert faults == []
