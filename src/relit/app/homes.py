"""How this machine's homes are kept: settings and processes of each agent, put together."""

from __future__ import annotations

from pathlib import Path

from relit.app.agents import kind_of
from relit.app.folder import run_dir
from relit.app.holding import holder_of
from relit.app.instances import homes_of, instances_of, residence
from relit.app.parts import database
from relit.app.shipping import BLOBS, STORE
from relit.app.stillness import InstanceFreezer, NoFreezer, NoHolder
from relit.control.values import lives_of
from relit.settings import Settings
from relit.settings.model import Snapshots
from relit.volumes.limits import Limits
from relit.volumes.mount import Mount


class Mounts:
    """Every agent of relit.toml, and every other one that has a home here, whenever it is asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[str, Mount] = {}
        self._own = _own(settings)

    def __call__(self) -> dict[str, Mount]:
        now = homes_of(self._settings)
        self._known = {agent: self._known.get(agent) or make_mount(self._settings, agent) for agent in now}
        return self._known | self._own


def ships(settings: Settings) -> bool:
    """Whether relit's own store is to be kept in the blob store: it is SQLite, and the blob store is elsewhere."""
    return isinstance(database(settings), Path) and "://" in settings.volume_store


def _own(settings: Settings) -> dict[str, Mount]:
    """relit's own volumes: copies of its store, and payloads that lie in a folder."""
    if not ships(settings):
        return {}
    own = {STORE: (settings.data / "copies", 0)}
    if settings.server.blobs == "local":
        own[BLOBS] = (settings.data / "blobs", settings.volumes.interval_ms)
    return {
        name: Mount(
            agent=name,
            home=home,
            work=settings.data / "spool" / "restore",
            freezer=NoFreezer(),
            holder=NoHolder(),
            every_ms=every_ms,
        )
        for name, (home, every_ms) in own.items()
    }


_OWN = Snapshots(keep="1h all, 2d hourly")


def snapshots_of(settings: Settings, agent: str) -> Snapshots:
    """How an agent's home is kept; by default when relit.toml does not name the agent."""
    if agent in (STORE, BLOBS):
        return _OWN
    return settings.agents[agent].snapshots if agent in settings.agents else Snapshots()


def make_mount(settings: Settings, agent: str) -> Mount:
    """One agent's home, and how it is held still."""
    known, wanted, kind = settings.agents.get(agent), snapshots_of(settings, agent), kind_of(settings, agent)
    place = residence(settings, agent)
    return Mount(
        agent=agent,
        home=place.home,
        work=place.work,
        freezer=InstanceFreezer(run_dir(settings), lambda: lives_of(instances_of(settings, agent))),
        holder=holder_of(settings, agent),
        patterns=(*(kind.exclude if kind else ()), *wanted.exclude),
        carry_over=tuple(each.rstrip("/").encode() for each in (kind.carry_over if kind else ())),
        limits=Limits(bytes=wanted.max_bytes, files=wanted.max_files),
        every_ms=wanted.every_ms if wanted.enabled else 0,
        declared=known is not None,
    )
