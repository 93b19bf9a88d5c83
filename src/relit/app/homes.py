"""How this machine's homes are kept: settings and processes of each agent, put together."""

from __future__ import annotations

from relit.app.folder import run_dir
from relit.app.instances import homes_of, residence
from relit.app.stillness import InstanceFreezer, InstanceHolder, Instances
from relit.settings import Settings
from relit.settings.model import Snapshots
from relit.volumes.capture import Limits
from relit.volumes.ignore import KINDS
from relit.volumes.service import Mount


def mounts(settings: Settings) -> dict[str, Mount]:
    """Every agent of relit.toml, and every other one that has a home here."""
    return {agent: make_mount(settings, agent) for agent in homes_of(settings)}


def snapshots_of(settings: Settings, agent: str) -> Snapshots:
    """How an agent's home is kept; by default when relit.toml does not name the agent."""
    return settings.agents[agent].snapshots if agent in settings.agents else Snapshots()


def make_mount(settings: Settings, agent: str) -> Mount:
    """One agent's home, and how it is held still."""
    known, wanted = settings.agents.get(agent), snapshots_of(settings, agent)
    place, run = residence(settings, agent), run_dir(settings)

    def instances() -> Instances:
        now = residence(settings, agent)
        return Instances(now.instances, now.holds)

    return Mount(
        agent=agent,
        home=place.home,
        work=place.work,
        freezer=InstanceFreezer(run, lambda: instances().names),
        holder=InstanceHolder(run, agent, instances),
        patterns=(*KINDS.get(known.kind if known else "", ()), *wanted.exclude),
        limits=Limits(bytes=wanted.max_bytes, files=wanted.max_files),
        every_ms=wanted.every_ms if wanted.enabled else 0,
    )
