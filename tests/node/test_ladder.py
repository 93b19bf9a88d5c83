from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.control.care import Care, Ladder, Repair
from relit.control.values import Backoff
from relit.drivers.base import Exit
from relit.node.ladder import (
    RUNG,
    Ending,
    Facts,
    History,
    Verdict,
    adopts,
    asks,
    classify,
    count,
    decide,
    over,
    reachable,
    undone,
)

POLICY = Backoff()
EXACT = Backoff(jitter=0)
HOUR = 3_600_000
CARE = Care(agent="ada", kind="openclaw", home="/home", repair=Repair(argv=["doctor"]))
FACTS = Facts(good=7, age_ms=HOUR, config=7, changed=True, older=((5, 2 * HOUR), (3, 3 * HOUR)))


def climb(
    deaths: int,
    ending: Ending = "failed",
    *,
    care: Care | None = None,
    facts: Facts | None = FACTS,
    lived_ms: int = 10,
    policy: Backoff = EXACT,
    history: History | None = None,
) -> list[Verdict]:
    """The verdicts on so many deaths in a row."""
    verdicts, now, history = [], 0, history or History()
    for _ in range(deaths):
        now += lived_ms
        history = count(history, ending, lived_ms=lived_ms, now_ms=now, policy=policy)
        verdict = decide(history, ending, policy=policy, chance=Random(1), care=care, facts=facts)
        verdicts.append(verdict)
        history, now = verdict.history, now + verdict.delay_ms
    return verdicts


def did(verdicts: list[Verdict]) -> list[str]:
    return [f"{each.action}:{each.to}" if each.to else each.action for each in verdicts]


# --- rung 1 ---------------------------------------------------------------------------------------------------------


def test_the_first_restart_is_immediate() -> None:
    assert climb(1)[0].delay_ms == 0


def test_further_restarts_wait_twice_as_long_each_time_up_to_the_most() -> None:
    assert [each.delay_ms for each in climb(9)] == [0, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]


def test_there_is_no_last_attempt() -> None:
    last = climb(5000)[-1]
    assert 0 < last.delay_ms <= POLICY.most_ms
    assert last.history.restarts == 5000
    assert len(last.history.deaths) <= 100


def test_a_stable_life_ends_the_trouble() -> None:
    worn = climb(12, care=CARE)[-1].history
    assert worn.rung == 4
    fresh = climb(1, care=CARE, history=worn, lived_ms=POLICY.stable_ms)[0]
    assert (fresh.action, fresh.delay_ms, fresh.rung, fresh.first) == ("restart", 0, 1, True)
    assert fresh.history.restarts == worn.restarts + 1


def test_after_a_trouble_is_over_the_next_one_begins_at_rung_1() -> None:
    worn = climb(12, care=CARE)[-1].history
    mended = climb(1, care=CARE, history=over(worn))[0]
    assert (mended.action, mended.delay_ms, mended.rung, mended.first) == ("restart", 0, 1, True)
    assert mended.history.restarts == worn.restarts + 1
    assert over(worn, quick=1).quick == 1
    assert over(worn).deaths == worn.deaths, "flapping is seen all the same"


def test_what_nobody_cares_for_waits_long_after_a_configuration_error() -> None:
    assert climb(1, "config")[0].delay_ms == POLICY.most_ms


def test_many_deaths_in_the_window_are_flapping() -> None:
    assert [each.flapping for each in climb(POLICY.flapping)] == [False] * (POLICY.flapping - 1) + [True]


def test_old_deaths_leave_the_window() -> None:
    assert not climb(50, lived_ms=POLICY.window_ms)[-1].flapping


# --- rungs 2 to 4 ---------------------------------------------------------------------------------------------------


def test_the_ladder_is_climbed_rung_by_rung() -> None:
    verdicts = climb(12, care=CARE)
    assert did(verdicts) == [
        *["restart"] * 3, "recreate", "config:7", "repair", "volume:7", "volume:5", "volume:3", *["restart"] * 3,
    ]  # fmt: skip
    assert [each.rung for each in verdicts] == [1, 1, 1, 2, 3, 3, 3, 3, 3, 4, 4, 4]
    assert [each.delay_ms for each in verdicts[9:]] == [60_000, 120_000, 240_000]
    assert [each.first for each in verdicts] == [True] + [False] * 11


