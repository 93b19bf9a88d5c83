"""The process through which agents call their models."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import uvloop

from relit.agents import door
from relit.app import budgets, parts, tooling
from relit.app.agents import CLONE, MODEL, kind_of
from relit.app.alone import alone
from relit.app.folder import run_dir
from relit.app.instances import folder_of
from relit.app.lives import Recorded
from relit.app.refusing import refusals
from relit.app.stopping import running, until_signal
from relit.app.vaulted import hold
from relit.errors import ConfigError, Conflict
from relit.gateway.ledger import Ledger
from relit.gateway.matching import Mask, masks
from relit.gateway.prices import Price
from relit.gateway.routes import Caller, Patience, Route, digest
from relit.gateway.server import Gateway
from relit.gateway.spool import Spool
from relit.gateway.tools import guard
from relit.gateway.tools.desk import Desk
from relit.lib.lives import Lives
from relit.settings import Secrets, Settings
from relit.settings.model import Model
from relit.store.base import Store
from relit.vault.refusals import Refusals

_LOG = logging.getLogger(__name__)
_GC = 10_000, 20, 20  # calls leave next to no cycles behind: to look for them as often as usual takes for nothing
_CACHE_KIB = 3072  # of a call's pages few are wanted again
_GONE_S = 2.0  # so long a gateway that is being ended may still hold its lock


def new_loop() -> asyncio.AbstractEventLoop:
    """What it runs in: in compiled code, since every piece of every answer passes it."""
    return uvloop.new_event_loop()


async def serve(settings: Settings, began: Callable[[str], None] = lambda url: None) -> None:
    """Serve until a signal comes. ``began`` is told the URL. Settings are read once: others need another process."""
    _room_for_files()
    async with _only(run_dir(settings)), until_signal() as stop, parts.store(settings, cache_kib=_CACHE_KIB) as store:
        names = settings.secret_names("models", "tools") | tooling.hidden_names(settings)
        await hold(settings, store, names, "gateway")
        written = ledger(settings, store)
        refused = refusals(store, "gateway")
        desk = await tooling.desk(settings, store, written.me, written.is_gone, refused.saw)
        gateway = compose(settings, written, Recorded(run_dir(settings)), desk, refused)
        gc.collect()
        gc.freeze()  # what is there now stays: to look through it again and again makes all streams stand still
        gc.set_threshold(*_GC)
        async with running([gateway], lambda: began(gateway.url)):
            await stop.wait()


def _only(place: Path) -> AbstractAsyncContextManager[None]:
    """One gateway a data folder: what another one has under way must not be taken for a dead one's. Whoever was killed
    needs a moment to be gone. Conflict."""
    taken = Conflict(
        f"another gateway serves {place.parent}",
        why="a relit that runs there",
        fix="relit ps shows it; relit down stops it",
    )
    return alone(place / "gateway.lock", _GONE_S, taken)


def _room_for_files() -> None:
    """Each call has two connections and a file: the usual 1,024 are soon used up."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def compose(
    settings: Settings, ledger: Ledger, lives: Lives = lambda agent: None, desk: Desk | None = None,
    refused: Refusals | None = None,
) -> Gateway:  # fmt: skip
    """The gateway of these settings. Raises ``ConfigError`` for a key that is not set."""
    host, port = settings.gateway_address
    at_once = settings.file.gateway.concurrency
    return Gateway(
        routes(settings),
        doors(settings),
        host,
        port,
        ledger=ledger,
        lives=lives,
        desk=desk,
        at_once=at_once,
        refusals=refused,
    )


def ledger(settings: Settings, store: Store) -> Ledger:
    """Where calls are written down, with the budgets of relit.toml."""
    own = {name: msgspec.convert(msgspec.to_builtins(each), Price) for name, each in settings.file.prices.items()}
    agents, models = budgets.of_agents(settings), budgets.of_models(settings)
    return Ledger(
        store.calls, own, agents, models, blobs=parts.open_blobs(settings), masks=_masks(settings),
        spool=Spool(run_dir(settings) / "answers"), alone=isinstance(parts.database(settings), Path),
        record=store.record,
    )  # fmt: skip


def _masks(settings: Settings) -> dict[str, list[Mask]]:
    return {name: masks(kind.masks) for name in settings.agents if (kind := kind_of(settings, name)) and kind.masks}


def routes(settings: Settings) -> dict[str, Route]:
    """Every ``[models.NAME]``, with its key. Raises ``ConfigError``."""
    secrets = settings.secrets
    return {name: _route(name, model, secrets) for name, model in settings.models.items()}


def _route(name: str, table: Model, secrets: Secrets) -> Route:
    try:
        key = None if table.key is None else secrets.reveal(table.key)
    except ConfigError as error:
        raise ConfigError(f"[models.{name}]: {error.what}", why=error.why, fix=error.fix) from error
    patience = Patience(
        table.connect_ms / 1000, table.first_byte_ms / 1000, table.idle_ms / 1000, table.total_ms / 1000
    )
    private = _is_written_out(table.url) if table.private is None else table.private
    return Route(
        name, table.url, key, table.model, table.kind, patience, table.retries, tuple(table.fallback), private,
        tuple(table.also),
    )  # fmt: skip


def _is_written_out(url: str) -> bool:
    """Whether it says an address, so that nobody else decides where it leads."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.endswith(".localhost") or guard.literal(host) is not None


def doors(settings: Settings) -> Doors:
    """The tokens of all agents of relit.toml."""
    return Doors({name: (folder_of(settings, name), agent.model) for name, agent in settings.agents.items()})


class Doors:
    """Callers by the tokens at their doors: ``agents`` are folders and routes by name.

    A door is read again when its file has changed, so a token that is replaced is good no longer.
    """

    def __init__(self, agents: Mapping[str, tuple[Path, str]]) -> None:
        self._agents = agents
        self._places = {agent: str(door.place_of(folder)) for agent, (folder, _) in agents.items()}
        self._read: dict[str, tuple[Stamp, list[Caller]]] = {}
        self._by_digest: dict[bytes, Caller] = {}

    def find(self, token: str) -> Caller | None:
        """Whose token it is."""
        wanted = digest(token)
        known = self._by_digest.get(wanted)
        if known is not None and not self._has_changed(known.agent):
            return known
        self._look_again()
        return self._by_digest.get(wanted)

    def _has_changed(self, agent: str) -> bool:
        return agent not in self._read or self._read[agent][0] != _stamp(self._places[agent])

    def _look_again(self) -> None:
        for agent, (folder, route) in self._agents.items():
            if self._has_changed(agent):
                self._read[agent] = (_stamp(self._places[agent]), _callers(agent, folder, route))
        callers = [caller for _, found in self._read.values() for caller in found]
        self._by_digest = {digest(each.token): each for each in callers}


Stamp = tuple[int, int, int] | None


def _stamp(place: str) -> Stamp:
    try:
        found = os.stat(place)
    except OSError:  # nothing there yet; what else it may be is told when it is read
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _callers(agent: str, folder: Path, route: str) -> list[Caller]:
    """The agent, and the clones that are made of it."""
    try:
        tokens = door.read(folder).tokens
    except (OSError, msgspec.MsgspecError) as error:
        _LOG.warning("%s: its agent cannot call its model: %s", door.place_of(folder), error)
        return []
    named = ((MODEL, False), (CLONE, True))
    return [Caller(agent, tokens[name], route, clone) for name, clone in named if name in tokens]
