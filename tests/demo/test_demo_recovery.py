"""What an incident tells of a way back, and whether a trial was passed."""

from __future__ import annotations

import pytest

from relit.demo import trials
from relit.demo.recovery import Recovery, read
from relit.demo.trials import Trial
from relit.documents import IncidentDetail, IncidentEntry

EARLIER = [
    IncidentEntry(at=1_000, what="it was killed (signal 9)"),
    IncidentEntry(at=3_000, what="ready again"),
]
NOW = [
    IncidentEntry(at=5_004, what="it was killed (signal 9)"),
    IncidentEntry(at=5_005, what="cleared away what its dead processes left", outcome="2 things", took_ms=10),
    IncidentEntry(at=5_020, what="a database of its is damaged"),
    IncidentEntry(at=5_030, what="put its whole home back: snapshot 4", outcome="5 written", took_ms=90),
]
READY = IncidentEntry(at=6_200, what="ready again")


def _incident(*entries: IncidentEntry) -> IncidentDetail:
    return IncidentDetail(id="i1", agent="claw", opened_at=1_000, timeline=list(entries))


def test_a_way_back_is_told_from_the_blow_on() -> None:
    found = read(_incident(*EARLIER, *NOW, READY), 5_000)
    assert found is not None
    assert (found.found_ms, found.back_ms, found.rung, found.action) == (4, 1_200, 3, "volume")
    assert found.words == "cleared away what its dead processes left, then put its whole home back: snapshot 4"


def test_there_is_none_while_it_goes_on() -> None:
    assert read(_incident(*EARLIER), 5_000) is None
    assert read(_incident(*EARLIER, *NOW), 5_000) is None


def test_an_older_trouble_that_ends_meanwhile_is_none() -> None:
    over = IncidentEntry(at=5_001, what="it is over")
    assert read(_incident(*EARLIER, over), 5_000) is None
    found = read(_incident(*EARLIER, over, *NOW, READY), 5_000)
    assert found is not None
    assert found.found_ms == 4


def test_a_start_alone_is_rung_1() -> None:
    found = read(_incident(NOW[0], READY), 5_000)
    assert found is not None
    assert (found.rung, found.action, found.words) == (1, "restart", "started again")


WENT = Recovery(agent="claw", incident="i1", found_ms=4, back_ms=1_200, did=[(NOW[3].what, "5 written")])
PASSED = Trial(agent="claw", blow="database ruined + kill", recovery=WENT, answered_ms=2_000)


def test_a_trial_is_passed_by_what_was_to_be_done_about_it_and_an_answer() -> None:
    assert PASSED.passed
    assert trials.cells(PASSED) == ["claw", PASSED.blow, "4 ms", "rung 3: volume", "1.2 s", "2.0 s"]


@pytest.mark.parametrize(
    "trial",
    [
        Trial(agent="claw", blow="database ruined + kill"),
        Trial(agent="claw", blow="database ruined + kill", recovery=WENT),
        Trial(agent="claw", blow="config emptied + kill", recovery=WENT, answered_ms=2_000),
    ],
    ids=["never back", "no answer", "another way"],
)
def test_any_other_end_is_a_failure(trial: Trial) -> None:
    assert not trial.passed
    assert trial.agent in trials.sentence(trial)
