"""Runtimes that nothing needs any more: which these are, and away with them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from relit.agents.recipes import NODE
from relit.agents.runtime_record import Runtime, used_ms
from relit.agents.runtimes import Runtimes
from relit.app import agent_versions
from relit.app.agents import kind_of, version_of
from relit.errors import ConfigError, RelitError
from relit.lib.clock import SYSTEM_CLOCK
from relit.settings import Settings

JUST_MS = 3_600_000  # what was installed or asked for in this time: an upgrade may be about to try it
Name = tuple[str, str]  # kind and version


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Of one runtime. ``why`` it stays; empty: it goes."""

    kind: str
    version: str
    path: str
    size_bytes: int
    why: str = ""


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What went, or would go (``dry_run``), and what stays. ``freed_bytes``: of the disk."""

    removed: list[Verdict]
    kept: list[Verdict]
    freed_bytes: int
    dry_run: bool


def judged(found: Sequence[Runtime], needed: Mapping[Name, str]) -> list[Verdict]:
    """Of each, those that need a Node before it. ``needed``: by whom. Pure."""
    why = dict(needed)
    for each in found:
        if each.node and (each.kind, each.version) in needed:
            why.setdefault((NODE, each.node), f"{each.kind} {each.version} needs it")
    return [
        Verdict(
            kind=each.kind, version=each.version, path=str(each.path), size_bytes=each.size_bytes,
            why=why.get((each.kind, each.version), ""),
        )
        for each in sorted(found, key=lambda each: each.kind == NODE)
    ]  # fmt: skip


def look(settings: Settings, rollbacks: int | None = None) -> Pruned:
    """What would go. ``rollbacks``: so many of each agent's ways back count; ``None``: all. ConfigError: no
    configuration says who needs what. Blocking."""
    if settings.path is None:
        raise ConfigError(
            "there is no configuration here", why="without one no runtime has a user, and all would go",
            fix="relit --config FILE agent prune, in the folder of your relit.toml",
        )  # fmt: skip
    found = _runtimes(settings).list()
    needed = {**_just_used(found), **_run_from(found), **_gone_back_to(settings, rollbacks), **_of_agents(settings)}
    return _told(judged(found, needed), dry_run=True)


def prune(settings: Settings, asked: Pruned, rollbacks: int | None = None) -> Pruned:
    """Remove what ``asked`` says, unless it is needed by now, and what killed installers left. Blocking."""
    known, now = _runtimes(settings), look(settings, rollbacks)
    known.tidy()
    going = {each.path for each in asked.removed}
    done = [
        msgspec.structs.replace(each, why=_removed(known, each)) for each in now.removed if each.path in going
    ]  # fmt: skip
    return _told([*done, *now.kept], dry_run=False)


def _removed(known: Runtimes, each: Verdict) -> str:
    """Why it was not."""
    try:
        known.remove(each.kind, each.version)
    except RelitError as error:
        return f"{error.what}: {error.why}"
    except OSError as error:
        return str(error)
    return ""


def _runtimes(settings: Settings) -> Runtimes:
    return Runtimes(settings.runtimes, lambda said: None, env={})


def _told(verdicts: Sequence[Verdict], *, dry_run: bool) -> Pruned:
    removed = [each for each in verdicts if not each.why]
    freed = sum(each.size_bytes for each in removed)
    kept = [each for each in verdicts if each.why]
    return Pruned(removed=removed, kept=kept, freed_bytes=freed, dry_run=dry_run)


# --- who needs them -----------------------------------------------------------------------------------------------


def _of_agents(settings: Settings) -> dict[Name, str]:
    found: dict[Name, list[str]] = {}
    for name, agent in settings.agents.items():
        kind = kind_of(settings, name)
        if kind is not None and kind.installs:
            found.setdefault((agent.kind, version_of(settings, name, kind)), []).append(name)
    return {each: f"{', '.join(names)} has it" for each, names in found.items()}


def _gone_back_to(settings: Settings, rollbacks: int | None) -> dict[Name, str]:
    found: dict[Name, str] = {}
    for name, agent in settings.agents.items():
        kind = kind_of(settings, name)
        if kind is not None and kind.installs:
            steps = agent_versions.ways_back(settings, name, version_of(settings, name, kind))
            for step in steps if rollbacks is None else steps[len(steps) - min(rollbacks, len(steps)) :]:
                found[agent.kind, step.before] = f"{name} can go back to it"
    return found


def _just_used(found: Sequence[Runtime]) -> dict[Name, str]:
    since = SYSTEM_CLOCK.now_ms() - JUST_MS
    return {
        (each.kind, each.version): "it was installed or asked for in the last hour"
        for each in found
        if used_ms(each.path) > since
    }


def _run_from(found: Sequence[Runtime]) -> dict[Name, str]:
    """By the programs, words and environments of all processes that we may see."""
    marks = {(each.kind, each.version): _mark(each.path) for each in found}
    needed: dict[Name, str] = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        text = _words(pid)
        needed |= {name: f"pid {pid} runs from it" for name, mark in marks.items() if mark.search(text)}
    return needed


def _mark(path: Path) -> re.Pattern[bytes]:
    """Of that folder and what is in it, by either name; not of ``1.0.1``, which begins as ``1.0`` does."""
    names = b"|".join(re.escape(os.fsencode(each)) for each in {path.absolute(), path.resolve()})
    return re.compile(rb"(?:" + names + rb")(?![A-Za-z0-9.+_-])")


def _words(pid: int) -> bytes:
    """What it runs and was given; empty where it is gone. Of somebody else's not all can be read."""
    found = []
    for name in ("cmdline", "environ"):
        try:
            found.append(Path(f"/proc/{pid}/{name}").read_bytes())
        except OSError:
            continue
    try:
        found.append(os.fsencode(os.readlink(f"/proc/{pid}/exe")))
    except OSError:
        pass  # a kernel's thread, or not ours to see
    return b"\0".join(found)
