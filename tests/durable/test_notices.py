"""What alerts say."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from relit.documents import IncidentDetail, IncidentEntry
from relit.durable import notices
from relit.durable.notices import Notice
from relit.store.values import AlertKind

T0 = 1_800_000_000_000


def trouble(agent: str = "ada", **fields: Any) -> IncidentDetail:
    given = {"id": f"i-{agent}", "agent": agent, "instance": agent, "opened_at": T0, "severity": "critical", "rung": 4,
             "title": f"{agent}: does not start", "cause": "exit code 78"}  # fmt: skip
    return IncidentDetail(**(given | fields))


def notice(*incidents: IncidentDetail, kind: AlertKind = "opened", **fields: Any) -> Notice:
    given = {"id": "a1", "key": "i-ada", "severity": "critical", "at": T0 + 90_000}
    return Notice(kind=kind, incidents=[*incidents] or [trouble()], **(given | fields))


def test_a_subject_says_how_bad_it_is_and_who_suffers() -> None:
    assert notices.subject(notice()) == "CRITICAL ada: does not start"
    assert notices.subject(notice(kind="worse")) == "CRITICAL (worse) ada: does not start"
    assert notices.subject(notice(kind="again")) == "CRITICAL (still open) ada: does not start"
    assert notices.subject(notice(kind="resolved")) == "RESOLVED ada: does not start"
    assert notices.subject(notice(trouble(title="", cause=""))) == "CRITICAL ada is in trouble"
    many = [trouble(f"a{n}") for n in range(7)]
    wanted = "CRITICAL 7 agents (a0, a1, a2, a3, a4 and 2 more), as a0: does not start"
    assert notices.subject(notice(*many)) == wanted


def test_a_text_says_what_happened_what_relit_did_and_what_to_do() -> None:
    full = trouble(
        impact="does not answer",
        exit="exit code 78",
        next="relit agent edit ada",
        timeline=[
            IncidentEntry(at=T0, what="died"),
            IncidentEntry(at=T0, what="put its configuration back", outcome="as in 41", took_ms=9),
        ],
        log=["a secret"],
        config={"a.json": "another secret"},
    )
    assert (
        notices.text(notice(full))
        == """ada: exit code 78.

Impact: does not answer
Exit: exit code 78
Since: 2027-01-15T08:00:00.000Z (1m 30s)
Rung: 4 of 4
Next: relit agent edit ada
More: relit why ada

What relit did:
- put its configuration back: as in 41
"""
    )
    everything = msgspec.json.encode([notices.plain(notice(full)), notices.pagerduty(notice(full), "k")])
    assert b"secret" not in everything


def test_a_text_of_many_has_a_line_for_each() -> None:
    told = notices.text(notice(trouble("ada"), trouble("bob", resolved_at=T0 + 1000)))
    assert told.startswith("2 agents are in trouble together")
    assert "- ada: exit code 78. Since 2027-01-15T08:00:00.000Z (1m 30s). More: relit why ada\n" in told
    assert "- bob: exit code 78. It is over. Since 2027-01-15T08:00:00.000Z, over after 1.0s." in told
    assert notices.text(notice(*[trouble(f"a{n}") for n in range(60)])).count("\n- ") == 51


def test_a_pager_gets_what_its_service_asks_for() -> None:
    event = notices.pagerduty(notice(trouble(group="node-1")), "KEY")
    assert (event["routing_key"], event["event_action"], event["dedup_key"]) == ("KEY", "trigger", "i-ada")
    payload = event["payload"]
    assert payload | {"custom_details": None} == {
        "summary": "CRITICAL ada: does not start",
        "source": "ada",
        "severity": "critical",
        "timestamp": "2027-01-15T08:00:00.000Z",
        "component": "ada",
        "group": "node-1",
        "class": "incident",
        "custom_details": None,
    }
    over = notices.pagerduty(notice(kind="resolved"), "KEY")
    assert over == {"routing_key": "KEY", "event_action": "resolve", "dedup_key": "i-ada", "client": "relit"}


words = st.text(max_size=30) | st.sampled_from(["\x00", "\ud800", "\r\n", "x" * 3000])
troubles = st.builds(
    IncidentDetail,
    id=words,
    agent=words,
    instance=words,
    opened_at=st.integers(0, 2**42),
    resolved_at=st.none() | st.integers(0, 2**42),
    severity=st.sampled_from(["info", "warning", "critical"]),
    rung=st.integers(0, 9),
    title=words,
    cause=words,
    impact=words,
    exit=words,
    next=words,
    timeline=st.lists(
        st.builds(IncidentEntry, at=st.integers(0, 2**42), what=words, outcome=words, took_ms=st.none()), max_size=3
    ),
)


@given(
    st.lists(troubles, min_size=1, max_size=3),
    st.sampled_from(["opened", "worse", "again", "resolved"]),
    st.sampled_from(["info", "warning", "critical"]),
)
def test_whatever_an_agent_writes_can_be_sent(incidents: list[IncidentDetail], kind: Any, severity: Any) -> None:
    told = Notice(id="a", key="k", kind=kind, severity=severity, incidents=incidents, at=T0)
    assert "\n" not in notices.subject(told)
    assert notices.subject(told).isprintable()
    notices.text(told).encode()
    assert all(line.isprintable() for line in notices.text(told).split("\n"))
    msgspec.json.encode(notices.plain(told))
    event = notices.pagerduty(told, "key")
    msgspec.json.encode(event)
    assert len(event.get("payload", {}).get("summary", "")) <= 1024
