"""An agent given back to its owner: a folder that it runs in without relit."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from relit.agents import adoption, config, env_file, moving, state
from relit.agents.adapter import Place, configs_of
from relit.agents.kind import Adopt, Kind, fill
from relit.agents.moving import Copied
from relit.app import agent_files
from relit.app.agent_adopting import Record, kept_record
from relit.app.agents import kind_of, place_of, variables_of
from relit.app.instances import home_of
from relit.control.care import Care, ConfigFile
from relit.errors import Conflict, Invalid, RelitError
from relit.settings import Settings

_NOTHING = object()
REST = "from-relit"  # the folder, in the one that it is given back to, of what has no place there


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """What was made. ``undone``: keys that are as before relit, or as an agent without relit needs them. ``model``:
    keys that still name relit's gateway, and the owner has to set. ``beside``: folders with what else it had in its
    home (where it worked, its HOME), which an installation of its owner's has elsewhere."""

    name: str
    dest: str
    copied: Copied
    undone: list[str]
    start: str
    model: list[str] = []
    beside: list[str] = []


def see(settings: Settings, name: str, dest: Path) -> tuple[Kind, Adopt, Path]:
    """Whether it can be given back there. Conflict: there is something; Invalid: its kind cannot be given back."""
    kind, dest = kind_of(settings, name), dest.expanduser().absolute()
    if kind is None or kind.adopt is None:
        raise Invalid(
            f"{name} cannot be given back", why="its kind says nothing of how it lives without relit",
            fix=f"its files are in {home_of(settings, name)}: copy them",
        )  # fmt: skip
    if os.path.lexists(dest) and (not dest.is_dir() or any(dest.iterdir())):
        raise Conflict(f"{dest} is there already", why="nothing is overwritten", fix="name a folder that is new")
    return kind, kind.adopt, dest


def release(settings: Settings, name: str, dest: Path) -> Released:
    """Copy a stopped agent's files to ``dest``, laid out as its kind has them without relit. Blocking. As ``see``.

    The agent stays as it is.
    """
    kind, adopt, place = see(settings, name, dest)
    try:
        return _Release(settings, name, kind, adopt, place).make()
    except (OSError, ValueError, shutil.Error) as error:
        raise RelitError(f"{name} was not given back", why=str(error), fix=f"remove {place}, then again") from error


