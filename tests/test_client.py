"""The client against a real server, with real restarts in between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from relit import errors
from relit.api.auth import ensure_token
from relit.api.build import build
from relit.api.parts import Options, Parts
from relit.api.server import ApiServer
from relit.client import Client
from relit.durable.engine import Engine
from relit.durable.faults import describe, dump
from relit.durable.payload import Payloads
from relit.lib.proc import myself
from relit.link import Frame, frames, restore
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Fence, Finish, Run, Step, StreamItem, WorkerInfo
from relit.store.wakeups import Wakeups


class World:
    """A store that lives on, a server on a fixed port that comes and goes, and a worker's hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = SqliteStore(folder / "relit.db", wakeups=Wakeups())
        self.engine = Engine(self.store, Payloads())
        self.server: ApiServer | None = None
        self.port = 0
        self.seq = 0

    async def up(self) -> None:
        parts = Parts(self.engine, Options(keep_alive=0.2))
        self.server = ApiServer(build(parts), port=self.port, closing=parts.closing.close)
        await self.server.start()
        self.port = self.server.port

    async def down(self) -> None:
        if self.server is not None:
            await self.server.stop()

    async def restart(self) -> None:
        await self.down()
        await self.up()

    async def claim(self, *targets: str) -> Run:
        me = myself()
        info = WorkerInfo(
            id="hand", host="h", pid=me.pid, start=me.start, boot=me.boot, namespace=me.namespace, targets=[*targets]
        )
        await self.store.join(info, 60_000)
        (run,) = await self.store.claim("hand", targets, 1)
        return run

    async def step(self, run: Run, result: object) -> None:
        self.seq += 1
        packed = await self.engine.payloads.encode(result)
        step = Step(seq=self.seq, pos=str(self.seq), kind="step", name="s", hash=b"", result=packed)
        await self.store.append(Fence(run.id, run.epoch), [step])

    async def emit(self, run: Run, idx: int, data: object) -> None:
        packed = await self.engine.payloads.encode(data)
        await self.store.emit(Fence(run.id, run.epoch), [StreamItem(idx=idx, pos="1", attempt=1, data=packed)])

    async def complete(self, run: Run, output: object) -> None:
        packed = await self.engine.payloads.encode(output)
        await self.store.finish(Fence(run.id, run.epoch), Finish(state="completed", output=packed))

    async def fail(self, run: Run, error: Exception) -> None:
        await self.store.finish(Fence(run.id, run.epoch), Finish(state="failed", error=dump(describe(error))))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.store.start()
    await world.up()
    yield world
    await world.down()
    await world.store.stop()


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    token = await ensure_token(world.store, world.folder)
    async with Client(f"http://127.0.0.1:{world.port}", token, patience=10) as client:
        yield client


@dataclass
class Order:
    number: int
    blob: bytes = b""


async def test_a_message_goes_out_and_a_typed_result_comes_back(world: World, client: Client) -> None:
    sent = await client.send("auditor", Order(7, b"\x00\xff"), priority=80, delay="0s", expire="1h")
    assert sent.created
    run = await world.claim("auditor/message")
    assert (await world.engine.payloads.decode(run.input))["args"] == [{"number": 7, "blob": b"\x00\xff"}]
    await world.complete(run, {"number": 8, "blob": b"\xfe"})
    assert await client.result(sent.id) == {"number": 8, "blob": b"\xfe"}
    assert await client.result(sent.id, type=Order) == Order(8, b"\xfe")
    with pytest.raises(errors.Unserialisable):
        await client.result(sent.id, type=int)


async def test_many_messages_are_one_commit(client: Client) -> None:
    sent = await client.send_many("auditor", [1, 2, 3], priority=10)
    runs = await client.runs(agent="auditor")
    assert [run.id for run in runs] == [each.id for each in sent][::-1]
    assert {run.priority for run in runs} == {10}


async def test_what_cannot_be_sent_is_told_before_it_is_sent(client: Client) -> None:
    with pytest.raises(errors.Unserialisable, match="JSON form"):
        await client.send("auditor", object())


async def test_errors_are_those_of_relit(world: World, client: Client) -> None:
    with pytest.raises(errors.NotFound, match="no run"):
        await client.run("0" * 26)
    with pytest.raises(errors.Invalid):
        await client.start("a/b", priority=200)
    await client.configure_mailbox("auditor", depth=1)
    await client.send("auditor", 1)
    with pytest.raises(errors.MailboxFull) as full:
        await client.send("auditor", 2)
    assert full.value.retry_after >= 1
    assert full.value.retry
    (run,) = await client.runs()
    await client.cancel(run.id, "enough")
    with pytest.raises(errors.Conflict):
        await client.cancel(run.id)
    with pytest.raises(errors.RunCancelled, match="enough"):
        await client.result(run.id)
    async with Client(client.url, "wrong") as stranger:
        with pytest.raises(errors.Unauthorized, match="not known here"):
            await stranger.runs()
        with pytest.raises(errors.Unauthorized):
            await anext(stranger.events())


