"""The tools that agents of relit.toml reach through the gateway, put together."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

from relit.api.volumes_port import Volumes
from relit.app import functions, parts, strict
from relit.app.folder import run_dir
from relit.app.house_tools import HouseTools
from relit.app.specs import command
from relit.durable.engine import Engine
from relit.errors import ConfigError, RelitError
from relit.gateway.tools.base import Tool, schema
from relit.gateway.tools.desk import Desk, Office
from relit.gateway.tools.http import HttpTools
from relit.gateway.tools.own import OwnTools
from relit.gateway.tools.plan import HttpTool, LookUp
from relit.gateway.tools.shelf import Grant, Shelf
from relit.lib import durations
from relit.lib.ids import derived_id
from relit.lib.spellings import spellings
from relit.settings import Environment, Secrets, Settings
from relit.settings.model import Agent
from relit.settings.noted import noted_token
from relit.settings.secrets import named
from relit.settings.tools import STRICT
from relit.settings.tools import Tool as Table
from relit.store.base import Store
from relit.store.tools import Effect, ToolCall
from relit.turns.message import MAIN, read
from relit.vault.refusals import OnRefusal

_LOG = logging.getLogger(__name__)
_SHORT = 8  # characters: a shorter secret is part of too many words to be hidden


async def desk(
    settings: Settings, store: Store, me: str, is_dead: Callable[[str], bool], refused: OnRefusal
) -> Desk | None:
    """``None``: no agent is granted any. Raises ``ConfigError`` for a secret that is not set."""
    if not settings.granted:
        return None
    engine, blobs = parts.open_engine(settings, store), parts.open_blobs(settings)
    teller = Teller(engine)
    office = Office(
        calls=store.tools, turns=store.calls, blobs=blobs, subscribe=store.subscribe, tell=teller.tell, me=me,
        is_dead=is_dead, alone=isinstance(parts.database(settings), Path), refused=refused,
        hold_s=durations.to_ms(settings.file.gateway.hold) / 1000,
        expire_s=durations.to_ms(settings.file.gateway.approvals) / 1000,
    )  # fmt: skip
    http = HttpTools([http_tool(name, table, settings.secrets) for name, table in settings.tools.items() if table.url])
    known = await functions.described(settings, command(settings, "functions", "--describe"))
    place, own = strict.StrictTools(settings, Environment(), http), OwnTools(store.tools, blobs)
    secrets = _hidden(settings)
    house = HouseTools(settings, engine, partial(_volumes, settings), secrets)
    python = functions.FunctionTools(settings, engine, known, secrets)
    return Desk(office, Shelf([http, python, place, house, own], grants(settings)), secrets)


def _volumes(settings: Settings) -> AbstractAsyncContextManager[Volumes]:
    from relit.app.attended import keeper_of_volumes  # brings httpx: it is wanted when an agent takes a snapshot

    return keeper_of_volumes(run_dir(settings), noted_token(settings.data) or "")


def grants(settings: Settings) -> dict[str, Grant]:
    """By agent."""
    return {name: _grant(agent) for name, agent in settings.agents.items() if agent.uses_tools}


def _grant(agent: Agent) -> Grant:
    names = [each.removeprefix("tool:") for each in agent.grants]
    return Grant((*names, *(STRICT if agent.tools == "strict" else ())), dict(agent.policies))


def http_tool(name: str, table: Table, secrets: Secrets) -> HttpTool:
    """A ``[tools.NAME]``. Raises ``ConfigError``."""
    effect: Effect = table.effect or ("read" if table.method in ("GET", "HEAD") else "ask")
    tool = Tool(
        name=name, description=table.description, schema=_schema(table), effect=effect, policy=table.policy,
        same=tuple(table.same), timeout=durations.to_ms(table.timeout) / 1000,
        most=durations.to_bytes(table.max_result),
    )  # fmt: skip
    lookup = LookUp(table.lookup.url, table.lookup.found) if table.lookup is not None else None
    return HttpTool(
        tool=tool, url=table.url or "", method=table.method, headers=_headers(name, table, secrets),
        query=tuple(table.query), body=table.body, key=table.idempotency, lookup=lookup, private=table.private,
    )  # fmt: skip


def _schema(table: Table) -> dict[str, Any]:
    return schema([each for each in table.arguments if each not in table.optional], **table.arguments)


def _headers(name: str, table: Table, secrets: Secrets) -> dict[str, str]:
    try:
        found = {header: secrets.reveal(value) for header, value in table.headers.items()}
        if table.key is not None:
            key = secrets.reveal(table.key)
            found[table.key_header] = f"Bearer {key}" if table.key_header == "Authorization" else key
        return found
    except ConfigError as error:
        raise ConfigError(f"[tools.{name}]: {error.what}", why=error.why, fix=error.fix) from error


def hidden_names(settings: Settings) -> set[str]:
    """The secrets that no call and no result may show: those of tools and models, and those that agents are given."""
    return settings.secret_names("tools", "models") | set(named([agent.env for agent in settings.agents.values()]))


def _hidden(settings: Settings) -> tuple[bytes, ...]:
    found = []
    for name in sorted(hidden_names(settings)):
        with contextlib.suppress(ConfigError):  # an agent that lacks a secret is told so when it starts
            found.append(settings.secrets.reveal(f"secret:{name}"))
    ways = spellings([each for each in found if len(each) >= _SHORT])
    return tuple(sorted(ways, key=lambda each: (-len(each), each)))


class Teller:
    """Sends an agent a message of relit's own: into the session of the turn that it is about."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def tell(self, call: ToolCall, words: str) -> None:
        """Once, however often it is asked to. Raises what a mailbox raises."""
        message = {"text": words, "session": await self._session(call)}
        await self._engine.send(call.agent, message, id=derived_id("tool.told", call.id))

    async def _session(self, call: ToolCall) -> str:
        if not call.run:
            return MAIN
        try:
            run = await self._engine.store.run(call.run)
            args = (await self._engine.payloads.decode(run.input))["args"]
            return read(args[0])[1]
        except (RelitError, KeyError, IndexError, TypeError) as error:
            _LOG.warning("the session of run %s is not known: %s", call.run, error)
            return MAIN
