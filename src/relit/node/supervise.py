"""Rung 1: whether and when an instance starts again. Pure: values in, a verdict with its reason out."""

from __future__ import annotations

from random import Random
from typing import Literal

import msgspec

from relit.control.values import Backoff
from relit.drivers.base import Exit
from relit.lib.backoff import delay

CONFIG_ERROR = 78  # EX_CONFIG: the program says that its configuration is wrong

Ending = Literal["clean", "failed", "config", "killed", "unknown", "not-started", "never-ready", "hung"]

SAID: dict[Ending, str] = {
    "clean": "it ended by itself",
    "failed": "it failed",
    "config": "it says that its configuration is wrong",
    "killed": "it was killed",
    "unknown": "it ended while nobody watched",
    "not-started": "it could not be started",
    "never-ready": "it did not become ready in time",
    "hung": "it stopped answering",
}


class History(msgspec.Struct, frozen=True):
    """What is remembered of an instance's lives: quick deaths in a row, restarts ever, recent deaths (boot ms)."""

    quick: int = 0
    restarts: int = 0
    deaths: tuple[int, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """Start again after ``delay_ms``. ``flapping``: it died often lately."""

    delay_ms: int
    reason: str
    flapping: bool
    history: History


def classify(end: Exit) -> Ending:
    """What kind of end an exit is."""
    if end.signal is not None:
        return "killed"
    if end.code is None:
        return "unknown"
    return {0: "clean", CONFIG_ERROR: "config"}.get(end.code, "failed")  # type: ignore[return-value]


def decide(history: History, ending: Ending, *, lived_ms: int, now_ms: int, policy: Backoff, chance: Random) -> Verdict:
    """When to start again after a life of ``lived_ms`` that ended at ``now_ms``.

    The first restart is immediate; each further one waits longer until a life was stable. A configuration error is
    not cured by haste: it waits the longest time at once. There is no last attempt.
    """
    quick = 1 if lived_ms >= policy.stable_ms else history.quick + 1
    deaths = (*(at for at in history.deaths if at > now_ms - policy.window_ms), now_ms)[-100:]
    wait = policy.most_ms if ending == "config" else _wait(quick, policy, chance)
    after = History(quick, history.restarts + 1, deaths)
    return Verdict(wait, SAID[ending], len(deaths) >= policy.flapping, after)


def _wait(quick: int, policy: Backoff, chance: Random) -> int:
    if quick <= 1:
        return 0
    return round(
        delay(
            quick - 1,
            first=policy.first_ms,
            factor=policy.factor,
            most=policy.most_ms,
            jitter=policy.jitter,
            chance=chance,
        )
    )


def adopts(running_tag: str, wanted_tag: str | None) -> bool:
    """Whether a life found alive is the one that is wanted: same spec. Else it is stopped (and started afresh)."""
    return wanted_tag is not None and running_tag == wanted_tag