async def test_a_failed_run_raises_with_its_reason(world: World, client: Client) -> None:
    started = await client.start("auditor/audit", [1], {"deep": True})
    await world.fail(await world.claim("auditor/audit"), ValueError("no luck"))
    with pytest.raises(errors.RunFailed, match="ValueError: no luck"):
        await client.result(started.id)
    assert (await client.retry(started.id)).state == "available"


async def test_a_run_out_of_time_says_so(world: World, client: Client) -> None:
    started = await client.start("auditor/audit", timeout="1h")
    await world.fail(await world.claim("auditor/audit"), errors.RunTimeout("late", why="an hour has passed"))
    with pytest.raises(errors.RunTimeout, match="an hour has passed"):
        await client.result(started.id)


async def test_a_wait_that_is_too_short_says_what_it_waits_for(client: Client) -> None:
    started = await client.start("auditor/audit")
    with pytest.raises(errors.WaitTimeout, match="it is available"):
        await client.result(started.id, timeout="50ms")


async def test_a_wait_survives_restarts_of_the_server(world: World, client: Client) -> None:
    started = await client.start("auditor/audit")
    run = await world.claim("auditor/audit")
    waiting = asyncio.ensure_future(client.result(started.id, timeout="30s"))
    for _ in range(3):
        await world.restart()
        assert not waiting.done()
    await world.down()
    await world.complete(run, "done")
    await world.up()
    assert await waiting == "done"


async def test_a_send_waits_for_a_server_that_is_away_and_is_done_once(world: World, client: Client) -> None:
    await client.ready()
    await world.down()
    sending = asyncio.ensure_future(client.send("auditor", "hello"))
    await asyncio.sleep(0)
    await world.up()
    assert (await sending).created
    assert len(await client.runs()) == 1


async def test_a_send_whose_answer_was_lost_is_done_once(world: World, client: Client) -> None:
    """A relay hands the first request on and drops the answer."""
    dropped = 0

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dropped
        out, into = await asyncio.open_connection("127.0.0.1", world.port)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        into.write(head + await reader.readexactly(length))
        answer = await out.readuntil(b"\r\n\r\n")
        if dropped:
            writer.write(answer + await out.read(1000))
            await writer.drain()
        dropped += 1
        into.close()
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    token = (world.folder / "token").read_text().strip()
    async with Client(f"http://127.0.0.1:{port}", token, patience=5) as through:
        sent = await through.send("auditor", "once")
    server.close()
    await server.wait_closed()
    assert dropped == 2
    assert not sent.created
    assert [run.id for run in await client.runs()] == [sent.id]


