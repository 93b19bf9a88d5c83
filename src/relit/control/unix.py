"""Control over a unix socket: the server's end, and the node's, which connects again by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec

from relit.control.base import ControlBackend
from relit.control.care import ConfigFile, Incident, KnownGood, Tried, Went
from relit.control.paths import hang_up, short_path
from relit.control.values import Activity, Death, Desired, Measured, NodeInfo
from relit.control.wire import (
    Answer,
    AskActivity,
    AskGood,
    Call,
    Died,
    Failure,
    GoBack,
    Hello,
    MarkGood,
    Report,
    Request,
    TellFootprints,
    Trouble,
    TryHome,
    Want,
    encode,
    error_of,
    failure_of,
    perform,
    read_frame,
    result_of,
)
from relit.errors import RelitError, ServerUnreachable
from relit.events import Event
from relit.lib.service import Tasks

_LONG_S = 3600.0  # more than a call usually takes: a large home goes back
_AT_ONCE = 64  # calls of one connection in progress; more wait in the socket


class UnixControlServer:
    """Answers nodes at ``path`` (mode 0600) with a backend."""

    def __init__(self, path: Path, backend: ControlBackend) -> None:
        self._path = path
        self._backend = backend
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks = Tasks(self._failed)
        self.errors: list[str] = []  # the last few that were no relit errors; the node was told of each

    async def start(self) -> None:
        """Listen. A dead server's socket is replaced; a live one's raises ``OSError`` (address in use)."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with short_path(self._path) as path:
                _clear(path)
                old = os.umask(0o177)
                try:
                    sock.bind(path)
                finally:
                    os.umask(old)
            self._server = await asyncio.start_unix_server(self._serve, sock=sock)
        except BaseException:
            sock.close()
            raise

    async def stop(self) -> None:
        """Stop listening, drop the connections and the calls in progress."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        await self._tasks.stop()
        for writer in list(self._writers):
            await hang_up(writer)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        room = asyncio.Semaphore(_AT_ONCE)
        try:
            while body := await read_frame(reader):
                request = msgspec.json.decode(body, type=Request)
                await room.acquire()
                task = self._tasks.spawn(self._answer(request, writer), "control-call")
                task.add_done_callback(lambda _: room.release())
        except (OSError, ValueError) as error:
            self._note(f"a node's connection was dropped: {error}")
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        try:
            answer = Answer(request.id, msgspec.Raw(msgspec.json.encode(await perform(self._backend, request.call))))
        except RelitError as error:
            answer = Answer(request.id, failure=failure_of(error))
        except Exception as error:  # noqa: BLE001 - a fault in one call must not end the others'
            self._note(repr(error))
            answer = Answer(request.id, failure=Failure("error", "the server failed to answer", why=repr(error)))
        writer.write(encode(answer))
        with contextlib.suppress(ConnectionError):
            await writer.drain()

    def _failed(self, error: BaseException) -> None:
        self._note(repr(error))

    def _note(self, text: str) -> None:
        self.errors = [*self.errors[-19:], text]


def _clear(path: str) -> None:
    """Remove a socket that nobody listens on."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(1)
        probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
    except FileNotFoundError:
        return
    finally:
        probe.close()


