"""The ladder: what is tried next for an instance in trouble. Pure: values in, a verdict with its reason out.

Rung 1 starts it again, at once and then ever slower. Rung 2 clears away what its dead processes left. Rung 3 goes back
to what is known to be good: its configuration alone, then the agent's own repair, then the whole home, then the newest
older home that a clone comes up with (where no clone can be made, older ones in place). Rung 4 tells a person, and goes
on trying, slowly, for ever. A trouble ends when a life was stable: the next one begins at rung 1. Each action of rungs
2 and 3 is tried once in a trouble; a configuration that is ruined again goes back again on rung 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Literal

import msgspec

from relit.control.care import Care, Ladder, Meaning
from relit.control.values import FAULTY, Backoff
from relit.drivers.base import Exit
from relit.lib.backoff import delay

CONFIG_ERROR, TRY_AGAIN = 78, 75  # EX_CONFIG, EX_TEMPFAIL of sysexits.h
CUT_MOST = 3  # times that an action may be cut short before it counts as tried
OLDER_MOST = 3  # older known-good homes that are tried in place, and configurations that are not known to be good

Ending = Literal[
    "clean",
    "failed",
    "config",
    "again",
    "killed",
    "unknown",
    "not-started",
    "never-ready",
    "hung",
    "no-answer",
    "blocked",
    "faulty",
    "damaged",
    "unusable",
    "too-large",
    "out-of-memory",
]
Action = Literal["restart", "recreate", "config", "repair", "volume", "bisect"]

_AT_ONCE: tuple[Ending, ...] = ("config", "damaged")  # to start it again as it is will not help
_BY_ITSELF: tuple[Ending, ...] = ("clean", "again")
_NOT_ITS_HOME: tuple[Ending, ...] = (
    "blocked",
    "faulty",
    "unusable",
    "too-large",
    "out-of-memory",
)  # to go back would not help, and would lose work
SAID: dict[Ending, str] = {
    "clean": "it ended by itself",
    "failed": "it failed",
    "config": "its configuration is wrong",
    "again": "it asked to be started again",
    "killed": "it was killed",
    "unknown": "it ended while nobody watched",
    "not-started": "it could not be started",
    "never-ready": "it did not become ready in time",
    "hung": "it stopped answering",
    "no-answer": "it looks alive and answers no message",
    "blocked": "something else has what it needs",
    "faulty": FAULTY,
    "damaged": "a database of its is damaged",
    "unusable": "a database of its cannot be read or written",
    "too-large": "it took more memory than it may",
    "out-of-memory": "the kernel killed it, since no memory was left",
}
RUNG: dict[Action, int] = {"restart": 1, "recreate": 2, "config": 3, "repair": 3, "volume": 3, "bisect": 3}


class History(msgspec.Struct, frozen=True):
    """What is remembered of an instance's lives. ``quick``: deaths in a row without a stable life between them;
    ``deaths``: recent ones (boot ms); ``tried``: what was done about the trouble that goes on; ``slow``: rounds on
    rung 4; ``cut``: how often an action could not be brought to its end; ``broken``: digests of configurations that
    were wrong in it; ``counted``: the life that ended last, ``begun`` and ``answered``: the one about which an action
    was begun, and done."""

    quick: int = 0
    restarts: int = 0
    deaths: tuple[int, ...] = ()
    tried: tuple[str, ...] = ()
    slow: int = 0
    rung: int = 0
    cut: int = 0
    broken: tuple[str, ...] = ()
    counted: str = ""
    begun: str = ""
    answered: str = ""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent could go back to. ``good``: its newest known-good snapshot (0: none), ``age_ms`` its age;
    ``config``: the snapshot whose configuration is another than now (it, or where its is the same an unproven one; 0:
    none); ``valid``: the agent's own check accepts it as it is; ``changed``: whether anything differs; ``older``: those
    before it (number, age in ms), newest first: where ``clones`` can be made to try them in, all of them, else those
    that are known-good, too."""

    good: int = 0
    age_ms: int = 0
    config: int = 0
    valid: bool = False
    changed: bool = False
    older: tuple[tuple[int, int], ...] = ()
    clones: bool = False


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Do ``action`` (``volume``: to snapshot ``to``), wait ``delay_ms``, start again. ``reason`` is told to people."""

    action: Action
    delay_ms: int
    reason: str
    history: History
    to: int = 0
    flapping: bool = False
    first: bool = False  # of a trouble

    @property
    def rung(self) -> int:
        return self.history.rung


def classify(end: Exit, exits: Mapping[str, Meaning] | None = None) -> Ending:
    """What kind of end an exit is. ``exits``: what codes mean to this kind of agent."""
    if end.signal is not None:
        return "killed"
    if end.code is None:
        return "unknown"
    usual: dict[str, Meaning] = {"0": "clean", str(CONFIG_ERROR): "config", str(TRY_AGAIN): "again"}
    return {**usual, **(exits or {})}.get(str(end.code), "failed")


def count(history: History, ending: Ending, *, lived_ms: int, now_ms: int, policy: Backoff, key: str = "") -> History:
    """The history after a life (``key``) of ``lived_ms`` that ended at ``now_ms``: a stable one ended whatever trouble
    was. One that ended by itself, in no trouble, is stable when it lived longer than any pause of rung 1."""
    deaths = (*(at for at in history.deaths if at > now_ms - policy.window_ms), now_ms)[-100:]
    its_way = ending in _BY_ITSELF and not history.tried
    stable_ms = min(policy.most_ms, policy.stable_ms) if its_way else policy.stable_ms
    if lived_ms >= stable_ms:
        history = History(restarts=history.restarts)
    more = {"quick": history.quick + 1, "restarts": history.restarts + 1}
    return msgspec.structs.replace(history, **more, deaths=deaths, counted=key or history.counted)


def over(history: History, *, quick: int = 0) -> History:
    """Of a trouble that is over, by itself or by a person: the next one begins at rung 1. ``quick``: deaths in a row
    that still count, until a life is stable."""
    return History(quick=quick, restarts=history.restarts, deaths=history.deaths)


def asks(history: History, ending: Ending, care: Care | None) -> bool:
    """Whether ``decide`` wants ``Facts``, which take a while to find out: rung 3 may be next."""
    if care is None or ending in _NOT_ITS_HOME or _patient(history, ending, care.ladder):
        return False
    return ending in _AT_ONCE or "recreate" in history.tried


def decide(
    history: History, ending: Ending, *, policy: Backoff, chance: Random, care: Care | None = None, facts: Facts | None
) -> Verdict:
    """What to do about an end. ``history`` counts it already (``count``). ``facts``: ``None`` when they are not known;
    what needs them is not tried then, nor counted as tried. There is no last attempt."""
    if ending == "faulty":  # a person is told at once: nothing that relit does can help
        return _slow(history, ending, care.ladder if care is not None else Ladder(), policy, chance, 0)
    if care is None or _patient(history, ending, care.ladder) or (facts is None and asks(history, ending, care)):
        return _again(history, ending, policy, chance, most=care is None and ending == "config")
    facts = facts or Facts()
    action, to = _next(history, ending, care, facts)
    if action is None:
        again = facts.config if ending == "config" and not facts.valid else 0
        return _slow(history, ending, care.ladder, policy, chance, again)
    tried = (*history.tried, _name(action, to, facts))
    after = msgspec.structs.replace(history, tried=tried, rung=max(history.rung, RUNG[action]))
    return Verdict(action=action, to=to, delay_ms=0, reason=SAID[ending], history=after, first=history.rung == 0)


def _patient(history: History, ending: Ending, ladder: Ladder) -> bool:
    """Whether rung 1 still has a try. A wrong configuration is not cured by starting again."""
    if history.tried or ending in _AT_ONCE:
        return False
    most = ladder.restarts * (3 if ending in _BY_ITSELF else 1)  # it goes by itself: that may be its way
    return history.quick <= most


def _again(history: History, ending: Ending, policy: Backoff, chance: Random, *, most: bool) -> Verdict:
    wait = policy.most_ms if most else _wait(history.quick, policy, chance)
    after = msgspec.structs.replace(history, rung=max(history.rung, 1))
    return Verdict(
        action="restart",
        delay_ms=wait,
        reason=SAID[ending],
        history=after,
        flapping=len(history.deaths) >= policy.flapping,
        first=history.rung == 0,
    )


def _next(history: History, ending: Ending, care: Care, facts: Facts) -> tuple[Action | None, int]:
    """The first action that applies and was not tried. (``None``, 0): there is none."""
    near = facts.good > 0 and facts.age_ms <= care.ladder.max_rollback_ms
    recreate: list[tuple[Action, int, bool]] = [("recreate", 0, True)]
    proven = facts.config == facts.good or ending == "config"  # what is broken for sure cannot get worse
    back = sum(each.startswith("config") for each in history.tried)
    can_go = facts.config > 0 and proven
    files: list[tuple[Action, int, bool]] = [("config", facts.config, can_go and back == 0)]
    further: list[tuple[Action, int, bool]] = [("config", facts.config, can_go and 0 < back < OLDER_MOST)]
    repair: list[tuple[Action, int, bool]] = [("repair", 0, care.repair is not None)]
    volume: list[tuple[Action, int, bool]] = [("volume", facts.good, facts.changed and near)]
    older = reachable(facts, care.ladder)
    if facts.clones:
        volume.append(("bisect", 0, bool(older)))
    else:
        volume += [("volume", number, True) for number in older[:OLDER_MOST]]
    match ending:
        case "blocked" | "unusable" | "too-large" | "out-of-memory":
            can = recreate
        case "damaged":
            can = volume
        case "clean" | "again":
            can = recreate + files  # nothing failed: its work is not taken from it
        case "config":
            least = recreate + repair
            can = (least + files if facts.valid else files + least) + further + volume
        case _:
            can = recreate + files + repair + volume
    for action, to, applies in can:
        if applies and _name(action, to, facts) not in history.tried:
            return action, to
    return None, 0


def reachable(facts: Facts, ladder: Ladder) -> list[int]:
    """The older homes that may be gone back to, newest first."""
    return [number for number, age_ms in facts.older if age_ms <= ladder.max_rollback_ms]


def _name(action: Action, to: int, facts: Facts) -> str:
    """What is tried once: each home, and each configuration that nobody knows to be good."""
    many = action == "volume" or (action == "config" and to != facts.good)
    return f"{action}:{to}" if many else action


def _slow(history: History, ending: Ending, ladder: Ladder, policy: Backoff, chance: Random, config: int) -> Verdict:
    """``config``: a snapshot whose configuration is put back each time. An agent that ruins it again and again lives
    from one time to the next."""
    wait = delay(
        history.slow + 1,
        first=ladder.slow_first_ms,
        factor=policy.factor,
        most=ladder.slow_most_ms,
        jitter=policy.jitter,
        chance=chance,
    )
    after = msgspec.structs.replace(history, slow=history.slow + 1, rung=4)
    return Verdict(
        action="config" if config else "restart",
        to=config,
        delay_ms=round(wait),
        reason=f"{SAID[ending]}, and nothing that relit may do by itself has helped",
        history=after,
        flapping=len(history.deaths) >= policy.flapping,
        first=history.rung == 0,
    )


def fault(history: History) -> Verdict:
    """What is told when relit itself fails at an instance again and again."""
    return Verdict(
        action="restart", delay_ms=0, reason="relit itself fails at it",
        history=msgspec.structs.replace(history, rung=4),
    )  # fmt: skip


def undone(verdict: Verdict, *, policy: Backoff, chance: Random) -> Verdict:
    """The verdict on an action that was cut short: it is not spent, and comes again after a wait. Not for ever."""
    history = verdict.history
    tried = history.tried[:-1] if history.cut < CUT_MOST and verdict.rung < 4 else history.tried
    after = msgspec.structs.replace(history, tried=tried, cut=history.cut + 1, begun=history.counted)
    wait = _wait(max(2, history.cut + 2), policy, chance)
    return msgspec.structs.replace(verdict, history=after, delay_ms=max(wait, verdict.delay_ms))


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


def at_once(history: History, *, lived_ms: int, now_ms: int, policy: Backoff, care: Care | None) -> bool:
    """Whether an instance that dies now, after a life of ``lived_ms``, will simply be started again, at once."""
    after = count(history, "failed", lived_ms=lived_ms, now_ms=now_ms, policy=policy)
    return after.quick <= 1 and (care is None or _patient(after, "failed", care.ladder))


def never_at_once(exits: Mapping[str, Meaning] | None) -> list[int]:
    """The exit codes for which that does not hold."""
    codes = {CONFIG_ERROR, *map(int, exits or {})}
    return sorted(code for code in codes if classify(Exit(code), exits) in _AT_ONCE)


def adopts(running_tag: str, wanted_tag: str | None) -> bool:
    """Whether a life found alive is the one that is wanted: same spec. Else it is stopped (and started afresh)."""
    return wanted_tag is not None and running_tag == wanted_tag
