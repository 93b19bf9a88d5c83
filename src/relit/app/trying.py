"""Older homes, tried for a node in a clone on spare ports, before the agent itself goes back to one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict

from relit.api.volumes_port import Volumes
from relit.app import agents, by_hand
from relit.app.agent_clone import Clone, drop_left
from relit.app.agent_trial import Trial, reachable
from relit.app.vaulted import for_agent
from relit.control.care import Tried
from relit.drivers.machine import LANDLOCK_PORTS
from relit.errors import Conflict, RelitError
from relit.lib.service import OnFailure, Tasks
from relit.settings import Environment, Settings, load

WORD = "older"
_AGAIN_S = 30.0


class Trying:
    """For the agents of relit.toml, as it is when something is to be tried."""

    def __init__(self, settings: Settings, environment: Environment, volumes: Volumes, on_failure: OnFailure) -> None:
        self._settings = settings
        self._environment = environment
        self._volumes = volumes
        self._tasks = Tasks(on_failure)
        self._one: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def can(self, agent: str) -> bool:
        """Whether a clone of it can be made that reaches nothing but relit's gateway: nobody watches it."""
        try:
            settings = self._now()
            kind = agents.kind_of(settings, agent)
        except RelitError:  # relit.toml is being edited, and is wrong: what was read before runs on
            return False
        return kind is not None and _limited(settings, agent)

    def held(self, agent: str) -> bool:
        """Whether a person has stopped it: then nothing is done to its home."""
        return by_hand.held(self._settings, agent)

    async def try_home(self, agent: str, number: int, within_ms: int) -> Tried:
        """See ``ControlBackend``."""
        settings = self._now()
        kind = agents.kind_of(settings, agent)
        if kind is None or not _limited(settings, agent):
            raise Conflict(f"no clone of {agent} can be made", why="it would not be silent", fix="relit doctor")
        async with self._one[agent], Clone(settings, agent, WORD, self._open).of(number) as home:
            await for_agent(settings, agent, "server")
            version = agents.version_of(settings, agent, kind)
            trial = Trial(settings, self._environment, agent, kind, version, home)
            return await trial.run(models=await reachable(settings), within_s=within_ms / 1000)

    async def start(self) -> None:
        """From now on, remove what is left of clones whose maker was killed."""
        self._tasks.spawn(self._tidy(), "clones-left")

    async def stop(self) -> None:
        """Leave the rest to the next one."""
        await self._tasks.stop()

    async def _tidy(self) -> None:
        while True:
            await drop_left(self._settings, self._open)
            await asyncio.sleep(_AGAIN_S)

    def _open(self) -> contextlib.nullcontext[Volumes]:
        return contextlib.nullcontext(self._volumes)

    def _now(self) -> Settings:
        return load(self._settings.path, environment=self._environment, data=self._settings.data)


def _limited(settings: Settings, agent: str) -> bool:
    found = agents.machine()
    return settings.agents[agent].sandbox != "off" and found.works and found.landlock >= LANDLOCK_PORTS
