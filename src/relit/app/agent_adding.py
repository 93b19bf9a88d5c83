"""A new agent: what its kind needs, its file in ``agents.d``, its home. And an old one taken out again."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from relit.agents import door
from relit.app import agent_files, agent_installing, by_hand, node_word
from relit.app.agent_clone import NOTE
from relit.app.agent_installing import Say
from relit.app.agents import kind_of, version_of
from relit.app.by_hand import Hand
from relit.app.folder import prepare, run_dir
from relit.app.instances import folder_of, home_of
from relit.app.specs import check_names, spec_of
from relit.app.vaulted import for_agent
from relit.errors import ConfigError, Conflict, Invalid, NotFound
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.names import AGENT
from relit.lib.service import finished
from relit.node.status import Running
from relit.settings import Environment, Settings, load
from relit.settings.check import nearest
from relit.settings.model import OWN

APPLY_S = 90.0  # for a node to take up new settings: it starts its own server again
_MINE = ("python", "command")
_FIRST = """\
# relit's configuration. Agents of `relit agent add` stand in agents.d beside it. `relit config schema` has all keys.
"""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as it is asked for. Empty: the default."""

    name: str
    kind: str
    version: str = ""
    model: str = ""
    command: Sequence[str] = ()
    entry: str = ""
    folder: str = ""
    start: bool = True

    def text(self) -> str:
        """Its file."""
        values: dict[str, Any] = {
            "kind": self.kind,
            "version": self.version or None,
            "entry": self.entry or None,
            "command": list(self.command) or None,
            "folder": self.folder or None,
            "model": self.model or None,
        }
        return agent_files.table(("agents", self.name), values)


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """What was made. ``kept_home``: it was there before. ``talks``: it takes messages. ``node``: one runs, and knows of
    it."""

    name: str
    kind: str
    version: str
    file: str
    home: str
    ports: dict[str, int]
    kept_home: bool
    start: bool
    talks: bool = False
    node: bool = False


def drafted(settings: Settings, environment: Environment, wanted: Wanted) -> Settings:
    """The settings as they will be, checked. Conflict, Invalid, ConfigError: nothing was done."""
    _see_free(settings, environment, wanted)
    _see_kind(settings, wanted)
    config = agent_files.config_of(settings, environment)
    drafts: dict[Path, str | None] = {agent_files.own_file(config, wanted.name): wanted.text()}
    if settings.path is None:
        drafts[config] = _FIRST
    made = load(config, environment=environment, data=settings.data, drafts=drafts)
    check_names(made)
    return made


async def add(settings: Settings, environment: Environment, wanted: Wanted, say: Say) -> Added:
    """Install, write, tell the node. Whatever goes wrong, or ends this: it is there whole or not at all."""
    added = await write(settings, environment, wanted, say)
    return msgspec.structs.replace(added, node=await tell(settings, wanted.name))


async def write(
    settings: Settings, environment: Environment, wanted: Wanted, say: Say,
    furnish: Callable[[Settings], str] = lambda made: "", hurry: Callable[[], None] = lambda: None,
) -> Added:  # fmt: skip
    """As ``add``, but for the node, which is not told.

    ``furnish`` puts things into its home before anything may start there, and answers what else is to stand in its
    file; ``hurry`` is called when it is not to go on.
    """
    made = drafted(settings, environment, wanted)
    wanted = _pinned(made, wanted)
    name, config, kind = wanted.name, agent_files.config_of(settings, environment), kind_of(made, wanted.name)
    if kind is not None:
        await agent_installing.ensure(made, environment.all, wanted.kind, wanted.version, say)
    await for_agent(made, name, "agent add")
    kept = await finished(asyncio.to_thread(_write, made, environment, wanted, config, furnish), hurry)
    return Added(
        name=name,
        kind=wanted.kind,
        version=version_of(made, name, kind) if kind else "",
        file=str(agent_files.own_file(config, name)),
        home=str(home_of(made, name)),
        ports=door.read(folder_of(made, name)).ports,
        kept_home=kept,
        start=wanted.start,
        talks=(kind is not None and kind.inject is not None) or wanted.kind == "python",
    )


def _pinned(made: Settings, wanted: Wanted) -> Wanted:
    """With its version named: a new relit, whose kinds name new ones, must not change it."""
    kind = kind_of(made, wanted.name)
    if kind is None or not kind.installs:
        return wanted
    return msgspec.structs.replace(wanted, version=wanted.version or str(kind.install.get("version", "")))


def _write(
    made: Settings, environment: Environment, wanted: Wanted, config: Path, furnish: Callable[[Settings], str]
) -> bool:
    """Its folders, then its file; answers whether its home was there before. Undone when something fails."""
    prepare(made.data)
    folder, file = folder_of(made, wanted.name), agent_files.own_file(config, wanted.name)
    there, kept = folder.exists(), home_of(made, wanted.name).exists()
    try:
        if wanted.start:
            by_hand.let(made, wanted.name)
        else:
            by_hand.hold(made, wanted.name)
        extra = furnish(made)
        spec_of(made, environment, wanted.name)  # makes its home
        if not config.exists():
            agent_files.put(config, _FIRST)
        agent_files.put(file, wanted.text() + extra)
    except BaseException:
        agent_files.drop(file)
        if not there:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return kept


