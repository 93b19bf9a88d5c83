"""An agent's own configuration file, or its table of relit's: read, checked as a draft, put in place."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from relit.agents import config, place
from relit.agents.kind import Config, fill
from relit.app import agent_files, node_word
from relit.app.agent_adding import APPLY_S
from relit.app.agent_place import ask, launch
from relit.app.agents import kind_of, place_of
from relit.app.by_hand import Hand
from relit.app.folder import run_dir
from relit.app.instances import folder_of, home_of
from relit.app.vaulted import for_agent
from relit.errors import ConfigError, Conflict, NotFound
from relit.lib.clock import SYSTEM_CLOCK
from relit.settings import Environment, Settings, load

VALIDATE_S = 60.0
_SAID = 2_000  # characters of what a validator says


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What is edited. ``table``: a file of relit's own configuration, else ``inside`` the agent's home."""

    agent: str
    file: Path
    inside: str = ""
    table: bool = False
    text: bytes = b""


def page(settings: Settings, name: str, file: str = "") -> Page:
    """Its first configuration file, or the one called ``file``; for an agent without any: where it stands in relit's.
    NotFound; ConfigError."""
    kind, home = kind_of(settings, name), home_of(settings, name)
    if kind is None or not (kind.config or file):
        where = agent_files.standing(settings, name)
        return Page(agent=name, file=where.path, table=True, text=where.text.encode())
    inside = file or kind.config[0].path
    try:
        return Page(agent=name, file=home / inside, inside=inside, text=place.read(home, inside, config.LARGEST))
    except FileNotFoundError:
        return Page(agent=name, file=home / inside, inside=inside)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{home / inside} cannot be edited", why=str(error), fix=f"relit agent exec {name} -- ls -la"
        ) from error


def keep_draft(settings: Settings, wanted: Page, text: bytes) -> Path:
    """A copy that outlives the command."""
    folder = folder_of(settings, wanted.agent) / "run" / "drafts"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / wanted.file.name
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(text)
    return draft


async def faults(settings: Settings, environment: Environment, wanted: Page, text: bytes) -> str:
    """What is wrong with a draft; empty for nothing."""
    if wanted.table:
        return await asyncio.to_thread(_table_faults, settings, environment, wanted, text)
    ours = _ours(settings, wanted)
    if ours is None:
        return ""  # a file that no kind describes: nobody knows what is right
    file = ours.file(model=False, silent=False)
    try:
        tree = config.load(text, file.format)
    except config.Unreadable as error:
        return f"{wanted.inside}: {error}"
    if wrong := config.wrong(file, tree):
        return wrong
    return await _validated(settings, environment, wanted, ours, text) if ours.validate and ours.draft else ""


def _table_faults(settings: Settings, environment: Environment, wanted: Page, text: bytes) -> str:
    try:
        load(settings.path, environment=environment, data=settings.data, drafts={wanted.file: text.decode()})
    except ConfigError as error:
        return error.why or error.what
    except UnicodeDecodeError as error:
        return str(error)
    return ""


def _ours(settings: Settings, wanted: Page) -> Config | None:
    kind = kind_of(settings, wanted.agent)
    return next((each for each in kind.config if each.path == wanted.inside), None) if kind else None


async def _validated(settings: Settings, environment: Environment, wanted: Page, ours: Config, text: bytes) -> str:
    """The agent's own word on it: the draft lies beside the file for as long as that takes."""
    home, kind = home_of(settings, wanted.agent), kind_of(settings, wanted.agent)
    above, _, name = wanted.inside.rpartition("/")
    inside = f"{above}/.{name}.relit-draft.json" if above else f".{name}.relit-draft.json"
    names = {**place_of(settings, wanted.agent, kind).names(), "draft": str(home / inside)}
    await for_agent(settings, wanted.agent, "agent edit")
    made = await asyncio.to_thread(launch, settings, environment, wanted.agent, fill(ours.validate, names))
    place.write(home, inside, text)
    try:
        said = await ask(made, VALIDATE_S, fill(ours.draft, names))
    except TimeoutError:
        return f"{wanted.inside}: its own check was not done in {VALIDATE_S:.0f} s"
    finally:
        place.remove(home, inside)
    return "" if said.code == 0 else f"{wanted.inside}: {' '.join(said.text.split())[-_SAID:] or f'exit {said.code}'}"


async def apply(settings: Settings, environment: Environment, wanted: Page, text: bytes, *, restart: bool) -> str:
    """Put it in place; answers what was restarted, in words. Conflict: the file has changed since it was read."""
    if page(settings, wanted.agent, "" if wanted.table else wanted.inside).text != wanted.text:
        raise Conflict(
            f"{wanted.file} has changed since you began", why="the agent, or somebody else, wrote to it",
            fix=f"relit agent edit {wanted.agent}",
        )  # fmt: skip
    if wanted.table:
        return await _apply_table(settings, wanted, text)
    home, ours = home_of(settings, wanted.agent), _ours(settings, wanted)
    place.write(home, wanted.inside, text)
    if ours is not None:
        config.settle(home, ours.file(model=False, silent=False))
    return await _restarted(settings, wanted.agent) if restart else ""


async def _apply_table(settings: Settings, wanted: Page, text: bytes) -> str:
    agent_files.put(wanted.file, text.decode())
    written = SYSTEM_CLOCK.monotonic()
    if not await node_word.reread(run_dir(settings)):
        return ""
    await node_word.applied(run_dir(settings), written, lambda now: True, APPLY_S)
    return "the node has read it; what it changed starts again"


async def _restarted(settings: Settings, name: str) -> str:
    hand = Hand(settings, name, [])
    if hand.held or not await hand.lives():
        return ""
    done = await hand.restart()
    return f"{name} runs with it (pid {done.pid})" if done.pid else ""


def see_there(settings: Settings, name: str) -> None:
    """NotFound for one that is not there."""
    agent_files.see_known(settings, name)
    if not home_of(settings, name).is_dir() and kind_of(settings, name) is not None:
        raise NotFound(
            f"{name} has no home yet", why="it was never started", fix=f"relit up, then: relit agent edit {name}"
        )
