"""The worker that brings messages into agents that relit did not write, all of this machine's in one process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import msgspec

from relit.agents.adapter import Fitted
from relit.api.volumes_port import Volumes
from relit.app import agents
from relit.app.attended import keeper_of_volumes
from relit.app.budgets import Purse
from relit.app.declared import mailbox
from relit.app.folder import run_dir
from relit.app.holding import holder_of
from relit.app.instances import hold_of
from relit.app.lives import Recorded
from relit.app.stillness import InstanceHolder
from relit.app.vaulted import hand_out
from relit.app.work import work
from relit.control.values import Probe
from relit.durable.definitions import Agent
from relit.durable.engine import Engine
from relit.errors import ConfigError, Conflict, RelitError
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.lives import Life, Lives, died
from relit.node import parked, probe
from relit.node.redact import Redactor
from relit.settings import Settings
from relit.settings.noted import noted_token
from relit.settings.secrets import named
from relit.store.values import Mailbox
from relit.turns.chat import Chat, Post
from relit.turns.money import Shortage
from relit.turns.outsider import outsider

TURN = "turn"  # the name of the snapshot from before the message that is worked on: what has one is never pruned
HELD_LOOK_S = 0.5
_LOG = logging.getLogger("relit.turns")
CANCELS_S = 5.0  # OpenClaw cancels within a second: docs/decisions/agents-found-out.md


class LocalDoor:
    """The door of an agent on this machine."""

    def __init__(
        self, http: httpx.AsyncClient, made: Fitted, holder: InstanceHolder, replays: bool,
        volumes: Callable[[], AbstractAsyncContextManager[Volumes]], hold: Path, purse: Purse,
        secrets: Collection[str] = (), record: Sequence[str] = (), lives: Lives = lambda agent: None,
    ) -> None:  # fmt: skip
        self._purse = purse
        self._hides = Redactor({*made.secrets, *secrets}, looks=False)
        self._lives = lives
        self._took: Life | None = None  # who was given the last message
        self._record = record
        self._parked = parked.beside(str(hold))
        assert made.inject is not None, "only for kinds that say how"
        self._inject = made.inject
        self._door = (Post if made.inject.style == "post" else Chat)(http, made.inject)
        self._ready: Probe | None = made.ready
        self._holder = holder
        self._replays = replays
        self._agent = made.care.agent
        self._volumes = volumes

    async def ready(self) -> str | None:
        """Asks it what the node asks it. One that makes room for others is woken: there is something to do."""
        now = parked.read(self._parked)
        if now is not None:
            if left := parked.rests_s(now, SYSTEM_CLOCK.now_ms()):
                return f"it was killed for want of memory, and starts again in {left:.0f} s"
            parked.wake(self._parked)
            return "it was parked, and starts"
        return None if self._ready is None else await probe.ask(self._ready)

    def made_room(self) -> bool:
        """Whether it is parked now."""
        return parked.read(self._parked) is not None

    async def shortage(self, run: str) -> Shortage | None:
        """By what is on record of the run's calls, and by today's budgets."""
        return await self._purse.shortage(run)

    def turn(self, text: str, session: str) -> AsyncIterator[str]:
        """Delivers a message."""
        self._took = self._lives(self._agent)
        return self._door.turn(text, session)

    @property
    def hides(self) -> Redactor:
        """The secrets that it was given, and its own tokens; not what only looks like one: it may be asked for that."""
        return self._hides

    @property
    def replays(self) -> bool:
        """As its settings say."""
        return self._replays

    async def mark(self) -> int:
        """A snapshot of its home, on this machine's disk."""
        async with self._volumes() as volumes:
            return (await volumes.snapshot(self._agent, tag=TURN, note="before a message")).snapshot.number

    async def back(self, mark: int) -> None:
        """Its home as in that snapshot; it is stopped meanwhile. The journal stays as it is: the gateway has it. Where
        all that it does is on record, only what it keeps of its conversations goes back: the work is not done again."""
        async with self._volumes() as volumes:
            await volumes.restore(self._agent, str(mark), [each.encode() for each in self._record], exact=True)

    async def died(self) -> bool | None:
        """By what its node has written down."""
        return None if self._took is None else await died(self._took)

    async def settled(self) -> None:
        """A kind that cancels a turn whose caller is gone is given a moment; any other one is started again: it
        finishes its turn first, if it can."""
        if self._inject.hangup == "cancels":
            await asyncio.sleep(CANCELS_S)
        else:
            await self._restarted()

    async def _restarted(self) -> None:
        """Not while somebody else keeps it stopped, for a restore: that must come to its end first."""
        while True:
            try:
                await self._holder.hold("a message is delivered again")
                break
            except Conflict:
                await asyncio.sleep(HELD_LOOK_S)
        await self._holder.release()


async def bring(settings: Settings, began: Callable[[list[str]], None]) -> None:
    """Work until a signal comes."""
    await hand_out(settings, settings.secret_names("agents"), "turns")
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as http:

        def define(engine: Engine) -> list[Agent[str]]:
            return definitions(settings, http, Purse(settings, engine.store))

        await work(settings, define, steady=True, began=began)  # it is agents that messages kill


def _secrets(settings: Settings, name: str) -> set[str]:
    """Those that its environment names."""
    found = set()
    for each in named(settings.agents[name].env):
        with contextlib.suppress(ConfigError):  # an agent that lacks a secret is told so when it starts
            found.add(settings.secrets.reveal(f"secret:{each}"))
    return found


def definitions(settings: Settings, http: httpx.AsyncClient, purse: Purse) -> list[Agent[str]]:
    """Of all agents that messages are brought into. Those of one whose folder is at fault wait; others get theirs."""
    found = []
    for name in agents.outsiders(settings):
        try:
            found.append(_definition(settings, http, purse, name))
        except (RelitError, OSError, msgspec.MsgspecError) as error:
            _LOG.error("no message is brought to %s: %s", name, error)
    return found


def _definition(settings: Settings, http: httpx.AsyncClient, purse: Purse, name: str) -> Agent[str]:
    holder = holder_of(settings, name, brief=True)

    box = mailbox(name, settings.agents[name]) or Mailbox(name=name)

    def volumes() -> AbstractAsyncContextManager[Volumes]:
        return keeper_of_volumes(run_dir(settings), noted_token(settings.data) or "")

    agent, kind = settings.agents[name], agents.kind_of(settings, name)
    record = kind.record if kind is not None and agent.tools == "strict" else []
    door = LocalDoor(
        http, agents.fitted(settings, name), holder, agent.resume == "replay", volumes, hold_of(settings, name),
        purse, _secrets(settings, name), record, Recorded(run_dir(settings)),
    )  # fmt: skip
    return outsider(name, door, box)