async def tell(settings: Settings, name: str) -> bool:
    """Let the node take the agent up, whose file is written. False: none runs."""
    place, written = run_dir(settings), SYSTEM_CLOCK.monotonic()
    if not await node_word.reread(place):
        return False
    await node_word.applied(place, written, lambda now: _known(now, name), APPLY_S)
    return True


def _known(now: Running, name: str) -> bool:
    """It has an instance, or several."""
    return node_word.of(now, name) is not None or node_word.of(now, f"{name}-1") is not None


# --- what is asked for --------------------------------------------------------------------------------------------


def _see_free(settings: Settings, environment: Environment, wanted: Wanted) -> None:
    if not re.fullmatch(AGENT, wanted.name):
        raise Invalid(
            f"{wanted.name!r} is no name for an agent",
            why="it has up to 63 of a-z, 0-9, dot, dash and underscore, and begins with a letter or a digit",
            fix="choose another name",
        )
    if (folder_of(settings, wanted.name) / NOTE).exists():
        raise Conflict(
            f"{wanted.name} is the name of a clone", why="something is being tried on it", fix="choose another name"
        )
    if wanted.name in settings.agents:
        where = agent_files.standing(settings, wanted.name).told()
        raise Conflict(
            f"there is an agent {wanted.name} already", why=f"it stands in {where}",
            fix=f"choose another name, or: relit agent rm {wanted.name}",
        )  # fmt: skip
    file = agent_files.own_file(agent_files.config_of(settings, environment), wanted.name)
    if file.exists():
        raise Conflict(f"{file} is there already", why="it is about other agents", fix="rename it, or choose a name")


def _see_kind(settings: Settings, wanted: Wanted) -> None:
    kinds = settings.kinds()
    known = [*_MINE, *sorted(kinds)]
    if wanted.kind not in known:
        meant = nearest(wanted.kind, known)
        why = f"did you mean {meant}?" if meant else f"there are {', '.join(known)}"
        raise NotFound(f"there is no kind {wanted.kind}", why=why, fix="docs/how-to/add-a-kind.md makes a new one")
    _see_words(wanted)
    kind = kinds.get(wanted.kind)
    if kind is not None and "model" in kind.tokens:
        _see_model(settings, wanted, kind.title)


def _see_words(wanted: Wanted) -> None:
    if wanted.kind == "command" and not wanted.command:
        raise Invalid("a command is missing", fix=f"relit agent add {wanted.name} --kind command -- PROGRAM ARGUMENT…")
    if wanted.kind == "python" and not wanted.entry:
        raise Invalid("its code is missing", fix=f"relit agent add {wanted.name} --kind python --entry MODULE:OBJECT")
    if wanted.kind != "command" and wanted.command:
        raise Invalid(f"kind {wanted.kind} takes no command", why="only --kind command does", fix="leave it out")
    if wanted.kind != "python" and wanted.entry:
        raise Invalid(f"kind {wanted.kind} takes no --entry", why="only --kind python does", fix="leave it out")


def _see_model(settings: Settings, wanted: Wanted, title: str) -> None:
    name = wanted.model or "default"
    if name in (OWN, *settings.models):
        return
    raise ConfigError(
        f"{title} needs a model, and there is no [models.{name}]",
        why=f"known are {', '.join(settings.models) or 'none'}",
        fix=f'write into {settings.path or "relit.toml"}: [models.{name}] with url = "https://api.openai.com/v1" and '
        f"key = \"secret:openai\"; or --model {OWN}: what its own configuration says",
    )  # fmt: skip


# --- and out again ------------------------------------------------------------------------------------------------


def free_ports(settings: Settings, name: str) -> None:
    """Of an agent that is gone with its home: another may have them."""
    door.place_of(folder_of(settings, name)).unlink(missing_ok=True)


async def remove(settings: Settings, environment: Environment, name: str) -> Mapping[str, str]:
    """Stop it, and take it out of the configuration; home and snapshots stay. ConfigError: it shares a file."""
    where = agent_files.standing(settings, name)
    before = await node_word.running(run_dir(settings))
    if not where.alone or where.path == settings.path:
        again = f"kill -HUP {before.node}" if before.node else "relit config check"
        raise ConfigError(
            f"{name} stands in {where.told()}", why="that file holds more, and is yours: relit changes nothing there",
            fix=f"remove these lines, then: {again}",
        )  # fmt: skip
    load(settings.path, environment=environment, data=settings.data, drafts={where.path: None})
    await Hand(settings, name, []).stop(reason="it is being removed")
    place = run_dir(settings)
    agent_files.drop(where.path)
    written = SYSTEM_CLOCK.monotonic()
    if await node_word.reread(place):
        await node_word.applied(place, written, lambda now: node_word.of(now, name) is None, APPLY_S)
    by_hand.let(settings, name)
    return {"name": name, "file": str(where.path), "home": str(home_of(settings, name))}
