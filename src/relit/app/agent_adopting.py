"""An installation that its owner made, taken over: copied, checked, kept as it was, and made an agent."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import msgspec

from relit.agents import adoption, config, door, env_file, moving, place, state, timetables
from relit.agents.adapter import Place, configs_of
from relit.agents.adoption import Named
from relit.agents.kind import Adopt, Kind, fill
from relit.agents.moving import Copied
from relit.agents.timetables import Timetable
from relit.app import agent_files, by_hand
from relit.app.agent_adding import Added, Wanted, tell, write
from relit.app.agent_installing import Say
from relit.app.agent_original import Original, Stays, by_yourself
from relit.app.agents import place_of, variables_of
from relit.app.instances import folder_of, home_of
from relit.control.care import Care, ConfigFile, EnvFile
from relit.errors import Conflict, Invalid, NotFound, RelitError
from relit.lib.durations import size
from relit.lib.service import finished
from relit.settings import Environment, Settings
from relit.settings.model import OWN

TAG = "adopted"
_HIDDEN = ("token", "key", "secret", "password")


class Aside(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that the configuration names: where it lay, where it is below the home."""

    key: str
    path: str
    into: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an adoption, in ``run/adopted/record.json``: what ``release`` undoes. ``config``: the original
    text; ``env``: how its file of variables gave values to those that relit sets; ``done``: nothing of the agent's
    leads to the original any more."""

    source: str
    kind: str
    config: str = ""
    env: dict[str, list[str]] = {}
    asides: list[Aside] = []
    done: bool = True


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A key of its configuration that relit sets. Secrets are not shown."""

    key: str
    before: Any
    after: Any


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be taken over. ``name`` and ``kind`` are guessed when empty; ``known_as``: how ``source`` was named,
    which a link may have led from."""

    source: Path
    known_as: Path | None = None
    name: str = ""
    kind: str = ""
    version: str = ""
    model: str = ""
    move: bool = False
    start: bool = True


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    """What was done. ``schedules``: what it did by itself; relit has switched it off, where ``switched_off``.
    ``blind``: its kind has a canary, which cannot be sent: its calls to models do not pass relit. ``outside``: folders
    beside the installation that were copied, and stay where they are, whether it was ``moved`` or not."""

    added: Added
    source: str
    copied: Copied
    changes: list[Change]
    schedules: list[Timetable]
    switched_off: bool
    snapshot: int
    moved: bool
    outside: list[str] = []
    stays: Stays | None = None
    blind: bool = False


def guessed(settings: Settings, asked: Asked) -> Asked:
    """With name and kind. NotFound: no such folder, or of no kind that relit knows; Invalid."""
    known_as = asked.known_as or asked.source.expanduser().absolute()
    source = known_as.resolve()
    if not source.is_dir():
        raise NotFound(f"there is no folder {source}", fix="name the folder of an installation: ~/.openclaw")
    kinds = settings.kinds()
    found = [asked.kind] if asked.kind else adoption.recognised(source, kinds)
    if len(found) != 1 or found[0] not in kinds or kinds[found[0]].adopt is None:
        known = sorted(name for name, kind in kinds.items() if kind.adopt is not None)
        marks = "; ".join(f"{name} has {' and '.join(_adopt(kinds[name]).marks)}" for name in known)
        raise NotFound(
            f"{source} is no installation that relit can take over", why=marks, fix="--kind NAME says which it is"
        )
    return msgspec.structs.replace(asked, source=source, known_as=known_as, kind=found[0], name=asked.name or found[0])


def _adopt(kind: Kind) -> Adopt:
    assert kind.adopt is not None, "it was looked at"
    return kind.adopt


def outside(settings: Settings, environment: Environment, asked: Asked) -> list[str]:
    """Folders beside the installation that its configuration names: they are copied, and never removed. As ``adopt``
    raises before it begins."""
    _see_new(settings, asked)
    kind, others = settings.kinds()[asked.kind], door.ports_of_all(folder_of(settings, asked.name).parent)
    looking = Moving(asked, kind, environment, lambda said: None, threading.Event(), others)
    looking.see()
    return looking.outside


def _see_new(settings: Settings, asked: Asked) -> None:
    """Conflict: it was taken over already. The one that did so may have been killed on its way."""
    name, source = asked.name, asked.source
    record = kept_record(settings, name) if name in settings.agents else None
    if record is None or record.source != str(source):
        return
    home = home_of(settings, name)
    if not record.done:
        raise Conflict(
            f"{name} was to be {source}, taken over, but that was cut short", why=f"nothing was removed from {source}",
            fix=f"relit agent rm {name}; mv {home} {home}.cut-short; then again",
        )  # fmt: skip
    raise Conflict(
        f"{source} was taken over already: {name} is complete without it",
        why="its removal was not asked for, was refused or was cut short",
        fix=by_yourself(source, home / _adopt(settings.kinds()[asked.kind]).into),
    )


async def adopt(
    settings: Settings, environment: Environment, asked: Asked, say: Say, step: Callable[[str], None],
    snapshot: Callable[[str], Awaitable[int]],
) -> Adopted:  # fmt: skip
    """Take it over; the original is not touched, unless ``move``: then it is removed in the end, if it is still as it
    was copied. Conflict: it runs."""
    asked = guessed(settings, asked)
    _see_new(settings, asked)
    kind, end = settings.kinds()[asked.kind], threading.Event()
    others = door.ports_of_all(folder_of(settings, asked.name).parent)
    moving_in = Moving(asked, kind, environment, step, end, others)
    await asyncio.to_thread(moving_in.see)
    wanted = Wanted(name=asked.name, kind=asked.kind, version=asked.version, model=asked.model or OWN, start=False)
    added = await write(settings, environment, wanted, say, moving_in.lay, end.set)
    step("taking a snapshot of it as it was")
    number = await snapshot(asked.name)
    changes = await asyncio.to_thread(moving_in.fit)
    if asked.start:
        by_hand.let(moving_in.settings, asked.name)
    node = await tell(settings, asked.name)
    stays = None
    if asked.move:  # last: the agent does not depend on it
        step(f"removing {asked.source}")
        stays = await finished(asyncio.to_thread(moving_in.remove))
    return Adopted(
        added=msgspec.structs.replace(added, start=asked.start, node=node),
        source=str(asked.source),
        copied=moving_in.copied,
        changes=changes,
        schedules=moving_in.schedules,
        switched_off=_adopt(kind).switches_off,
        snapshot=number,
        moved=asked.move and stays is None,
        outside=moving_in.outside,
        stays=stays,
        blind=kind.probes.canary is not None and (asked.model or OWN) == OWN,
    )


class Moving:
    """One installation on its way in. ``others``: ports of the agents that are here already. Blocking."""

    def __init__(
        self, asked: Asked, kind: Kind, environment: Environment, step: Callable[[str], None], end: threading.Event,
        others: Collection[int] = (),
    ) -> None:  # fmt: skip
        self._asked = asked
        self._kind = kind
        self._adopt = _adopt(kind)
        self._owner = environment.home
        self._step = step
        self._end = end
        self._others = others
        self._tree: dict[str, Any] = {}
        self._asides: list[Aside] = []
        self._within: list[Aside] = []  # that lie in one of these
        self.copied = Copied()
        self.schedules: list[Timetable] = []
        self.settings: Settings
        self._original: Original

    # --- before ------------------------------------------------------------------------------------------------

    def see(self) -> None:
        """Raises what forbids it: it runs (Conflict), it cannot be read."""
        source = self._asked.source
        try:
            self._tree = adoption.tree(source, self._kind)
        except (OSError, ValueError) as error:
            raise Invalid(
                f"the configuration of {source} cannot be read", why=str(error), fix="mend it first: it would not start"
            ) from error
        for each in adoption.named(self._tree, self._adopt.folders):
            self._see_aside(each)
        self._original = Original(source, self._asked.known_as or source, self._adopt, self._tree, self._others)
        self._original.see_still()

    def _see_aside(self, each: Named) -> None:
        """A folder that is there comes along, once. Relative paths and ``~`` mean the owner's home."""
        said = config.said(self._tree, each.key)
        if not isinstance(said, str) and not each.usual:
            return
        path = self._asked.source / each.usual if not isinstance(said, str) else self._expanded(said)
        path = path.resolve()
        if not path.is_dir():
            return
        own = [Aside(key="", path=str(self._asked.source), into=self._adopt.into)] if each.many else []
        for known in (*self._asides, *own):  # it lies in one that comes along, or is the same
            if path.is_relative_to(known.path):
                inner = path.relative_to(known.path).as_posix()
                into = known.into if inner == "." else f"{known.into}/{inner}"
                self._within.append(Aside(key=each.key, path=str(path), into=into))
                return
        self._asides.append(Aside(key=each.key, path=str(path), into=each.into))

    def _expanded(self, named: str) -> Path:
        return self._owner / named[2:] if named.startswith("~/") else (self._owner / named)

    @property
    def outside(self) -> list[str]:
        """Folders that come along and do not lie in the installation's own."""
        return [each.path for each in self._asides if not Path(each.path).is_relative_to(self._asked.source)]

    # --- into the home -----------------------------------------------------------------------------------------

    def lay(self, made: Settings) -> str:
        """Copy it into the new agent's home. Answers what is to stand in its file beside its table."""
        self.settings = made
        home, source = home_of(made, self._asked.name), self._asked.source
        if home.is_dir() and any(home.iterdir()):
            raise Conflict(
                f"{home} holds something already", why="it is another agent's, or left of one that was killed",
                fix=f"--name NAME; or look, and then: rm -r {home}",
            )  # fmt: skip
        self._see_room(home)
        self._step(f"copying {source}")
        try:
            self._original.mark()
            places = {Path(folder): home / into for folder, into, _ in self._parts()}
            for folder, into, skip in self._parts():
                done = moving.copy(Path(folder), home / into, skip, self._end.is_set, places)
                self._add(done, into)
            self._step("comparing the copy")
            self._compare(home)
        except moving.Stopped as error:
            raise RelitError("it was not taken over: it was to end") from error
        except (OSError, shutil.Error) as error:
            raise RelitError(f"{source} was not copied", why=str(error), fix="relit agent adopt, again") from error
        self._original.see_still()
        return self._settled(made, home)

    def _parts(self) -> list[tuple[str, str, list[str]]]:
        """(folder, where it goes below the home, what is left out)."""
        source, into = str(self._asked.source), self._adopt.into
        stale = [each.removeprefix(f"{into}/") for each in self._kind.stale if each.startswith(f"{into}/")]
        inner = [each.path.removeprefix(f"{source}/") + "/" for each in self._inner()]
        found = [(source, into, [*self._adopt.without, *stale, *inner])]
        return found + [(each.path, each.into, []) for each in self._asides]

    def _inner(self) -> list[Aside]:
        """Those that lie in the installation's own folder: they are copied apart from it."""
        return [each for each in self._asides if Path(each.path).is_relative_to(self._asked.source)]

    def _see_room(self, home: Path) -> None:
        rooms = [moving.room(Path(folder), skip, home) for folder, _, skip in self._parts()]
        needed = sum(each.needed for each in rooms)
        if not moving.Room(needed, rooms[0].free).enough:
            raise RelitError(
                f"{self._asked.source} does not fit", why=f"it has {size(needed)}, {size(rooms[0].free)} are free",
                fix=f"df -h {home.parent}; --data DIR may name a larger disk",
            )  # fmt: skip

    def _add(self, done: Copied, into: str) -> None:
        self.copied.files += done.files
        self.copied.bytes += done.bytes
        self.copied.outside += [f"{into}/{each}" for each in done.outside]
        aside = [str(Path(each.path).relative_to(self._asked.source)) for each in self._inner()]
        self.copied.left += [f"{into}/{each}" for each in done.left if each not in aside]

    def _compare(self, home: Path) -> None:
        for folder, into, skip in self._parts():
            if wrong := moving.differences(Path(folder), home / into, skip):
                raise RelitError(
                    f"the copy of {folder} is not like it",
                    why="; ".join(wrong),
                    fix="stop who writes there, then again",
                )

    def _settled(self, made: Settings, home: Path) -> str:
        """What must be put right in the copy, and what is to be kept of the original."""
        settle = [
            each for name in self._names() for each in self._adopt.settled(str(name), str(home / self._adopt.into))
        ]
        if settle:
            care = Care(agent=self._asked.name, kind=self._asked.kind, home=str(home), settle=settle)
            if fault := asyncio.run(state.look(care)):
                raise RelitError(
                    f"the copy of {self._asked.source} is not sound", why=fault.what, fix="mend the original first"
                )
        self.schedules = timetables.read(self._adopt.schedules, home / self._adopt.into, self._tree)
        self._take_door(folder_of(made, self._asked.name))
        keep_record(made, self._asked.name, self._record())
        return _tables(self._asked.name, self._kind.title, self.schedules, switched_off=self._adopt.switches_off)

    def _take_door(self, folder: Path) -> None:
        """Its ports and tokens stay."""
        source, adopt = self._asked.source, self._adopt
        ports = {name: adoption.port_of(source, adopt, self._tree, name) for name in self._kind.ports}
        tokens = {name: adoption.door_said(source, self._tree, where) for name, where in adopt.tokens.items()}
        door.take(
            folder,
            {name: port for name, port in ports.items() if port is not None},
            {name: each for name, each in tokens.items() if _is_token(each, adopt.token_least)},
        )

    def _record(self) -> Record:
        path = adoption.inside(self._kind)
        file = self._asked.source / path
        text = file.read_text() if path and file.exists() else ""
        env = env_file.written(self._asked.source, adoption.variables(self._kind), self._kind.env)
        return Record(
            source=str(self._asked.source), kind=self._asked.kind, config=text, env=env, asides=self._asides, done=False
        )

    # --- its configuration -------------------------------------------------------------------------------------

    def fit(self) -> list[Change]:
        """Make it say what relit relies on; answers what changed."""
        kind, home = self._kind, home_of(self.settings, self._asked.name)
        where = place_of(self.settings, self._asked.name, kind)
        changes = [change for each in configs_of(kind, where) for change in self._fit(each, home, where)]
        changes += self._fit_variables(home, variables_of(self.settings, self._asked.name, kind, where))
        if (record := kept_record(self.settings, self._asked.name)) is not None:
            keep_record(self.settings, self._asked.name, msgspec.structs.replace(record, done=True))
        return changes

    def _fit(self, file: ConfigFile, home: Path, where: Place) -> list[Change]:
        try:
            tree = config.read(home, file)
        except FileNotFoundError:
            config.make(home, msgspec.structs.replace(file, keep=fill(file.keep, where.names())))
            return []
        led = {each.key: str(home / each.into) for each in (*self._asides, *self._within)}
        wanted = {**self._moved(tree), **led, **config.expanded(tree, fill(file.keep, where.names()))}
        changes = [
            Change(key=key, before=_shown(key, config.said(tree, key)), after=_shown(key, value))
            for key, value in wanted.items()
            if config.said(tree, key) != value
        ]
        if config.keep(tree, wanted):
            place.write(home, file.path, config.dump(tree, file.format))
        config.settle(home, file)
        return changes

    def _fit_variables(self, home: Path, file: EnvFile | None) -> list[Change]:
        if file is None:
            return []
        env_file.own(home, file.path, self._asked.source / adoption.variables(self._kind))
        before = env_file.said(home, file.path)
        env_file.fit(home, file)  # what is wrong with it the start tells
        return [
            Change(key=f"{file.path}:{name}", before=_shown(name, before.get(name)), after=_shown(name, value))
            for name, value in env_file.said(home, file.path).items()
            if value != before.get(name)
        ]

    def _names(self) -> list[Path]:
        """What the original is called: a link may have led to it."""
        return [*dict.fromkeys([self._asked.source, self._asked.known_as or self._asked.source])]

    def _moved(self, tree: dict[str, Any]) -> dict[str, str]:
        """Settings that name something in the original's folder: where it is now."""
        home, known = home_of(self.settings, self._asked.name), self._names()
        names = [str(each) for each in known]
        names += [f"~/{each.relative_to(self._owner)}" for each in known if each.is_relative_to(self._owner)]
        found = {}
        for key, value in config.texts(tree):
            for name in names:
                if value.startswith(f"{name}/"):
                    found[key] = str(home / self._adopt.into) + value.removeprefix(name)
        return found

    def remove(self) -> Stays | None:
        """The original: what was copied is in a snapshot. Answers why it stays, if it does."""
        return self._original.remove(home_of(self.settings, self._asked.name) / self._adopt.into)


