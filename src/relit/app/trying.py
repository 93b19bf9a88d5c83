"""Older homes, tried for a node in a clone on spare ports, before the agent itself goes back to one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict

from relit.agents.kind import Kind
from relit.api.volumes_port import Volumes
from relit.app import agents
from relit.app.agent_clone import Clone, drop_left
from relit.app.agent_trial import Trial
from relit.app.vaulted import for_agent
from relit.control.care import Tried
from relit.drivers.machine import LANDLOCK_PORTS
from relit.errors import Conflict, RelitError
from relit.lib.service import OnFailure, Tasks
from relit.settings import Environment, Settings, load

_LOG = logging.getLogger(__name__)
WORD = "older"
_AGAIN_S = 10.0


class Trying:
    """For the agents of relit.toml, as it is when something is to be tried."""

    def __init__(self, settings: Settings, environment: Environment, volumes: Volumes, on_failure: OnFailure) -> None:
        self._settings = settings
        self._environment = environment
        self._volumes = volumes
        self._tasks = Tasks(on_failure)
        self._one: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def can(self, agent: str) -> bool:
        """Whether a clone of it can be made that is silent towards the world: its kind knows how, or its network can
        be limited."""
        try:
            settings = self._now()
            kind = agents.kind_of(settings, agent)
        except RelitError:  # relit.toml is being edited, and is wrong: what was read before runs on
            return False
        return kind is not None and (_silenced(kind) or _limited(settings, agent))

    async def try_home(self, agent: str, number: int, within_ms: int) -> Tried:
        """See ``ControlBackend``."""
        settings = self._now()
        kind = agents.kind_of(settings, agent)
        if kind is None:
            raise Conflict(f"no clone of {agent} can be made", why="its kind does not say how", fix="relit agent ls")
        async with self._one[agent], Clone(settings, agent, WORD, self._open).of(number) as home:
            version = agents.version_of(settings.agents[agent], kind)
            await for_agent(settings, agent, "server")
            trial = Trial(settings, self._environment, agent, kind, version, home)
            return await trial.run(models=bool(settings.models), within_s=within_ms / 1000)

    async def start(self) -> None:
        """Remove what an earlier server left when it was killed, as soon as volumes can be asked."""
        self._tasks.spawn(self._tidy(), "clones-left")

    async def stop(self) -> None:
        """Leave the rest to the next one."""
        await self._tasks.stop()

    async def _tidy(self) -> None:
        while True:
            try:
                await drop_left(self._settings, WORD, self._open)
                return
            except RelitError as error:
                _LOG.info("clones that were left are still there: %s", error)
            await asyncio.sleep(_AGAIN_S)

    def _open(self) -> contextlib.nullcontext[Volumes]:
        return contextlib.nullcontext(self._volumes)

    def _now(self) -> Settings:
        return load(self._settings.path, environment=self._environment, data=self._settings.data)


def _silenced(kind: Kind) -> bool:
    return any(each.silent for each in kind.config)


def _limited(settings: Settings, agent: str) -> bool:
    found = agents.machine()
    return settings.agents[agent].sandbox != "off" and found.works and found.landlock >= LANDLOCK_PORTS
