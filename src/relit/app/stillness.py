"""Holds an agent still: its processes are frozen for a moment, or kept stopped for as long as it takes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec

from relit.errors import Conflict, FreezeFailed, RelitError
from relit.lib import proc
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.node import guests, holdfile
from relit.node.freeze import Freezing, KeeperLine, Refused, orphans
from relit.node.holdfile import Word
from relit.volumes.disk import attempted

HOLD_MS = 2_000  # a freeze that lasts longer is ended by the keeper
GRACE_S = 10.0  # as the node gives it between SIGTERM and SIGKILL
MARGIN_S = 10.0
_LOOK_S = 0.01
_BRIEF = " (a restart)"  # in a hold file, behind the name of an agent


class NoFreezer:
    """For an agent of which relit runs no process."""

    async def freeze(self) -> bool:
        """Nothing is running."""
        return False

    async def thaw(self) -> bool:
        """Nothing was frozen."""
        return False

    def pids(self) -> Collection[int] | None:
        """Nobody knows."""
        return None


class NoHolder:
    """For a folder that no instance works in."""

    async def hold(self, reason: str) -> None:
        """Nobody would be started."""

    async def release(self) -> None:
        """Nobody was held."""


class InstanceFreezer:
    """Freezes the instances that an agent lives in, all together. ``names`` is asked at every freeze.

    The keeper does it, and lets go when we or it are killed. No keeper is ever started for this.
    """

    def __init__(self, run_dir: Path, names: Callable[[], Sequence[str]], hold_ms: int = HOLD_MS) -> None:
        self._run_dir = run_dir
        self._names = names
        self._hold_ms = hold_ms
        self._now: Freezing | None = None

    async def freeze(self) -> bool:
        """True: all stand still. False: no keeper is there, or none of them runs. Raises ``FreezeFailed``."""
        if self._now is not None:
            raise FreezeFailed("it is frozen already", why="one snapshot is taken at a time")
        freezing = Freezing(self._run_dir, self._names(), self._hold_ms)
        if not await freezing.freeze():
            return False
        self._now = freezing
        return True

    def pids(self) -> Collection[int] | None:
        """The processes that stand still now; ``None``: not known."""
        return self._now.pids if self._now is not None else None

    async def thaw(self) -> bool:
        """Let them go on. False: they did not stand still until now. Safe twice."""
        freezing, self._now = self._now, None
        return freezing is not None and await freezing.thaw()


class Instances(msgspec.Struct, frozen=True):
    """What is held for an agent: instances, and the files that keep them from being started."""

    names: Sequence[str]
    holds: Sequence[Path]


class InstanceHolder:
    """Keeps the instances that an agent lives in stopped, by files that outlive everybody: see ``InstanceSpec.hold``.

    Works without a node and without a keeper, too. ``what`` is asked at every hold. ``brief``: it only has them started
    again, gives way to who keeps an agent's volumes, and never ends a hold of theirs.
    """

    def __init__(
        self,
        run_dir: Path,
        agent: str,
        what: Callable[[], Instances],
        *,
        grace_s: float = GRACE_S,
        clock: Clock = SYSTEM_CLOCK,
        brief: bool = False,
    ) -> None:
        self._run_dir = run_dir
        self._agent = agent
        self._brief = brief
        self._me = agent + _BRIEF if brief else agent
        self._what = what
        self._grace_s = grace_s
        self._clock = clock

    async def hold(self, reason: str) -> None:
        """Return when no process of them lives. ``Conflict``: somebody else holds one of them. Else it is released."""
        what = self._what()
        try:
            with attempted(f"{self._agent} was not stopped: nothing was done"):
                await asyncio.to_thread(self._mark, what.holds, reason)
            await self._until_gone(what.names)
            if not self._brief:
                await asyncio.to_thread(self._end_guests, what.names)
        except BaseException:
            self._remove(what.holds)
            raise

    async def release(self) -> None:
        """They may start. Removes only what this agent wrote."""
        await asyncio.to_thread(self._remove, self._what().holds)

    async def gone(self) -> None:
        """Return when no process of them lives, where somebody else holds them. RelitError when that takes too long."""
        await self._until_gone(self._what().names)

    def mark(self, reason: str) -> None:
        """Where no process of them runs yet: none will be started. ``Conflict`` as for ``hold``."""
        self._mark(self._what().holds, reason)

    # --- the files ---------------------------------------------------------------------------------------------

    def _mark(self, paths: Sequence[Path], reason: str) -> None:
        for path in paths:
            self._write(path, reason)

    def _write(self, path: Path, reason: str) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with holdfile.changing(path) as change:
            if self._brief and change.was.ours is None and change.was.person is not None:
                return  # it is started again when that person wants it
            other = change.was.ours.holder if change.was.ours is not None else None
            if other not in (None, self._me, self._agent + _BRIEF):
                raise Conflict(
                    f"{self._agent} cannot be stopped now", why=f"{other} holds its process: {path}",
                    fix="try again later",
                )  # fmt: skip
            word = Word(reason, self._me, holdfile.mine() if self._brief else "")
            change.now = change.was._replace(ours=word)

    def _remove(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if path.parent.is_dir():
                with holdfile.changing(path) as change:
                    if change.was.ours is not None and change.was.ours.holder == self._me:
                        change.now = change.was._replace(ours=None)

    # --- the processes -----------------------------------------------------------------------------------------

    async def _until_gone(self, names: Sequence[str]) -> None:
        """The node stops them; where none runs we do. The keeper starts nothing that is held, so gone is gone."""
        began, asked = self._clock.monotonic(), set[str]()
        while True:
            waited = self._clock.monotonic() - began
            try:
                living = await self._look(names, asked, waited > self._grace_s)
            except ConnectionError as error:  # the keeper was killed; the next one knows
                living = {"": f"perhaps {', '.join(names)} ({error})"}
            if not living:
                return
            if waited > self._grace_s + MARGIN_S:
                raise self._stuck(living)
            await asyncio.sleep(_LOOK_S)

    def _end_guests(self, names: Sequence[str]) -> None:
        """What a gateway has begun beside them ends; the hold keeps it from beginning more."""
        folders = [guests.folder_of(str(self._run_dir), name) for name in names]
        for folder in filter(os.path.isdir, folders):
            lock = guests.Lock(folder, alone=True)
            try:
                lock.take()
                for id in guests.listed(folder):
                    guests.over(folder, id)
                    proc.kill_marked(id)
            finally:
                lock.leave()

    async def _look(self, names: Sequence[str], asked: set[str], patience_over: bool) -> dict[str, str]:
        """Which lives go on, by key. Ends them when there is no node that would."""
        from relit.node import record  # a freeze needs neither, and commands that take a snapshot would wait for them
        from relit.node.client import ensure_keeper

        watched = record.alive(await asyncio.to_thread(record.read, self._run_dir))
        line = KeeperLine(self._run_dir)
        if not await line.open():
            left = orphans(self._run_dir, names)
            if left and not watched:
                await (await ensure_keeper(self._run_dir)).stop()  # it takes them over
            return dict.fromkeys(left, "a process without keeper")
        try:
            living = _living(await line.ask(do="list"), names)
            if not watched:
                await _end(line, living, asked, patience_over)
            return living
        finally:
            await line.close()

    def _stuck(self, living: dict[str, str]) -> RelitError:
        return RelitError(
            f"{self._agent} was not stopped",
            why=f"{', '.join(living.values())} still runs after {self._grace_s + MARGIN_S:.0f} s",
            fix="relit ps shows it; relit down ends it",
        )


def _living(told: dict[str, list[dict[str, str]]], names: Sequence[str]) -> dict[str, str]:
    """Key and name of the lives that go on."""
    return {life["key"]: life["name"] for life in told["lives"] if life["name"] in names and life["state"] == "running"}


async def _end(line: KeeperLine, living: dict[str, str], asked: set[str], patience_over: bool) -> None:
    """SIGTERM once, SIGKILL when the grace is over."""
    for key in living:
        try:
            if patience_over:
                await line.ask(do="kill", key=key)
            elif key not in asked:
                asked.add(key)
                await line.ask(do="signal", key=key, number=int(signal.SIGTERM))
                await line.ask(do="signal", key=key, number=int(signal.SIGCONT))
        except Refused:
            continue  # it has ended and was forgotten