class _Release:
    def __init__(self, settings: Settings, name: str, kind: Kind, adopt: Adopt, dest: Path) -> None:
        self._settings = settings
        self._name = name
        self._kind = kind
        self._adopt = adopt
        self._dest = dest
        self._home = home_of(settings, name)
        self._place: Place = place_of(settings, name, kind)
        self._record: Record | None = kept_record(settings, name)
        self._places: dict[Path, Path] = {}  # what is copied, and where it goes

    def make(self) -> Released:
        ours = [*self._kind.stale, *(path for each in self._kind.config for path in each.beside)]
        skip = [each.removeprefix(f"{self._adopt.into}/") for each in ours]
        asides = dict(self._asides().values())
        self._places = {self._home: self._dest / REST, self._home / self._adopt.into: self._dest, **asides}
        copied = self._copied(self._home / self._adopt.into, [*self._adopt.without, *skip])
        for folder in asides:
            if not asides.keys() & {*folder.parents}:
                self._add(copied, folder)
        beside = self._rest(copied)
        self._settle()
        undone = self._undo(configs_of(self._kind, self._place)[0]) if adoption.inside(self._kind) else []
        undone += self._undo_variables()
        start = self._adopt.start.replace("{dest}", str(self._dest))
        return Released(
            name=self._name, dest=str(self._dest), copied=copied, undone=undone, start=start, model=self._model(),
            beside=beside,
        )  # fmt: skip

    def _asides(self) -> dict[str, tuple[Path, Path]]:
        """Folders that its configuration names beside its own: by key, where each lies and where it goes."""
        path = self._home / self._adopt.into / adoption.inside(self._kind)
        found: dict[str, tuple[Path, Path]] = {}
        tree = config.load(path.read_bytes(), self._kind.config[0].format) if path.is_file() else {}
        for each in adoption.named(tree, self._adopt.folders):
            said = config.said(tree, each.key)
            folder = Path(said) if isinstance(said, str) and each.many else self._home / each.into
            apart = folder.is_relative_to(self._home) and not folder.is_relative_to(self._home / self._adopt.into)
            if apart and folder != self._home and folder.is_dir():
                around = [dest / folder.relative_to(it) for it, dest in found.values() if folder.is_relative_to(it)]
                made = [*around, self._dest / (each.usual or folder.relative_to(self._home))]
                found[each.key] = (folder, made[0])
        return found

    def _rest(self, copied: Copied) -> list[str]:
        """What else is in its home, into a folder of its own: the agent may have worked there. Answers what."""
        taken = [str(folder.relative_to(self._home)) + "/" for folder, _ in self._asides().values()]
        skip = [f"{self._adopt.into}/", *taken, *self._kind.exclude]
        there = moving.entries(self._home, skip)
        made = sorted({Path(each.path).relative_to(self._home).parts[0] for each in there if not each.is_dir()})
        if made:
            more = self._copied(self._home, skip)
            copied.files, copied.bytes = copied.files + more.files, copied.bytes + more.bytes
            copied.outside += more.outside
        return [str(self._dest / REST / each) for each in made]

    def _copied(self, folder: Path, skip: Sequence[str]) -> Copied:
        return moving.copy(folder, self._places[folder], skip, places=self._places)

    def _add(self, copied: Copied, folder: Path) -> None:
        more = self._copied(folder, [])
        copied.files, copied.bytes = copied.files + more.files, copied.bytes + more.bytes
        name = folder.relative_to(self._home)
        copied.outside += [f"{name}/{each}" for each in more.outside]
        copied.left += [f"{name}/{each}" for each in more.left]

    def _model(self) -> list[str]:
        """Of an agent that never had a model of its own."""
        if self._place.model is None or self._record is not None or not self._kind.config:
            return []
        table = self._kind.config[0]
        with_model, without = (table.file(model=each, silent=False).keep.keys() for each in (True, False))
        return sorted(with_model - without)

    def _settle(self) -> None:
        """What of its databases names the home."""
        into = self._adopt.into
        settle = [
            msgspec.structs.replace(each, database=each.database.removeprefix(f"{into}/"))
            for each in self._adopt.settled(str(self._home / into), str(self._dest))
        ]
        care = Care(agent=self._name, kind="", home=str(self._dest), settle=settle)
        if settle and (fault := asyncio.run(state.look(care))):
            raise RelitError(
                f"{self._name} was not given back", why=fault.what, fix=f"relit doctor; remove {self._dest}"
            )

    def _undo(self, each: ConfigFile) -> list[str]:
        """What relit keeps, as it was before; of an agent that relit made, only what leads into its home."""
        file = self._dest / adoption.inside(self._kind)
        if not file.exists():
            return []
        tree, form = config.load(file.read_bytes(), each.format), each.format
        kept = config.expanded(tree, fill(each.keep, self._place.names()))
        original = config.load(self._record.config.encode(), form) if self._record and self._record.config else None
        wanted = {
            key: self._was(original, key, value) for key, value in kept.items() if config.said(tree, key) == value
        }
        wanted |= self._home_again(tree) | {key: str(dest) for key, (_, dest) in self._asides().items()}
        changed = [key for key, value in wanted.items() if _set(tree, key, value)]
        agent_files.put(file, config.dump(tree, form).decode())
        return changed

    def _undo_variables(self) -> list[str]:
        """The same in its file of variables. What relit says of one that said nothing before leads into no home."""
        file, path = variables_of(self._settings, self._name, self._kind, self._place), adoption.variables(self._kind)
        if file is None or not path:
            return []
        ours = {name: env_file.spelled(self._given(value)) for name, value in file.keep.items()}
        was = {name: [text] for name, text in ours.items() if text is not None}
        was |= self._record.env if self._record is not None else {}
        return [f"{path}:{name}" for name in env_file.undo(self._dest.resolve(), path, file.keep, was)]

    def _given(self, value: str) -> str:
        """A path in the agent's home, where it is given back to."""
        for folder, dest in ((self._home / self._adopt.into, self._dest), (self._home, self._dest / REST)):
            if Path(value).is_relative_to(folder):
                return str(dest / Path(value).relative_to(folder))
        return value

    def _was(self, original: dict[str, Any] | None, key: str, value: Any) -> Any:
        if (aside := self._asides().get(key)) is not None:
            return str(aside[1])
        token = next((name for name, where in self._adopt.tokens.items() if where == key), None)
        if original is not None:
            was = config.said(original, key)
            return _NOTHING if was is None else was
        return self._place.door.tokens.get(token, value) if token else value

    def _home_again(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Settings that name something in the agent's home."""
        inside = f"{self._home / self._adopt.into}/"
        found: dict[str, Any] = {}
        for key, value in config.texts(tree):
            if value.startswith(inside):
                found[key] = str(self._dest / value.removeprefix(inside))
        return found


def _set(tree: dict[str, Any], key: str, value: Any) -> bool:
    """By a dotted key; answers whether it was otherwise."""
    if config.said(tree, key) == value:
        return False
    if value is not _NOTHING:
        return config.keep(tree, {key: value})
    *above, last = key.split(".")
    table = config.said(tree, ".".join(above)) if above else tree
    if not isinstance(table, dict) or table.pop(last, None) is None:
        return False
    if above and not table:  # it was made for that
        _set(tree, ".".join(above), _NOTHING)
    return True