def test_a_wrong_configuration_goes_to_known_good_at_once() -> None:
    assert did(climb(4, "config", care=CARE)) == ["config:7", "recreate", "repair", "volume:7"]


def test_a_configuration_that_is_ruined_again_and_again_goes_back_again_and_again_slowly() -> None:
    verdicts = climb(9, "config", care=CARE)
    assert did(verdicts)[-3:] == ["config:7"] * 3
    assert [(each.rung, each.delay_ms) for each in verdicts[-3:]] == [(4, 60_000), (4, 120_000), (4, 240_000)]
    assert did(climb(9, "config", care=CARE, facts=None))[-1] == "restart"


def test_what_does_not_apply_is_left_out() -> None:
    bare = Care(agent="ada", kind="command", home="/home")
    assert did(climb(5, care=bare, facts=Facts())) == ["restart", "restart", "restart", "recreate", "restart"]
    same = Facts(good=7, config=0, changed=False)
    assert did(climb(3, "config", care=CARE, facts=same)) == ["recreate", "repair", "restart"]


def test_a_configuration_that_its_own_check_accepts_is_not_the_first_to_go() -> None:
    valid = msgspec.structs.replace(FACTS, valid=True)
    assert did(climb(5, "config", care=CARE, facts=valid)) == ["recreate", "repair", "config:7", "volume:7", "volume:5"]
    assert did(climb(9, "config", care=CARE, facts=valid))[-2:] == ["restart", "restart"]


def test_without_a_known_good_one_a_broken_configuration_becomes_what_it_was() -> None:
    bare, was = Care(agent="ada", kind="command", home="/home"), Facts(config=3)
    assert did(climb(3, "config", care=bare, facts=was)) == ["config:3", "recreate", "config:3"]
    assert "config:3" not in did(climb(9, "failed", care=bare, facts=was))


@pytest.mark.parametrize("ending", ["blocked", "unusable", "too-large", "out-of-memory"])
def test_what_no_home_can_help_is_waited_for_and_nothing_goes_back_for_it(ending: Ending) -> None:
    verdicts = climb(12, ending, care=CARE)
    assert did(verdicts) == [*["restart"] * 3, "recreate", *["restart"] * 8]
    assert verdicts[-1].rung == 4


def test_a_damaged_database_goes_back_with_its_home() -> None:
    assert did(climb(4, "damaged", care=CARE)) == ["volume:7", "volume:5", "volume:3", "restart"]


def test_older_homes_are_looked_for_in_a_clone_where_one_can_be_made() -> None:
    cloned = Facts(good=7, config=7, changed=True, older=((5, 2 * HOUR), (3, 3 * HOUR)), clones=True)
    assert did(climb(4, "damaged", care=CARE, facts=cloned)) == ["volume:7", "bisect", "restart", "restart"]
    none = Facts(good=7, config=7, changed=True, older=((5, 2**60),), clones=True)
    assert did(climb(2, "damaged", care=CARE, facts=none)) == ["volume:7", "restart"]
    assert reachable(cloned, Ladder(max_rollback_ms=2 * HOUR)) == [5]


def test_what_was_cut_short_comes_again_and_not_for_ever() -> None:
    history, done = climb(1, "config", care=CARE)[0].history, list[str]()
    for _ in range(9):
        history = count(history, "failed", lived_ms=10, now_ms=0, policy=EXACT)
        verdict = decide(history, "config", policy=EXACT, chance=Random(1), care=CARE, facts=FACTS)
        verdict = undone(verdict, policy=EXACT, chance=Random(1))
        done.append(verdict.action)
        assert verdict.delay_ms > 0
        history = verdict.history
    assert done[:4] == ["recreate"] * 4
    assert done[4:7] == ["repair", "volume", "volume"]


def test_nothing_goes_further_back_than_allowed() -> None:
    old = Facts(good=7, age_ms=CARE.ladder.max_rollback_ms + 1, config=7, changed=True, older=((5, 2**60),))
    assert not any(each.action == "volume" for each in climb(20, care=CARE, facts=old))