async def test_a_server_that_stays_away_is_told(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with Client(url, patience=0.1) as client:
            with pytest.raises(errors.ServerUnreachable, match="relit up") as away:
                await client.runs()
            with pytest.raises(errors.ServerUnreachable):
                await client.wait("0" * 26, timeout="100ms")
            with pytest.raises(errors.ServerUnreachable):
                await anext(client.events())
    assert away.value.retry
    async with Client("http://no such host", patience=0) as client:
        with pytest.raises(errors.RelitError):
            await client.runs()


async def test_whoever_waits_for_a_server_is_told_so_once() -> None:
    heard: list[tuple[str, float]] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with Client(url, patience=4.5, notice=lambda error, left: heard.append((error.what, left))) as client:
            with pytest.raises(errors.ServerUnreachable):
                await client.runs()
    ((what, left),) = heard
    assert what == f"no relit server answers at {url}"
    assert 0 < left <= 1.5


async def test_what_is_no_relit_server_is_told(world: World) -> None:
    problem = restore(502, b"<html>Bad Gateway</html>", None)
    assert "502" in problem.what
    assert "Bad Gateway" in problem.why


async def test_a_stream_survives_restarts_without_loss_or_repetition(world: World, client: Client) -> None:
    started = await client.start("auditor/audit")
    run = await world.claim("auditor/audit")
    seen: list[object] = []
    async with aclosing(client.stream(started.id)) as stream:
        for n in range(6):
            await world.step(run, n)
            await world.emit(run, n, f"item {n}")
            if n % 2:
                await world.restart()
            while len(seen) < 2 * (n + 1):
                told = await anext(stream)
                if told.event in ("step", "item"):
                    seen.append(told.data.result if told.event == "step" else told.data.data)  # type: ignore[union-attr]
        await world.complete(run, "done")
        rest = [told async for told in stream]
    assert [value for value in seen if isinstance(value, int)] == list(range(6))
    assert [value for value in seen if isinstance(value, str)] == [f"item {n}" for n in range(6)]
    assert rest[-1].event == "end"
    assert rest[-1].data.output == "done"  # type: ignore[union-attr]


async def test_events_survive_restarts_without_loss_or_repetition(world: World, client: Client) -> None:
    sent = []
    async with aclosing(client.events(["run.enqueued"], after="start")) as events:
        for n in range(6):
            sent.append((await client.send("auditor", n)).id)
            if n % 2:
                await world.restart()
            assert (await anext(events)).run == sent[-1]


async def test_signals_are_delivered_once(world: World, client: Client) -> None:
    started = await client.start("auditor/audit")
    assert await client.signal(started.id, "go", {"by": "me"}, id="s") is True
    assert await client.signal(started.id, "go", {"by": "me"}, id="s") is False


async def test_runs_are_looked_at_and_changed(world: World, client: Client) -> None:
    started = await client.start("auditor/audit", ["x"])
    run = await world.claim("auditor/audit")
    for n in range(3):
        await world.step(run, n)
    assert [step.result async for step in client.journal(started.id)] == [0, 1, 2]
    assert await client.waits(started.id) == []
    await world.complete(run, None)
    forked = await client.fork(started.id, 2, input="y")
    assert [step.result async for step in client.journal(forked.id)] == [0, 1]
    assert (await client.run(forked.id[-8:])).input == {"args": ["y"], "kwargs": {}}
    assert (await client.pause(forked.id)).state == "parked"
    assert (await client.resume(forked.id)).state == "available"
    assert await client.effects() == []


async def test_the_rest_of_the_house(world: World, client: Client) -> None:
    await client.send("auditor", 1)
    assert [agent.name for agent in await client.agents()] == ["auditor"]
    assert (await client.pause_mailbox("auditor")).paused
    assert not (await client.resume_mailbox("auditor")).paused
    assert [box.name for box in await client.mailboxes()] == ["auditor"]
    made = await client.put_schedule("beat", agent="auditor", message="Look.", every="30m")
    assert await client.schedules() == [made] == [await client.schedule("beat")]
    assert (await client.pause_schedule("beat")).paused
    assert not (await client.resume_schedule("beat")).paused
    assert (await client.trigger_schedule("beat")).created
    assert [firing.outcome for firing in await client.firings("beat")] == ["fired"]
    await client.remove_schedule("beat")
    assert await client.workers() == [] == await client.nodes()
    made_token = await client.new_token("ci", ["read"])
    assert made_token.token
    assert "ci" in [token.name for token in await client.tokens()]
    await client.remove_token("ci")
    subscriber = await client.put_subscriber("ops", "https://example.org/hook", ["run.*"])
    assert subscriber.secret
    assert [each.name for each in await client.subscribers()] == ["ops"]
    await client.remove_subscriber("ops")
    assert (await client.ready()).status == "ready"


async def test_more_runs_than_a_page_are_read_page_by_page(client: Client) -> None:
    for agent in ("a", "b", "c"):
        await client.send_many(agent, list(range(400)))
    found = await client.runs(limit=1100)
    assert len({run.id for run in found}) == len(found) == 1100
    assert [run.id for run in found] == sorted((run.id for run in found), reverse=True)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_frames_are_read_however_the_bytes_are_cut(size: int) -> None:
    text = 'event: a\nid: 1\ndata: {"x":"\u2028\x85é"}\n\n: comment\n\nid: 2\n\nevent: b\nid: 3\ndata: 1\n\nevent: half'
    data = text.encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    found = [frame async for frame in frames(chunks())]
    assert found == [
        Frame("a", "1", '{"x":"\u2028\x85é"}'.encode()),
        Frame("", "", b""),
        Frame("", "2", b""),
        Frame("b", "3", b"1"),
    ]


def test_the_client_imports_neither_httpx_nor_the_store_s_engines() -> None:
    import subprocess
    import sys

    code = (
        "import sys, relit.client; print(sorted({'httpx','apsw','asyncpg','starlette','obstore'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_documents_ignore_what_a_newer_server_adds() -> None:
    from relit.documents import Accepted

    assert msgspec.json.decode(b'{"id":"1","created":true,"new":[1]}', type=Accepted) == Accepted(id="1", created=True)
