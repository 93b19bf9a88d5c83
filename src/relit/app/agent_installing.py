"""What agents need to be installed: put there, looked at, mended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager

import msgspec

from relit.agents.kind import Kind
from relit.agents.recipes import Recipe, recipe_of
from relit.agents.runtimes import Progress, Runtime, Runtimes
from relit.app.agents import kind_of, version_of
from relit.app.by_hand import Hand, let
from relit.errors import RelitError
from relit.settings import Settings

Say = Callable[[Progress], None]


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent has. ``outcome``: ``nothing`` where its kind needs nothing. ``troubles``: what was mended."""

    agent: str
    kind: str
    outcome: str
    version: str = ""
    path: str = ""
    size_bytes: int = 0
    troubles: list[str] = []
    restarted: list[str] = []


def runtimes(settings: Settings, env: Mapping[str, str], say: Say) -> Runtimes:
    """The runtimes of this data folder."""
    return Runtimes(settings.runtimes, say, env=env)


def recipe(name: str, kind: Kind, version: str) -> Recipe:
    """For that version of the kind ``name``. ConfigError."""
    return recipe_of({"install": {**kind.install, "kind": name}}, version)


async def ensure(settings: Settings, env: Mapping[str, str], name: str, version: str, say: Say) -> Runtime | None:
    """Install that version of a kind, unless it is here; ``None``: it needs nothing. RelitError."""
    kind = settings.kinds()[name]
    if not kind.installs:
        return None
    return await runtimes(settings, env, say).install(recipe(name, kind, version))


async def mend(settings: Settings, env: Mapping[str, str], agent: str, say: Say) -> Installed:
    """Install what an agent needs; what is there and damaged is made anew, and who runs on it restarted. RelitError."""
    kind, kind_name = kind_of(settings, agent), settings.agents[agent].kind
    if kind is None or not kind.installs:
        return Installed(agent=agent, kind=kind_name, outcome="nothing")
    wanted, known = recipe(kind_name, kind, version_of(settings, agent, kind)), runtimes(settings, env, say)
    found = known.find(wanted.kind, wanted.version)
    if found is None:
        return _told(agent, "installed", await known.install(wanted))
    say(Progress(wanted.kind, wanted.version, "check", "comparing checksums", 0))
    if not (troubles := await known.verify(found)):
        return _told(agent, "whole", found)
    return await _anew(settings, known, wanted, _told(agent, "mended", found, troubles), found.node)


async def _anew(settings: Settings, known: Runtimes, wanted: Recipe, told: Installed, node: str) -> Installed:
    """The new one is whole before anybody is stopped; without it all goes on as it is."""
    hands: list[Hand] | None = None

    @asynccontextmanager
    async def still(shared: str) -> AsyncIterator[None]:
        nonlocal hands
        hands = [hand for hand in _users(settings, known, wanted, shared) if not hand.held]
        try:
            for hand in hands:
                await hand.stop(reason=f"{wanted.kind} {wanted.version} is being installed anew", mine=True)
            yield
        finally:  # also of one that failed: an agent that lacks what it needs says so, and is told of
            for hand in hands:
                let(settings, hand.name)

    damaged = any(trouble.startswith("Node ") for trouble in told.troubles)
    try:
        made = await known.renew(wanted, still, node=node if damaged else "")
    except RelitError as error:
        if hands is None:
            error.what += "; what is there stays as it is, and no agent was stopped"
        raise
    for hand in hands or []:
        await hand.start()
    restarted = [hand.name for hand in hands or []]
    return msgspec.structs.replace(told, path=str(made.path), size_bytes=made.size_bytes, restarted=restarted)


def _users(settings: Settings, known: Runtimes, wanted: Recipe, node: str) -> Iterator[Hand]:
    """The agents that run on that version, or on another with that Node."""
    for name, agent in settings.agents.items():
        kind = kind_of(settings, name)
        if kind is None or not kind.installs:
            continue
        version = version_of(settings, name, kind)
        other = known.find(agent.kind, version) if node else None
        if (agent.kind, version) == (wanted.kind, wanted.version) or (other is not None and other.node == node):
            yield Hand(settings, name, [])


def _told(agent: str, outcome: str, found: Runtime, troubles: list[str] | None = None) -> Installed:
    return Installed(
        agent=agent,
        kind=found.kind,
        outcome=outcome,
        version=found.version,
        path=str(found.path),
        size_bytes=found.size_bytes,
        troubles=troubles or [],
    )