def test_without_an_answer_nothing_is_counted_as_tried() -> None:
    verdicts = climb(8, care=CARE, facts=None)
    assert did(verdicts)[3:] == ["recreate", *["restart"] * 4]
    assert verdicts[-1].rung == 2
    assert did(climb(1, care=CARE, history=verdicts[-1].history)) == ["config:7"]


def test_facts_are_asked_for_only_when_they_count() -> None:
    assert not asks(History(quick=1), "failed", CARE)
    assert asks(History(quick=1), "config", CARE)
    assert not asks(History(quick=1), "config", None)
    assert not asks(History(quick=4), "failed", CARE)
    assert asks(History(quick=5, tried=("recreate",)), "failed", CARE)


def test_one_that_ends_by_itself_again_and_again_is_given_more_patience() -> None:
    for ending in ("again", "clean"):
        assert did(climb(10, ending, care=CARE)) == [*["restart"] * 9, "recreate"]


def test_one_that_ends_by_itself_keeps_its_work() -> None:
    cloned = msgspec.structs.replace(FACTS, clones=True)
    for ending, facts in (("again", FACTS), ("clean", FACTS), ("clean", cloned)):
        verdicts = climb(14, ending, care=CARE, facts=facts)
        assert did(verdicts) == [*["restart"] * 9, "recreate", "config:7", *["restart"] * 3]
        assert verdicts[-1].rung == 4


def test_one_that_works_for_minutes_and_ends_by_itself_is_in_no_loop() -> None:
    verdicts = climb(50, "again", care=CARE, lived_ms=8 * 60_000)
    assert did(verdicts) == ["restart"] * 50
    assert {each.delay_ms for each in verdicts} == {0}
    assert did(climb(12, "failed", care=CARE, lived_ms=8 * 60_000))[3] == "recreate", "but to fail is no way"
    after = climb(10, "again", care=CARE)[-1].history
    assert did(climb(1, "clean", care=CARE, lived_ms=8 * 60_000, history=after)) == ["config:7"], "amid a trouble"


def test_configurations_that_nobody_knows_to_be_good_are_tried_one_after_the_other_then_slowly() -> None:
    history, done = History(), list[tuple[str, int]]()
    for number in (9, 8, 7, 6, 5, 4):
        verdict = decide(
            count(history, "config", lived_ms=0, now_ms=1, policy=POLICY), "config", policy=POLICY, chance=Random(1),
            care=Care(agent="ada", kind="command", home="/home"), facts=Facts(config=number),
        )  # fmt: skip
        history = verdict.history
        done.append((verdict.action, verdict.to))
    assert done == [("config", 9), ("recreate", 0), ("config", 7), ("config", 6), ("config", 5), ("config", 4)]
    assert history.rung == 4


def test_a_configuration_that_is_broken_in_the_known_good_one_too_becomes_what_it_was() -> None:
    was = Facts(good=7, age_ms=HOUR, config=4, changed=False, older=((6, HOUR), (4, HOUR)), clones=True)
    assert did(climb(4, "config", care=CARE, facts=was)) == ["config:4", "recreate", "repair", "bisect"]
    assert "config:4" not in did(climb(9, "failed", care=CARE, facts=was))


@given(gaps=st.lists(st.integers(0, 400_000), min_size=1, max_size=80), flapping=st.integers(1, 20))
def test_an_instance_flaps_when_so_many_deaths_lie_in_the_window(gaps: list[int], flapping: int) -> None:
    policy = Backoff(flapping=flapping)
    history, now, deaths = History(), 0, list[int]()
    for gap in gaps:
        now += gap
        deaths.append(now)
        history = count(history, "failed", lived_ms=gap, now_ms=now, policy=policy)
        verdict = decide(history, "failed", policy=policy, chance=Random(1), facts=None)
        assert verdict.flapping == (sum(at > now - policy.window_ms for at in deaths) >= flapping)
        history = verdict.history


def test_a_later_cause_does_not_repeat_what_was_tried() -> None:
    tried = climb(1, "config", care=CARE)[0].history
    assert did(climb(2, "failed", care=CARE, history=tried)) == ["recreate", "repair"]


