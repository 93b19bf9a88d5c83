"""The fronts of this machine's agents: addresses at which their own ports are reached, also while they are parked."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from relit.app.agents import kind_of, place_of
from relit.app.instances import hold_of
from relit.app.stopping import running, until_signal
from relit.errors import ConfigError, RelitError
from relit.lib.clock import SYSTEM_CLOCK
from relit.node import parked
from relit.node.holds import Hold
from relit.settings import Settings
from relit.settings.meaning import split_listen
from relit.turns.front import Front

_LOG = logging.getLogger("relit.front")


class LocalResident:
    """An agent of this machine."""

    def __init__(self, hold: Path) -> None:
        self._hold = Hold(str(hold))
        self._parked = parked.beside(str(hold))
        self._uses = parked.Uses(hold)

    def rests(self) -> bool:
        return os.path.lexists(self._parked)

    def wake(self) -> None:
        """One that was killed for want of memory waits for its time all the same; its node wakes it then."""
        now = parked.read(self._parked)
        if now is None or not parked.rests_s(now, SYSTEM_CLOCK.now_ms()):
            parked.wake(self._parked)

    def used(self) -> None:
        self._uses.now()

    def refusal(self) -> str | None:
        why = self._hold.look()
        return f"it is stopped: {why}" if self._hold.held else None


def fronts(settings: Settings) -> list[Front]:
    """Of all agents of the configuration."""
    found = []
    for name, doors in _known(settings).items():
        resident = LocalResident(hold_of(settings, name))
        found += [Front(split_listen(listen), port, resident) for listen, port in doors]
    return found


def _known(settings: Settings) -> dict[str, list[tuple[str, int]]]:
    """Of each agent that has some: (address, its own port). ConfigError: an agent listens there itself."""
    found: dict[str, list[tuple[str, int]]] = {}
    own = {name: _own(settings, name) for name in settings.agents}
    taken = {port: name for name, ports in own.items() for port in ports.values()}
    for name, agent in settings.agents.items():
        for port, listen in agent.front.items():
            if (other := taken.get(split_listen(listen)[1])) is not None:
                raise ConfigError(
                    f"agents.{name}.front.{port} cannot be {listen}", why=f"{other} listens on that port itself",
                    fix="another port",
                )  # fmt: skip
            if port in own[name]:
                found.setdefault(name, []).append((listen, own[name][port]))
    return found


def _own(settings: Settings, name: str) -> dict[str, int]:
    """Its own ports; none of one whose folder is at fault: the others have fronts all the same."""
    try:
        return place_of(settings, name, kind_of(settings, name)).door.ports
    except (RelitError, OSError, msgspec.MsgspecError) as error:
        _LOG.error("%s has no ports: %s", name, error)
        return {}


def stamp(settings: Settings) -> str:
    """Differs when there are other fronts: their process is started again then, and not for every other setting."""
    return hashlib.blake2b(msgspec.json.encode(_known(settings), order="sorted"), digest_size=8).hexdigest()


async def serve(settings: Settings, began: Callable[[], None]) -> None:
    """Pass connections on until a signal comes."""
    async with until_signal() as stop, running(fronts(settings), began):
        await stop.wait()
