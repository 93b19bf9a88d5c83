"""Which homes this machine keeps versions of, and how each agent is held still."""

from __future__ import annotations

from pathlib import Path

from relit.settings import Settings
from relit.settings.model import Snapshots
from relit.volumes.capture import Limits
from relit.volumes.ignore import KINDS
from relit.volumes.service import Mount


class Unkept:
    """An agent of which relit runs no process: nothing to freeze, nothing to stop."""

    async def freeze(self) -> bool:
        """Nothing is running."""
        return False

    async def thaw(self) -> bool:
        """Nothing was frozen."""
        return False

    async def hold(self, reason: str) -> None:
        """Nobody would start it."""

    async def release(self) -> None:
        """Nobody holds it."""


def folder_of(settings: Settings, agent: str) -> Path:
    """Where everything of an agent lies."""
    return settings.data / "agents" / agent


def mounts(settings: Settings) -> dict[str, Mount]:
    """Every agent of relit.toml, and every other one that has a home here."""
    found = {path.parent.name for path in (settings.data / "agents").glob("*/home") if path.is_dir()}
    return {agent: make_mount(settings, agent) for agent in sorted(found | settings.agents.keys())}


def snapshots_of(settings: Settings, agent: str) -> Snapshots:
    """How an agent's home is kept; by default when relit.toml does not name the agent."""
    return settings.agents[agent].snapshots if agent in settings.agents else Snapshots()


def make_mount(settings: Settings, agent: str) -> Mount:
    """One agent's home, and how it is held still."""
    known, wanted = settings.agents.get(agent), snapshots_of(settings, agent)
    place, still = folder_of(settings, agent), Unkept()
    return Mount(
        agent=agent,
        home=place / "home",
        work=place / "restore",
        freezer=still,
        holder=still,
        patterns=(*KINDS.get(known.kind if known else "", ()), *wanted.exclude),
        limits=Limits(bytes=wanted.max_bytes, files=wanted.max_files),
        every_ms=wanted.every_ms if wanted.enabled else 0,
    )
