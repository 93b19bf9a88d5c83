"""Where an agent's files lie, and which instances of this machine work for it.

Agents of relit.toml have instances of their own. An agent defined in another one's code, or in a module, lives in
that one's processes: its worker leaves a note of that (``join``) in the agent's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from relit.errors import Conflict
from relit.settings import Settings
from relit.volumes.due import to_be_laid
from relit.volumes.syncing import record_of

_NOTES = "lives-in"


class Residence(msgspec.Struct, frozen=True, kw_only=True):
    """One agent on this machine. Its ``instances`` may not run; none starts while its file of ``holds`` is there."""

    agent: str
    home: Path
    work: Path
    instances: list[str]
    holds: list[Path]


def folder_of(settings: Settings, agent: str) -> Path:
    """Where everything of an agent lies."""
    return settings.data / "agents" / agent


def home_of(settings: Settings, agent: str) -> Path:
    """The agent's own folder, of which versions are kept."""
    return folder_of(settings, agent) / "home"


def hold_of(settings: Settings, owner: str) -> Path:
    """The hold file of the instances of an agent of relit.toml, or of a module."""
    return folder_of(settings, owner) / "run" / "hold"


def make_home(settings: Settings, agent: str) -> Path:
    """The home, made when it is not there. Conflict when files are to be laid down there first."""
    home = home_of(settings, agent)
    if to_be_laid(home):
        raise Conflict(
            f"{agent} has no home yet", why="its files are still to be laid down", fix="relit up does it; then again"
        )
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


def copies(settings: Settings, owner: str) -> list[str]:
    """What the instances of an agent of relit.toml are called, or the one of a module."""
    workers = settings.agents[owner].most_workers if owner in settings.agents else 1
    return [owner] if workers == 1 else [f"{owner}-{number}" for number in range(1, workers + 1)]


def module_name(module: str) -> str:
    """What an instance for a module is called: ``agents/mine.py`` is ``mine``."""
    return Path(module.partition(":")[0]).name.removesuffix(".py").rpartition(".")[2]


def owners_of(settings: Settings, agent: str) -> list[str]:
    """Itself, and in whose processes it lives besides."""
    try:
        noted = {*os.listdir(folder_of(settings, agent) / "run" / _NOTES)}
    except (FileNotFoundError, NotADirectoryError):
        noted = set()
    return [agent, *sorted(noted - {agent})]


def join(settings: Settings, owner: str, agents: Iterable[str]) -> None:
    """Note that these agents live in the processes of ``owner``: whoever freezes or holds one of them needs it."""
    for agent in {*agents} - {owner}:
        notes = folder_of(settings, agent) / "run" / _NOTES
        notes.mkdir(mode=0o700, parents=True, exist_ok=True)
        (notes / owner).touch(mode=0o600)


def instances_of(settings: Settings, agent: str) -> list[str]:
    """The instances that an agent lives in. Asked anew each time, since agents move."""
    return [name for owner in owners_of(settings, agent) for name in copies(settings, owner)]


def residence(settings: Settings, agent: str) -> Residence:
    """Everything that holds an agent still needs to know. Cheap; asked anew each time, since agents move."""
    owners = owners_of(settings, agent)
    return Residence(
        agent=agent,
        home=home_of(settings, agent),
        work=folder_of(settings, agent) / "restore",
        instances=instances_of(settings, agent),
        holds=[hold_of(settings, owner) for owner in owners],
    )


def homes_of(settings: Settings) -> list[str]:
    """Every agent of relit.toml, and every other one that has a home here, or is to get one (and held until then)."""
    place = os.fspath(settings.data / "agents")
    names = os.listdir(place) if os.path.isdir(place) else []
    found = {each for each in names if _lives(f"{place}/{each}")}
    return sorted(found | settings.agents.keys())


def _lives(folder: str) -> bool:
    home = f"{folder}/home"
    return os.path.isdir(home) or os.path.exists(f"{folder}/run/hold") or os.path.exists(record_of(home))
