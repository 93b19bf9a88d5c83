"""An agent stopped, started or restarted by a person: a hold file that nobody but a person takes away."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import msgspec

from relit.app import node_word
from relit.app.agents import grace_of, kind_of
from relit.app.folder import run_dir
from relit.app.instances import copies, hold_of, owners_of
from relit.app.stillness import InstanceHolder, Instances
from relit.control.values import SPARE, InstanceStatus
from relit.errors import Conflict, NotFound, RelitError, WaitTimeout
from relit.lib import durations
from relit.node import holdfile, parked
from relit.node.status import Running
from relit.settings import Settings
from relit.settings.check import nearest

BY_HAND = "stopped by hand"
MARGIN_S = 15.0
_DEATHS = 3  # one may be chance
UP = ("ready", "working", "idle", "frozen")

Outcome = Literal["stopped", "started", "restarted", "held", "waits"]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it. ``changed``: something was to do. ``node``: one runs. ``reason``: of ``held``."""

    agent: str
    outcome: Outcome
    changed: bool = True
    node: bool = True
    pid: int | None = None
    reason: str = ""


class Hand:
    """A person's hand on one agent: of the configuration, or a module that was started with ``relit up MODULE``."""

    def __init__(self, settings: Settings, name: str, modules: list[str]) -> None:
        _see(settings, name, modules)
        self._settings = settings
        self.name = self._name = name
        self._dir = run_dir(settings)
        self._path = hold_of(settings, name)
        self._names = copies(settings, name)

    @property
    def held(self) -> bool:
        """Whether a person has stopped it."""
        return holdfile.read(self._path).person is not None

    async def stop(self, timeout_s: float | None = None, reason: str = BY_HAND, *, mine: bool = False) -> Done:
        """It runs no more, and will not until a person starts it: also after a reboot. WaitTimeout; the file stays.
        ``mine``: only as long as this process lives."""
        found = await node_word.running(self._dir)
        changed = not self.held or self._live(found)
        await asyncio.to_thread(_write, self._path, reason, mine=mine)
        holder = InstanceHolder(
            self._dir, self._name, lambda: Instances(self._names, [self._path]), grace_s=self.patience_s
        )
        try:
            async with asyncio.timeout(timeout_s):
                await holder.gone()
        except TimeoutError as error:
            raise self._slow() from error
        await self._seen_stopped()
        return Done(agent=self._name, outcome="stopped", changed=changed, node=found.node is not None)

    def _slow(self) -> WaitTimeout:
        return WaitTimeout(
            f"{self._name} has not stopped yet", why=f"it may take {self.patience_s:.0f} s to end what it does",
            fix=f"relit agent stop {self._name} waits again; relit agent start {self._name} takes it back",
        )  # fmt: skip

    async def _seen_stopped(self) -> None:
        """Its node has seen it, too, and does nothing about it any more."""
        await node_word.until(self._dir, self._rests, MARGIN_S, lambda now: _late(self._name, self._names[0], now))

    async def start(self, timeout_s: float | None = None) -> Done:
        """A person holds it no more; where a node runs, it is ready. WaitTimeout; RelitError when it cannot start."""
        found = await node_word.running(self._dir)
        changed = self.held
        if changed:
            _let(self._path)
        for each in parked.all_beside(self._path):
            parked.wake(each)
        if (other := holdfile.read(self._path).ours) is not None:
            why = f"{other.reason} ({other.holder})"
            return Done(agent=self._name, outcome="held", node=found.node is not None, reason=why)
        if found.node is None:
            return Done(agent=self._name, outcome="waits", changed=changed, node=False)
        started = not self._live(found)
        now = await self.ready(timeout_s)
        return Done(agent=self._name, outcome="started", changed=changed or started, pid=now.pid)

    async def restart(self, timeout_s: float | None = None) -> Done:
        """Stop, then start. Conflict while something else holds it."""
        if (other := holdfile.read(self._path).ours) is not None:
            raise Conflict(
                f"{self._name} cannot be restarted now", why=f"{other.holder} holds it: {self._path}",
                fix="try again later",
            )  # fmt: skip
        await self.stop(timeout_s, f"{BY_HAND}, to be started again at once", mine=True)
        done = await self.start(timeout_s)
        if done.outcome == "held":  # a restore came in between, and starts it
            return done
        return msgspec.structs.replace(done, outcome="restarted" if done.node else "waits")

    async def ready(self, timeout_s: float | None = None) -> InstanceStatus:
        """The first instance, when all are ready. WaitTimeout; RelitError when it cannot start."""

        restarts: dict[str, int] = {}  # of earlier days are no sign of trouble now

        def settled(now: Running) -> bool:
            mine = [node_word.of(now, name) for name in self._names]
            for each in mine:
                if each is not None:
                    deaths = each.restarts - restarts.setdefault(each.name, each.restarts)
                    if each.state == "down" or deaths >= _DEATHS:
                        raise _failed(self._name, each)
            return all(each is not None and _is_up(each) for each in mine)

        seconds = self.startup_s if timeout_s is None else timeout_s
        found = await node_word.until(self._dir, settled, seconds, lambda now: _late(self._name, self._names[0], now))
        first = node_word.of(found, self._names[0])
        assert first is not None, "all are there"
        return first

    @property
    def patience_s(self) -> float:
        """For its end: what it may take, and some more."""
        return grace_of(self._settings, self._name) if self._name in self._settings.agents else 10.0

    @property
    def startup_s(self) -> float:
        """For its start: three times what it says, since a start that goes on is waited for."""
        agent, kind = self._settings.agents.get(self._name), kind_of(self._settings, self._name)
        span = (agent.startup if agent else None) or (kind.startup if kind else "60s")
        return 3 * durations.to_ms(span) / 1000

    async def lives(self) -> bool:
        """Whether a process of it runs."""
        return self._live(await node_word.running(self._dir))

    def _rests(self, found: Running) -> bool:
        mine = [node_word.of(found, name) for name in self._names]
        return found.node is None or all(each is None or each.state == "stopped" for each in mine)

    def _live(self, found: Running) -> bool:
        mine = [node_word.of(found, name) for name in self._names]
        return any(each is not None and each.pid is not None for each in mine)