def test_exits_are_told_apart() -> None:
    ends = [Exit(code=0), Exit(code=1), Exit(code=78), Exit(code=75), Exit(signal=9), Exit()]
    assert [classify(end) for end in ends] == ["clean", "failed", "config", "again", "killed", "unknown"]
    assert classify(Exit(code=1), {"1": "clean"}) == "clean"


def test_only_the_same_spec_is_adopted() -> None:
    assert adopts("a", "a")
    assert not adopts("a", "b")
    assert not adopts("", "b")
    assert not adopts("a", None)


# --- properties -----------------------------------------------------------------------------------------------------

ENDINGS: st.SearchStrategy[Ending] = st.sampled_from(
    [
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
        "damaged",
        "unusable",
        "too-large",
        "out-of-memory",
    ]
)
SOME_FACTS = st.none() | st.builds(
    Facts,
    good=st.integers(0, 9),
    age_ms=st.integers(0, 3 * 86_400_000),
    config=st.integers(0, 9),
    changed=st.booleans(),
    older=st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 3 * 86_400_000)), max_size=6, unique_by=lambda each: each[0]
    ).map(tuple),
    clones=st.booleans(),
)
LIVES = st.lists(st.tuples(ENDINGS, SOME_FACTS, st.integers(0, 500_000)), min_size=1, max_size=60)


@given(lives=LIVES, repair=st.booleans(), restarts=st.integers(0, 5), seed=st.integers(0, 9))
def test_every_trouble_is_met_in_bounds(
    lives: list[tuple[Ending, Facts | None, int]], repair: bool, restarts: int, seed: int
) -> None:
    care = Care(
        agent="a",
        kind="command",
        home="/h",
        repair=Repair(argv=["r"]) if repair else None,
        ladder=Ladder(restarts=restarts),
    )
    history, now, done = History(), 0, list[str]()
    for ending, facts, lived in lives:
        now += lived
        history = count(history, ending, lived_ms=lived, now_ms=now, policy=POLICY)
        verdict = decide(history, ending, policy=POLICY, chance=Random(seed), care=care, facts=facts)
        assert 0 <= verdict.delay_ms <= care.ladder.slow_most_ms
        assert history.rung <= verdict.rung <= 4
        assert verdict.rung >= RUNG[verdict.action]
        assert verdict.reason
        if verdict.action != "restart" and verdict.history.tried != history.tried:
            assert verdict.delay_ms == 0
            proven = facts is not None and verdict.to == facts.good
            named = verdict.action == "volume" or (verdict.action == "config" and not proven)
            done.append(f"{verdict.action}:{verdict.to}" if named else verdict.action)
        else:
            assert verdict.action in ("restart", "config")
            assert verdict.action == "restart" or verdict.rung == 4
        if ending in ("clean", "again"):
            assert verdict.action in ("restart", "recreate", "config"), "its work is not taken from it"
        if verdict.action == "volume":
            assert facts is not None
            ages = [age for number, age in ((facts.good, facts.age_ms), *facts.older) if number == verdict.to]
            assert min(ages) <= care.ladder.max_rollback_ms
            assert verdict.to == facts.good or not facts.clones
        if verdict.action == "bisect":
            assert facts is not None
            assert facts.clones
        history = verdict.history
    assert len(done) == len(set(done)), "on rungs 2 and 3 each action is tried once in a trouble"


@given(
    quick=st.integers(0, 10_000),
    lived=st.integers(0, 10 * HOUR),
    first=st.integers(0, 100_000),
    most=st.integers(0, 1_000_000),
    jitter=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_the_wait_stays_within_its_bounds(
    quick: int, lived: int, first: int, most: int, jitter: float, seed: int
) -> None:
    policy = Backoff(first_ms=first, most_ms=most, jitter=jitter)
    history = count(History(quick), "failed", lived_ms=lived, now_ms=0, policy=policy)
    verdict = decide(history, "killed", policy=policy, chance=Random(seed), facts=None)
    assert 0 <= verdict.delay_ms <= most
    assert verdict.reason
    assert verdict.history.restarts == 1
