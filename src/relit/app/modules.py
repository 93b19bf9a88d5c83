"""Loads Python modules with agents and workflows."""

from __future__ import annotations

import copy
import importlib
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from relit.app.declared import mailbox
from relit.durable.definitions import Agent, Definition, Workflow, workflows
from relit.durable.payload import Codec
from relit.errors import ConfigError, UnknownWorkflow
from relit.settings import Settings
from relit.settings.check import nearest


def load(named: str, folder: Path) -> list[Definition]:
    """The definitions in ``module``, ``package.module``, ``file.py``, or one of them: ``module:object``.

    ``folder`` is searched first. Raises ``ConfigError``.
    """
    name, _, wanted = named.partition(":")
    module = _import(name, folder)
    found = {key: value for key, value in vars(module).items() if isinstance(value, (Workflow, Agent))}
    if wanted:
        return [_one(module, wanted, found)]
    if not found:
        raise ConfigError(
            f"{name} defines no agent and no workflow",
            why="nothing in it is decorated with @relit.agent or @relit.workflow",
            fix="decorate an async function (ctx, …) with @relit.workflow",
        )
    return list(found.values())


def named(what: str, folder: Path) -> Any:
    """The object that ``module:object`` names. Raises ``ConfigError``."""
    name, _, wanted = what.partition(":")
    module = _import(name, folder)
    if not wanted or not hasattr(module, wanted):
        known = [key for key in vars(module) if not key.startswith("_")]
        meant = nearest(wanted, known)
        raise ConfigError(
            f"{name} has no {wanted or 'object that is named'}", why=f"did you mean {meant}?" if meant else "",
            fix="write module:object",
        )  # fmt: skip
    return getattr(module, wanted)


def _one(module: ModuleType, wanted: str, found: dict[str, Definition]) -> Definition:
    """An object of a module, by its Python name or by the name it was given."""
    by_name = {each.name: each for each in found.values()}
    definition = found.get(wanted) or by_name.get(wanted)
    if definition is not None:
        return definition
    known = sorted({*found, *by_name})
    meant = nearest(wanted, known)
    raise UnknownWorkflow(
        f"{module.__name__} has no workflow or agent {wanted!r}",
        why=f"it has {', '.join(known) or 'none'}" + (f"; did you mean {meant}?" if meant else ""),
        fix=f"relit run {module.__name__}:{meant or (known[0] if known else 'WORKFLOW')}",
    )


def _import(name: str, folder: Path) -> ModuleType:
    folder, name = _place(name, folder)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if missing == name.partition(".")[0] or missing == name:
            raise ConfigError(
                f"there is no module {name!r} in {folder}",
                why=f"{folder} has {_neighbours(folder)}",
                fix="cd to the folder of it, or set folder in its [agents.NAME]",
            ) from error
        raise ConfigError(
            f"{name} needs the module {missing!r}, which is not installed",
            why=_spot(error),
            fix=f"{sys.executable} -m pip install {missing}",
        ) from error
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{name} cannot be imported: {type(error).__name__}: {error}", why=_spot(error), fix=f"python -m {name}"
        ) from error


def _place(name: str, folder: Path) -> tuple[Path, str]:
    """``agents/mine.py`` is the module ``mine`` in ``agents``."""
    if name.endswith(".py") or os.sep in name:
        path = (folder / Path(name).expanduser()).absolute()
        if not path.is_file():
            raise ConfigError(f"there is no file {path}", fix=f"ls {path.parent}")
        return path.parent, path.stem
    return folder, name


def _neighbours(folder: Path) -> str:
    found = sorted(path.stem for path in folder.glob("*.py"))[:8]
    return ", ".join(found) or "no Python files"


def _spot(error: BaseException) -> str:
    """The line of the module's own code that failed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    own = [frame for frame in frames if os.sep + "relit" + os.sep not in frame.filename]
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    return f"{own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""


def codec(settings: Settings) -> Codec | None:
    """The object that ``server.codec`` names; None when it names none. Raises ``ConfigError``."""
    if settings.server.codec is None:
        return None
    module, _, name = settings.server.codec.partition(":")
    found: Codec | None = getattr(_import(module, settings.folder), name, None) if name else None
    if found is None or not all(hasattr(found, part) for part in ("name", "seal", "open")):
        raise ConfigError(
            f"server.codec = {settings.server.codec!r} is not a codec",
            why="it must name an object (module:object) with `name`, `seal(bytes)` and `open(bytes)`",
            fix=f"define {name or 'one'} in {module}.py beside relit.toml",
        )
    return found


def of_agent(settings: Settings, name: str) -> list[Definition]:
    """The definitions of an agent of relit.toml. Raises ``ConfigError``."""
    agent = settings.agents.get(name)
    if agent is None or agent.entry is None:
        known = [each for each, table in settings.agents.items() if table.kind == "python"]
        meant = nearest(name, known)
        raise ConfigError(
            f"relit.toml has no Python agent {name!r}",
            why=f"it has {', '.join(known) or 'none'}" + (f"; did you mean {meant}?" if meant else ""),
            fix="relit config show",
        )
    found = load(agent.entry, (settings.folder / Path(agent.folder or ".").expanduser()).absolute())
    for each in found:
        if isinstance(each, Agent) and ":" in agent.entry and each.name != name:
            raise ConfigError(
                f"[agents.{name}] has the entry {agent.entry!r}, but that agent calls itself {each.name!r}",
                why="messages are addressed by name",
                fix=f"rename the table to [agents.{each.name}], or write @relit.agent(name={name!r})",
            )
    return found


def with_mailboxes(found: Iterable[Definition], settings: Settings) -> list[Definition]:
    """The same definitions, with the mailboxes of relit.toml where it has some."""
    return [_with_mailbox(each, settings) for each in found]


def _with_mailbox(definition: Definition, settings: Settings) -> Definition:
    table = settings.agents.get(definition.name) if isinstance(definition, Agent) else None
    box = None if table is None else mailbox(definition.name, table)
    if box is None:
        return definition
    changed: Any = copy.copy(definition)
    changed.mailbox = box
    return changed  # type: ignore[no-any-return]


def find(found: Iterable[Definition], wanted: str | None, module: str) -> Workflow[Any]:
    """The workflow meant by the command line: the only one, when it names none."""
    known = workflows(found)
    if wanted is None and len(known) == 1:
        return known[0]
    for each in known:
        if wanted in (each.target, each.name):
            return each
    names = [each.name for each in known]
    meant = nearest(wanted or "", names) or names[0]
    raise UnknownWorkflow(
        f"no workflow is called {wanted!r}" if wanted else "several workflows are there; name one",
        why=f"there are {', '.join(names)}",
        fix=f"relit run {module}:{meant}",
    )
