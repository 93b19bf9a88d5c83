"""What every transport between node and server does."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from relit.control.base import Control, ControlBackend
from relit.control.care import ConfigFile, Entry, Incident, KnownGood, Tried, Went
from relit.control.local import LocalControl
from relit.control.unix import UnixControl, UnixControlServer
from relit.control.values import Activity, Death, Desired, InstanceSpec, Load, Measured, NodeInfo, Probe
from relit.errors import Conflict, ServerUnreachable
from relit.events import Event
from relit.lib import proc


class Server:
    """A backend that writes down what it was told."""

    def __init__(self) -> None:
        self.nodes: list[NodeInfo] = []
        self.events: list[Event] = []
        self.deaths: list[Death] = []
        self.incidents: list[Incident] = []
        self.asked: list[tuple[str | int, ...]] = []
        self.good = KnownGood()
        self.wish = Desired(version=1)
        self.changed = asyncio.Event()
        self.refuse: Exception | None = None
        self.hold = asyncio.Event()
        self.hold.set()

    async def hello(self, node: NodeInfo) -> None:
        self.nodes.append(node)

    async def report(self, events: Sequence[Event]) -> None:
        await self.hold.wait()
        if self.refuse is not None:
            raise self.refuse
        self.events.extend(events)

    async def desired(self, version: int, wait_s: float) -> Desired:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self.wish.version == version:
                    await self.changed.wait()
        return self.wish

    async def worker_died(self, death: Death) -> None:
        self.deaths.append(death)

    async def incident(self, incident: Incident) -> None:
        self.incidents.append(incident)

    async def known_good(
        self, agent: str, files: Sequence[ConfigFile] = (), *, broken: bool = False, before: Sequence[str] = ()
    ) -> KnownGood:
        self.asked.append(("known_good", agent, *(each.path for each in files), *before))
        return self.good

    async def go_back(self, agent: str, number: int, files: Sequence[str] = ()) -> Went:
        self.asked.append(("go_back", agent, number, *files))
        return Went(to=number, before=9, written=len(files))

    async def try_home(self, agent: str, number: int, within_ms: int) -> Tried:
        self.asked.append(("try_home", agent, number, within_ms))
        return Tried(why="it ended", took_ms=3, notes=["no sandbox"])

    async def mark_good(self, agent: str) -> int:
        self.asked.append(("mark_good", agent))
        return self.good.number

    async def activity(self) -> Activity:
        return Activity(busy=["ada"], effects=["bob"], loads={"ada": Load(3, 2)})

    async def footprints(self, learnt: Sequence[Measured]) -> list[Measured]:
        return [*learnt, Measured(of="hermes 1", peak=3, settled=2, cpu_s=0.5, seen=4)]


@asynccontextmanager
async def local(backend: ControlBackend, folder: Path) -> AsyncIterator[Control]:
    control = LocalControl(backend)
    await control.start()
    yield control
    await control.stop()


@asynccontextmanager
async def unix(backend: ControlBackend, folder: Path) -> AsyncIterator[Control]:
    server = UnixControlServer(folder / "control.sock", backend)
    await server.start()
    control = UnixControl(folder / "control.sock", timeout_s=2)
    await control.start()
    yield control
    await control.stop()
    await server.stop()


Transport = Callable[[ControlBackend, Path], AbstractAsyncContextManager[Control]]
TRANSPORTS: dict[str, Transport] = {"local": local, "unix": unix}


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture(params=list(TRANSPORTS))
async def control(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> AsyncIterator[Control]:
    async with TRANSPORTS[request.param](server, tmp_path) as opened:
        yield opened


def event(number: int = 1) -> Event:
    return Event(f"e{number}", 5, "instance.died", data={"instance": "web", "code": None, "signal": 9, "ü": ["\n"]})


async def test_values_arrive_as_they_were_sent(control: Control, server: Server) -> None:
    node = NodeInfo(name="n", process=proc.myself(), host="h")
    death = Death(instance="worker", process=proc.myself(), exit="signal 9")
    await control.hello(node)
    await control.report([event(1), event(2)])
    await control.worker_died(death)
    assert (server.nodes, server.events, server.deaths) == ([node], [event(1), event(2)], [death])


async def test_what_heals_an_agent_is_asked_and_answered(control: Control, server: Server) -> None:
    server.good = KnownGood(number=4, at_ms=7, older=[(3, 5), (2, 4)], clones=True, newest=6, config={"a.json": "-x"})
    trouble = Incident(id="i", agent="ada", instance="ada", opened_ms=1, timeline=[Entry(at_ms=1, what="died")])
    await control.incident(trouble)
    assert server.incidents == [trouble]
    assert await control.known_good("ada", [ConfigFile(path="a.json", format="json")], before=["d"]) == server.good
    assert await control.go_back("ada", 4, ["a.json"]) == Went(to=4, before=9, written=1)
    assert await control.try_home("ada", 3, 500) == Tried(why="it ended", took_ms=3, notes=["no sandbox"])
    assert await control.mark_good("ada") == 4
    assert await control.activity() == Activity(busy=["ada"], effects=["bob"], loads={"ada": Load(3, 2)})
    assert server.asked == [
        ("known_good", "ada", "a.json", "d"), ("go_back", "ada", 4, "a.json"), ("try_home", "ada", 3, 500),
        ("mark_good", "ada"),
    ]  # fmt: skip


async def test_what_starts_take_is_told_and_heard(control: Control) -> None:
    mine = Measured(of="openclaw 2", peak=9, settled=7, cpu_s=14.5, seen=1)
    found = await control.footprints([mine])
    assert found == [mine, Measured(of="hermes 1", peak=3, settled=2, cpu_s=0.5, seen=4)]


async def test_values_are_copies(control: Control, server: Server) -> None:
    sent = event()
    await control.report([sent])
    server.events[0].data["instance"] = "changed"
    assert sent.data["instance"] == "web"


async def test_wishes_are_told_at_once_when_they_are_new(control: Control, server: Server) -> None:
    spec = InstanceSpec(name="w", argv=["x"], ready=Probe(kind="tcp", target="localhost:1"))
    server.wish = Desired(version=4, instances=[spec])
    assert await control.desired(0, 30) == server.wish


async def test_wishes_are_waited_for(control: Control, server: Server) -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        asked = group.create_task(control.desired(1, 30))
        await control.report([event()])  # other calls pass by a waiting one
        server.wish = Desired(version=2)
        server.changed.set()
    assert asked.result().version == 2


async def test_without_news_the_old_wishes_are_told(control: Control) -> None:
    assert (await control.desired(1, 0.01)).version == 1


async def test_relits_errors_cross_whole(control: Control, server: Server) -> None:
    server.refuse = Conflict("what", why="why", fix="fix")
    with pytest.raises(Conflict) as caught:
        await control.report([event()])
    assert (caught.value.what, caught.value.why, caught.value.fix) == ("what", "why", "fix")


async def test_a_large_report_crosses(control: Control, server: Server) -> None:
    await control.report([Event("e", 0, "run.failed", data={"error": "x" * 1_000_000})] * 5)
    assert len(server.events) == 5


async def test_many_calls_at_once_are_not_mixed_up(control: Control, server: Server) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(control.report([event(number)]))
    assert {each.id for each in server.events} == {f"e{number}" for number in range(300)}


async def test_a_stopped_control_says_so(control: Control) -> None:
    await control.stop()
    await control.stop()
    with pytest.raises(ServerUnreachable):
        await control.report([event()])


# --- only over a socket ---------------------------------------------------------------------------------------------


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
async def line(path: Path) -> AsyncIterator[UnixControl]:
    control = UnixControl(path, timeout_s=0.5)
    await control.start()
    yield control
    await control.stop()


async def test_no_server_is_an_error_that_a_retry_can_cure(line: UnixControl, path: Path, server: Server) -> None:
    with pytest.raises(ServerUnreachable) as caught:
        await line.report([event()])
    assert caught.value.retry
    assert str(path) in caught.value.what
    listening = UnixControlServer(path, server)
    await listening.start()
    await line.report([event()])
    await listening.stop()
    assert len(server.events) == 1


async def test_a_server_that_comes_back_is_found_again(line: UnixControl, path: Path, server: Server) -> None:
    for _ in range(3):
        listening = UnixControlServer(path, server)
        await listening.start()
        await line.report([event()])
        await listening.stop()
        with pytest.raises(ServerUnreachable):
            await line.report([event()])


async def test_a_call_in_progress_fails_when_the_server_goes(line: UnixControl, path: Path, server: Server) -> None:
    listening = UnixControlServer(path, server)
    await listening.start()
    server.hold.clear()

    async def report() -> None:
        with pytest.raises(ServerUnreachable):
            await line.report([event()])

    async with asyncio.TaskGroup() as group:
        group.create_task(report())
        await line.hello(NodeInfo(name="n", process=proc.myself(), host="h"))
        await listening.stop()


async def test_a_server_that_does_not_answer_is_not_waited_for(line: UnixControl, path: Path, server: Server) -> None:
    listening = UnixControlServer(path, server)
    await listening.start()
    server.hold.clear()
    with pytest.raises(ServerUnreachable, match="no answer in"):
        await line.report([event()])
    await line.hello(NodeInfo(name="n", process=proc.myself(), host="h"))  # the connection is still good
    await listening.stop()


async def test_a_fault_of_the_server_is_told_and_kept(line: UnixControl, path: Path, server: Server) -> None:
    listening = UnixControlServer(path, server)
    await listening.start()
    server.refuse = ZeroDivisionError("oh")
    with pytest.raises(Exception, match="the server failed to answer"):
        await line.report([event()])
    assert "ZeroDivisionError" in listening.errors[-1]
    await listening.stop()


async def test_the_socket_is_private_and_goes_with_its_server(path: Path, server: Server) -> None:
    listening = UnixControlServer(path, server)
    await listening.start()
    assert path.stat().st_mode & 0o777 == 0o600
    await listening.stop()
    await listening.stop()
    assert not path.exists()


async def test_a_dead_servers_socket_is_replaced_a_live_ones_is_not(path: Path, server: Server) -> None:
    listening = UnixControlServer(path, server)
    await listening.start()
    with pytest.raises(OSError, match="in use"):
        await UnixControlServer(path, server).start()
    await listening.stop()
    import socket

    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    await listening.start()
    await listening.stop()


@pytest.mark.parametrize(
    "garbage",
    [b"\xff" * 64, struct.pack("!I", 5) + b"hello", struct.pack("!I", 2) + b"{}", b"\0\0\0\0", b"\0"],
)
async def test_garbage_ends_only_its_own_connection(
    line: UnixControl, path: Path, server: Server, garbage: bytes
) -> None:
    listening = UnixControlServer(path, server)
    await listening.start()
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(garbage)
    writer.write_eof()
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    await line.report([event()])
    await listening.stop()