class UnixControl:
    """The node's end. Calls share a connection, made at the first call and again after it broke."""

    def __init__(self, path: Path, *, timeout_s: float = 5.0) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._writer: asyncio.StreamWriter | None = None
        self._last: asyncio.StreamWriter | None = None  # the newest, also after it broke: its socket is waited for
        self._pending: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._number = 0
        self._stopped = True
        self._dialling = asyncio.Lock()
        self._tasks = Tasks(lambda error: self._lost(str(error)))

    async def start(self) -> None:
        """Be ready to call. Needs no server yet."""
        self._stopped = False

    async def stop(self) -> None:
        """Hang up. Calls in progress raise ``ServerUnreachable``."""
        self._stopped = True
        await self._tasks.stop()
        self._lost("the node hung up")
        await hang_up(self._last)

    async def hello(self, node: NodeInfo) -> None:
        """See ``ControlBackend``."""
        await self._call(Hello(node))

    async def report(self, events: Sequence[Event]) -> None:
        """See ``ControlBackend``."""
        await self._call(Report(list(events)))

    async def desired(self, version: int, wait_s: float) -> Desired:
        """See ``ControlBackend``."""
        return result_of(await self._call(Want(version, wait_s), wait_s), Desired)

    async def worker_died(self, death: Death) -> None:
        """See ``ControlBackend``."""
        await self._call(Died(death))

    async def incident(self, incident: Incident) -> None:
        """See ``ControlBackend``."""
        await self._call(Trouble(incident))

    async def known_good(
        self, agent: str, files: Sequence[ConfigFile] = (), *, broken: bool = False, before: Sequence[str] = ()
    ) -> KnownGood:
        """See ``ControlBackend``."""
        return result_of(await self._call(AskGood(agent, list(files), broken, list(before)), _LONG_S), KnownGood)

    async def go_back(self, agent: str, number: int, files: Sequence[str] = ()) -> Went:
        """See ``ControlBackend``."""
        return result_of(await self._call(GoBack(agent, number, list(files)), _LONG_S), Went)

    async def try_home(self, agent: str, number: int, within_ms: int) -> Tried:
        """See ``ControlBackend``."""
        return result_of(await self._call(TryHome(agent, number, within_ms), _LONG_S), Tried)

    async def mark_good(self, agent: str) -> int:
        """See ``ControlBackend``."""
        return result_of(await self._call(MarkGood(agent), _LONG_S), int)

    async def activity(self) -> Activity:
        """See ``ControlBackend``."""
        return result_of(await self._call(AskActivity()), Activity)

    async def footprints(self, learnt: Sequence[Measured]) -> list[Measured]:
        """See ``ControlBackend``."""
        return result_of(await self._call(TellFootprints(list(learnt))), list[Measured])

    async def _call(self, call: Call, longer_s: float = 0.0) -> msgspec.Raw:
        try:
            async with asyncio.timeout(self._timeout_s + longer_s):
                return await self._ask(call)
        except TimeoutError as error:
            raise self._unreachable(f"no answer in {self._timeout_s + longer_s:g} s") from error
        except OSError as error:
            self._lost(str(error))
            raise self._unreachable(str(error)) from error

    async def _ask(self, call: Call) -> msgspec.Raw:
        async with self._dialling:
            writer = self._writer or await self._dial()
        self._number += 1
        number = self._number
        answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        try:
            writer.write(encode(Request(number, call)))
            await writer.drain()
            return await answer
        finally:
            self._pending.pop(number, None)

    async def _dial(self) -> asyncio.StreamWriter:
        if self._stopped:
            raise self._unreachable("the node is not started or was stopped")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            with short_path(self._path) as path:
                await asyncio.get_running_loop().sock_connect(sock, path)
            reader, writer = await asyncio.open_unix_connection(sock=sock)
        except BaseException:
            sock.close()
            raise
        self._writer = self._last = writer
        self._tasks.spawn(self._read(reader, writer), "control-reader")
        return writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        why = "it closed the connection"
        try:
            while body := await read_frame(reader):
                self._receive(msgspec.json.decode(body, type=Answer))
        except (OSError, ValueError) as error:
            why = str(error)
        if self._writer is writer:
            self._lost(why)

    def _receive(self, answer: Answer) -> None:
        future = self._pending.get(answer.id)
        if future is None or future.done():
            return
        if answer.failure is None:
            future.set_result(answer.result)
        else:
            future.set_exception(error_of(answer.failure))

    def _lost(self, why: str) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for future in self._pending.values():
            if not future.done():
                future.set_exception(self._unreachable(why))

    def _unreachable(self, why: str) -> ServerUnreachable:
        return ServerUnreachable(f"no server answers the node at {self._path}", why=why, fix="relit ps shows who runs")