def _see(settings: Settings, name: str, modules: list[str]) -> None:
    if name in settings.agents or name in modules:
        return
    if owners := [each for each in owners_of(settings, name) if each != name]:
        raise NotFound(
            f"{name} has no process of its own", why=f"it lives in that of {', '.join(owners)}",
            fix=f"relit agent stop {owners[0]}",
        )  # fmt: skip
    known = {*settings.agents, *modules}
    meant = nearest(name, known)
    why = f"did you mean {meant}?" if meant else f"there are {', '.join(sorted(known)) or 'none'}"
    raise NotFound(f"there is no agent {name}", why=why, fix="relit agent ls")


def hold(settings: Settings, name: str, reason: str = BY_HAND) -> None:
    """Keep an agent that is not there yet from being started. OSError."""
    _write(hold_of(settings, name), reason)


def held(settings: Settings, name: str) -> bool:
    """Whether a person has stopped it."""
    return holdfile.read(hold_of(settings, name)).person is not None


def let(settings: Settings, name: str) -> None:
    """Take a person's hold away, if there is one."""
    if held(settings, name):
        _let(hold_of(settings, name))


def _write(path: Path, reason: str, *, mine: bool = False) -> None:
    """Whoever else holds it goes on, and does not take ours away. ``mine``: only as long as this process lives."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with holdfile.changing(path) as change:
        change.now = change.was._replace(person=f"{reason}\n\n{holdfile.mine()}\n" if mine else f"{reason}\n")


def _let(path: Path) -> None:
    """Relit's own hold, if there is one, stays."""
    if path.parent.is_dir():
        with holdfile.changing(path) as change:
            change.now = change.was._replace(person=None)


def _is_up(now: InstanceStatus) -> bool:
    return now.state in UP or now.reason.startswith(SPARE)


def _late(name: str, instance: str, now: Running) -> WaitTimeout:
    found = node_word.of(now, instance)
    said = "the node does not know it" if found is None else f"it is {found.state}: {found.reason or found.last_exit}"
    return WaitTimeout(
        f"{name} is not ready yet", why=f"{said.rstrip(': ')}; relit goes on trying", fix=f"relit logs {name}"
    )


def _failed(name: str, found: InstanceStatus) -> RelitError:
    return RelitError(
        f"{name} dies at its start; relit goes on trying",
        why=found.reason or found.last_exit,
        fix=f"relit logs {name}; relit agent ls",
    )
