"""A client's view of freezing: ask the keeper, let go by ourselves when it dies meanwhile. Never starts a keeper."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relit.control.paths import hang_up, short_path
from relit.errors import FreezeFailed, RelitError
from relit.node import guests, kin, still
from relit.node.keeper_lives import load

_TRIES, _PAUSE_S = 20, 0.005
ASK_S = 5.0  # a keeper that takes longer than this hangs: its guard and we let go


class KeeperLine:
    """One connection to a keeper that runs already. What was frozen over it goes on when it is closed."""

    def __init__(self, run_dir: Path) -> None:
        self._dir = run_dir
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> bool:
        """Connect. False: no keeper runs."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            with short_path(self._dir / "keeper.sock") as path:
                await asyncio.get_running_loop().sock_connect(sock, path)
            self._reader, self._writer = await asyncio.open_unix_connection(sock=sock, limit=64 << 20)
        except OSError:
            sock.close()
            return False
        except BaseException:
            sock.close()
            raise
        return True

    async def ask(self, **request: Any) -> Any:
        """One operation's answer. ``Refused`` with the keeper's words, ``ConnectionError`` when it is gone or hangs."""
        if self._reader is None or self._writer is None:
            raise ConnectionError("not connected")
        try:
            async with asyncio.timeout(ASK_S):
                self._writer.write(json.dumps({"id": 1, **request}).encode() + b"\n")
                line = await self._reader.readline()
        except (OSError, TimeoutError) as error:
            raise ConnectionError(str(error) or f"no answer in {ASK_S:.0f} s") from error
        if not line.endswith(b"\n"):
            raise ConnectionError("it closed the connection")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"]["code"], answer["error"]["what"])
        return answer["ok"]

    async def close(self) -> None:
        """Hang up."""
        writer, self._writer, self._reader = self._writer, None, None
        await hang_up(writer)


class Refused(Exception):
    """The keeper's answer was no."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(code, what)
        self.code, self.what = code, what


def orphans(run_dir: Path, names: Sequence[str]) -> list[str]:
    """When no keeper answers: keys of the lives of these names that go on without it."""
    return [
        str(life["key"])
        for life in load(str(run_dir))
        if life["name"] in names and kin.alive(int(str(life["pid"])), int(str(life["start"])))
    ]


class Freezing:
    """Several instances, frozen together by one client. One use: ``freeze``, then ``thaw``."""

    def __init__(self, run_dir: Path, names: Sequence[str], hold_ms: int) -> None:
        self._line = KeeperLine(run_dir)
        self._dir = run_dir
        self._names = names
        self._hold_ms = hold_ms
        self._frozen: list[still.Still] = []
        self.processes = 0
        self.pids: set[int] | None = set()  # None: the keeper is of an older relit and does not tell
        self.how: set[str] = set()

    async def freeze(self) -> bool:
        """False: none of them runs, or no keeper does. Raises ``FreezeFailed``, and then nothing is frozen."""
        if not await self._line.open():
            if orphans(self._dir, self._names):
                raise FreezeFailed(f"{', '.join(self._names)} was not frozen", why="its keeper was killed just now")
            return False
        try:
            for name in self._names:
                self._took(await self._ask(name))
        except Refused as refused:
            await self._undo()
            raise self._failed(refused) from refused
        except ConnectionError as error:
            await self._undo()
            raise FreezeFailed(f"{', '.join(self._names)} was not frozen", why=f"the keeper: {error}") from error
        except BaseException:
            await self._undo()
            raise
        if not self._frozen:
            await self._line.close()
        return bool(self._frozen)

    async def _ask(self, name: str) -> Any:
        """One that is just being started stands still a moment later."""
        for again in range(_TRIES, -1, -1):
            try:
                return await self._line.ask(do="freeze", name=name, hold_ms=self._hold_ms)
            except Refused as refused:
                if refused.code != "busy" or not name.endswith(f".{guests.NAME}") or not again:
                    raise
            await asyncio.sleep(_PAUSE_S)
        raise AssertionError("the last try answers or raises")

    def _took(self, answer: dict[str, Any] | None) -> None:
        if answer is not None:
            self._frozen.append(still.read(answer))
            self.processes += answer["processes"]
            standing = answer.get("standing")
            self.pids = None if self.pids is None or standing is None else self.pids.union(standing)
            self.how.add(answer["how"])

    def _failed(self, refused: Refused) -> RelitError:
        fix = {"unknown": "relit down, then relit up: the running keeper is of an older relit"}.get(refused.code, "")
        return FreezeFailed(f"{', '.join(self._names)} was not frozen", why=refused.what, fix=fix)

    async def thaw(self) -> bool:
        """Let them go on. False: somebody had done that before."""
        held = bool(self._frozen)
        try:
            for each in self._frozen:
                held = (await self._line.ask(do="thaw", name=each.name))["held"] and held
        except (ConnectionError, Refused):
            held = False
            await self._undo()
        except BaseException:
            await self._undo()
            raise
        self._frozen = []
        await self._line.close()
        return held

    async def _undo(self) -> None:
        """Whatever became of the keeper: nothing of ours stays frozen."""
        for each in self._frozen:
            still.let_go(each)
        self._frozen = []
        with contextlib.suppress(OSError):
            await self._line.close()
