"""The keeper's client. It starts the keeper when none answers, and a new one when the old one dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relit.control.paths import hang_up, short_path
from relit.drivers.base import Exit, Launch, Life
from relit.errors import Conflict, FreezeFailed, InstanceHeld, KeeperUnreachable, NotFound, RelitError, StartFailed
from relit.lib.service import Tasks
from relit.node import keeper

HOUR_MS = 3_600_000
CALL_S = 10.0
LIMIT = 64 << 20
_BOOT = Path(__file__).with_name("keeper_boot.py")


async def ensure_keeper(run_dir: Path, *, groups: bool = True) -> KeeperClient:
    """A connected client of the folder's keeper, started when there is none. Raises ``KeeperUnreachable``.

    ``groups=False`` keeps a newly started keeper from using cgroups.
    """
    client = KeeperClient(run_dir, groups=groups)
    await client.start()
    return client


class KeeperClient:
    """Talks to the keeper of ``run_dir`` and follows its successors: callers do not notice when one is killed."""

    def __init__(self, run_dir: Path, *, groups: bool = True) -> None:
        self._dir = run_dir
        self._groups = groups
        self._numbers = 0
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._lives: dict[str, Life] = {}
        self._waiting: dict[str, list[asyncio.Future[Exit]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._last: asyncio.StreamWriter | None = None  # the newest, also after it broke: its socket is waited for
        self._connecting = asyncio.Lock()
        self._gone = asyncio.Event()  # the connection is
        self._stopped = False
        self._trouble: BaseException | None = None
        self._tasks = Tasks(self._failed)
        self.pid = 0  # of the keeper now connected
        self.started = 0  # keepers that this client had to start

    async def start(self) -> None:
        """Connect; start the keeper first when nobody answers."""
        await self._connection()

    async def stop(self) -> None:
        """Disconnect. The keeper and its children go on."""
        self._stopped = True
        await self._tasks.stop()
        self._disconnect(KeeperUnreachable("the client was stopped"))
        await hang_up(self._last)

    async def shutdown(self) -> None:
        """End the keeper too. Raises ``Conflict`` while any life goes on."""
        await self._connection()
        self._stopped = True
        try:
            await self._request({"do": "exit"})
            async with asyncio.timeout(CALL_S):
                await self._gone.wait()
        except (KeeperUnreachable, TimeoutError):
            pass  # it ended before its answer reached us, or is ending
        except RelitError:
            self._stopped = False
            raise
        await self.stop()

    # --- lives -------------------------------------------------------------------------------------------------

    async def start_life(self, launch: Launch) -> Life:
        """Start a child, once: asking again with the same key answers the same life."""
        fields = {name: getattr(launch, name) for name in launch.__struct_fields__}
        return _life(await self._call({"do": "start", **fields}))

    async def stand_by(self, launch: Launch, after: str, unless: Sequence[int], gate: int | None) -> None:
        """Have a child ready for when another life ends. ``gate``: the descriptor at which its program waits."""
        fields = {name: getattr(launch, name) for name in launch.__struct_fields__}
        await self._call({"do": "stand_by", **fields, "after": after, "unless": [*unless], "gate": gate})

    async def lives(self) -> list[Life]:
        """Every life, ended ones until they are forgotten."""
        return [_life(view) for view in (await self._call({"do": "list"}))["lives"]]

    async def life(self, key: str) -> Life | None:
        """One life as it was last told: what changes without an event (``frozen_ms``) may be older."""
        await self._connection()
        if key not in self._lives:
            await self.lives()
        return self._lives.get(key)

    async def signal(self, key: str, number: int, whole: bool) -> bool:
        """Signal a life; false when it has ended or is unknown."""
        try:
            return bool(await self._call({"do": "signal", "key": key, "number": number, "whole": whole}))
        except NotFound:
            return False

    async def kill(self, key: str) -> None:
        """Kill a life's whole tree. Unknown keys are fine."""
        with contextlib.suppress(NotFound):
            await self._call({"do": "kill", "key": key})

    async def park(self, name: str) -> list[int]:
        """Have the living one of that name stand still until ``wake``: its processes; none: nothing of it runs, or it
        would not. Safe twice."""
        try:
            answer = await self._call({"do": "freeze", "name": name, "park": True})
        except FreezeFailed:
            return []
        if answer is None:
            return []
        if answer["until_ms"] < time.clock_gettime(time.CLOCK_BOOTTIME) * 1000 + HOUR_MS:  # of an older relit
            await self._call({"do": "thaw", "name": name})
            return []
        return list(answer["standing"])

    async def wake(self, name: str) -> None:
        """It goes on. Safe twice."""
        await self._call({"do": "thaw", "name": name, "park": True})

    async def ended(self, key: str) -> Exit:
        """Wait for a life's end. An unknown key has ended, nobody knows how."""
        life = await self.life(key)
        if life is None:
            return Exit()
        if life.exit is not None:
            return life.exit
        future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        return await future

    async def forget(self, key: str) -> None:
        """Drop an ended life's record."""
        await self._call({"do": "forget", "key": key})
        self._lives.pop(key, None)

    # --- calls -------------------------------------------------------------------------------------------------

    async def _call(self, request: dict[str, Any]) -> Any:
        """Ask; when the keeper dies meanwhile, ask its successor (every operation may be repeated)."""
        wait = 0.0
        try:
            async with asyncio.timeout(CALL_S):
                while True:
                    await self._connection()
                    try:
                        return await self._request(request)
                    except KeeperUnreachable:
                        if self._stopped:
                            raise
                    await asyncio.sleep(wait)  # a keeper that dies again and again is not hammered
                    wait = min(1.0, wait * 2 + 0.01)
        except TimeoutError as error:
            raise self._unreachable("no answer in 10 s") from error

    async def _request(self, request: dict[str, Any]) -> Any:
        if self._writer is None:
            raise self._unreachable("not connected")
        self._numbers += 1
        number = self._numbers
        answer = self._pending[number] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(json.dumps({"id": number, **request}).encode() + b"\n")
            return await answer
        finally:
            self._pending.pop(number, None)

    def _unreachable(self, why: str) -> KeeperUnreachable:
        return KeeperUnreachable(
            f"the keeper of {self._dir} cannot be reached", why=why, fix=f"look into {self._dir}/keeper.log"
        )

    # --- connection --------------------------------------------------------------------------------------------

    async def _connection(self) -> None:
        async with self._connecting:
            if self._writer is None:
                if self._stopped:
                    raise self._unreachable("the client was stopped")
                await self._insist()

    async def _insist(self) -> None:
        """A keeper that was ending when it was reached is not the one that counts: look for its successor."""
        for last in (False, False, True):
            try:
                return await self._connect()
            except KeeperUnreachable:
                if last or self._stopped:
                    raise

    async def _connect(self) -> None:
        reader, writer = await self._find()
        self._writer = self._last = writer
        self._gone.clear()
        snapshot = asyncio.get_running_loop().create_future()
        self._tasks.spawn(self._read(reader, snapshot), "keeper-reader")
        writer.write(b'{"id":0,"do":"watch"}\n')
        try:
            async with asyncio.timeout(CALL_S):
                hello = await snapshot
        except TimeoutError as error:
            self._disconnect(self._unreachable("no answer"))
            raise self._unreachable(f"it accepted the connection and did not answer in {CALL_S:.0f} s") from error
        if hello["protocol"] != keeper.PROTOCOL:
            self._disconnect(self._unreachable("another version"))
            raise Conflict("the running keeper is of another relit version", fix="relit down, then relit up")

    async def _find(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to whoever listens; else start a keeper, and connect to it or to the one that was quicker."""
        for attempt in range(200):
            try:
                return await self._dial()
            except OSError as error:
                self._trouble = error
            if await asyncio.to_thread(launch, self._dir, self._groups):
                self.started += 1
            elif attempt:
                await asyncio.sleep(0.02)  # another keeper holds the lock and is about to listen, or about to end
        raise self._unreachable(str(self._trouble)) from self._trouble

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            with short_path(self._dir / "keeper.sock") as path:
                await asyncio.get_running_loop().sock_connect(sock, path)
            return await asyncio.open_unix_connection(sock=sock, limit=LIMIT)
        except BaseException:
            sock.close()
            raise

    async def _read(self, reader: asyncio.StreamReader, snapshot: asyncio.Future[Any]) -> None:
        lost = "it closed the connection"
        try:
            while line := await reader.readline():
                self._receive(json.loads(line), snapshot)
        except (OSError, ValueError) as error:
            lost = str(error)
        self._disconnect(self._unreachable(lost))
        if not snapshot.done():
            snapshot.set_exception(self._unreachable(lost))
        if not self._stopped:
            self._tasks.spawn(self._reconnect(), "keeper-reconnect")

    async def _reconnect(self) -> None:
        """Somebody may be waiting for an end: find or start the next keeper without being asked."""
        pause = 0.05
        while not self._stopped:
            try:
                return await self._connection()
            except (KeeperUnreachable, OSError) as error:
                self._trouble = error
                await asyncio.sleep(pause)
                pause = min(5.0, pause * 2)

    def _receive(self, message: dict[str, Any], snapshot: asyncio.Future[Any]) -> None:
        if "event" in message:
            if "next" in message:
                self._learn(_life(message["next"]))
            self._learn(_life(message["life"]))
            return
        if message["id"] == 0 and not snapshot.done():
            self._take(message["ok"])
            snapshot.set_result(message["ok"])
            return
        answer = message.get("ok")
        if isinstance(answer, dict):  # also when nobody waits for it any more: the life is there all the same
            for view in answer.get("lives", [answer] if "state" in answer else []):
                self._learn(_life(view))
        future = self._pending.get(message["id"])
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(_error(message["error"]))
        else:
            future.set_result(answer)

    def _take(self, hello: dict[str, Any]) -> None:
        self.pid = hello["pid"]
        self._lives = {}
        for view in hello["lives"]:
            self._learn(_life(view))
        for key in [key for key in self._waiting if key not in self._lives]:
            self._tell(key, Exit())

    def _learn(self, life: Life) -> None:
        self._lives[life.key] = life
        if life.exit is not None:
            self._tell(life.key, life.exit)

    def _tell(self, key: str, end: Exit) -> None:
        for future in self._waiting.pop(key, []):
            if not future.done():
                future.set_result(end)

    def _disconnect(self, why: KeeperUnreachable) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._gone.set()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(why)

    def _failed(self, error: BaseException) -> None:
        self._trouble = error
        trouble = self._unreachable(str(error))
        self._disconnect(trouble)
        for key in list(self._waiting):
            for future in self._waiting.pop(key):
                if not future.done():
                    future.set_exception(trouble)


def launch(run_dir: Path, groups: bool = True) -> bool:
    """Start a keeper and wait until it listens. False when another one has the folder. Blocking, some 50 ms."""
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = os.open(run_dir / "keeper.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        command = [sys.executable, "-I", "-S", str(_BOOT), str(run_dir.resolve())]
        command += [] if groups else ["--no-groups"]
        said = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, check=False, timeout=CALL_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KeeperUnreachable("the keeper did not start", why=str(error), fix=f"look into {run_dir}") from error
    finally:
        os.close(log)
    if said.stdout not in (b"ready", b"busy"):
        tail = (run_dir / "keeper.log").read_text(errors="replace").strip().splitlines()[-1:]
        raise KeeperUnreachable("the keeper did not start", why="".join(tail), fix=f"look into {run_dir}/keeper.log")
    return said.stdout == b"ready"


def _life(view: dict[str, Any]) -> Life:
    end = Exit(view["code"], view["signal"]) if view["state"] == "exited" else None
    names = ("key", "name", "tag", "pid", "start", "begun_ms", "adopted")
    still = {
        name: view[name] for name in ("ended_ms", "frozen_ms", "thawed_ms") if name in view
    }  # a keeper may be older than we
    return Life(**{name: view[name] for name in names}, **still, exit=end)


def _error(error: dict[str, str]) -> RelitError:
    kinds = {"exec": StartFailed, "held": InstanceHeld, "conflict": Conflict, "not-found": NotFound,
             "busy": FreezeFailed, "failed": FreezeFailed}  # fmt: skip
    return kinds.get(error["code"], RelitError)(f"the keeper refused: {error['what']}")