def _is_token(said: Any, least: int) -> bool:
    """Whether callers can show it, and the agent takes it: else relit makes one."""
    plain = isinstance(said, str) and said.isascii() and said.isprintable() and "${" not in said
    return plain and len(said.strip()) >= least


def _shown(key: str, value: Any) -> Any:
    last = key.rpartition(".")[2].lower()
    return "…" if value and isinstance(value, str) and any(word in last for word in _HIDDEN) else value


def _tables(name: str, title: str, schedules: list[Timetable], *, switched_off: bool) -> str:
    """Its schedules as remarks: a person decides."""
    if not schedules:
        return ""
    if not switched_off:
        return f"\n# {title} goes on with its own schedules: {', '.join(each.name for each in schedules)}\n"
    lines = [f"\n# {title} did these by itself; relit has switched that off. Without the marks relit does them:\n"]
    for each in schedules:
        values = {"every": each.every, "cron": each.cron, "zone": each.zone, "message": each.message}
        text = agent_files.table(("agents", name, "schedules", each.name), values)
        lines += [f"# {line}\n" for line in text.splitlines()] + ([f"# ({each.told})\n"] if each.told else []) + ["#\n"]
    return "".join(lines)


# --- what is kept of it -------------------------------------------------------------------------------------------


def _record_of(settings: Settings, name: str) -> Path:
    return folder_of(settings, name) / "run" / "adopted" / "record.json"


def keep_record(settings: Settings, name: str, record: Record) -> None:
    """OSError."""
    path = _record_of(settings, name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    agent_files.put(path, msgspec.json.encode(record).decode())


def kept_record(settings: Settings, name: str) -> Record | None:
    """``None``: it was not adopted."""
    try:
        return msgspec.json.decode(_record_of(settings, name).read_bytes(), type=Record)
    except FileNotFoundError:
        return None
