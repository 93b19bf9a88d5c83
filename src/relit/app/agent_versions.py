"""What is remembered of versions: those that failed, by kind; those that an agent came from."""

from __future__ import annotations

from pathlib import Path

import msgspec

from relit.app import agent_files
from relit.app.instances import folder_of
from relit.errors import Conflict
from relit.lib.clock import SYSTEM_CLOCK, iso
from relit.settings import Settings

_KEPT = 20


class Bad(msgspec.Struct, frozen=True, kw_only=True):
    """A version that failed: for which agent, when, and how."""

    agent: str
    at_ms: int
    why: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """An upgrade that was done. ``snapshot``: the one before it."""

    before: str
    after: str
    snapshot: int
    at_ms: int


def see_good(settings: Settings, kind: str, version: str) -> None:
    """Conflict for a version that failed before."""
    bad = _bad(settings, kind).get(version)
    if bad is not None:
        raise Conflict(
            f"{kind} {version} failed before, for {bad.agent} at {iso(bad.at_ms)}", why=bad.why,
            fix="choose another version; --force tries this one again",
        )  # fmt: skip


def mark_bad(settings: Settings, kind: str, version: str, agent: str, why: str) -> None:
    """It is refused from now on. OSError."""
    known = _bad(settings, kind) | {version: Bad(agent=agent, at_ms=SYSTEM_CLOCK.now_ms(), why=why[:1000])}
    _write(_file(settings, kind), known)


def mark_good(settings: Settings, kind: str, version: str) -> None:
    """It did well after all."""
    known = _bad(settings, kind)
    if known.pop(version, None) is not None:
        _write(_file(settings, kind), known)


def _bad(settings: Settings, kind: str) -> dict[str, Bad]:
    try:
        return msgspec.json.decode(_file(settings, kind).read_bytes(), type=dict[str, Bad])
    except FileNotFoundError:
        return {}


def _file(settings: Settings, kind: str) -> Path:
    return settings.runtimes / kind / "bad.json"


def steps(settings: Settings, agent: str) -> list[Step]:
    """Its upgrades, newest last."""
    try:
        return msgspec.json.decode(_steps(settings, agent).read_bytes(), type=list[Step])
    except FileNotFoundError:
        return []


def ways_back(settings: Settings, agent: str, version: str) -> list[Step]:
    """The upgrades that an agent with that version has gone, newest last. One that was killed before it went, or after
    it came back, is none."""
    known = steps(settings, agent)
    while known and known[-1].before == version:
        known.pop()
    return known


def put_steps(settings: Settings, agent: str, known: list[Step]) -> None:
    """OSError."""
    _write(_steps(settings, agent), known[-_KEPT:])


def _steps(settings: Settings, agent: str) -> Path:
    return folder_of(settings, agent) / "run" / "upgrades.json"


def _write(path: Path, value: object) -> None:
    agent_files.put(path, msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")
