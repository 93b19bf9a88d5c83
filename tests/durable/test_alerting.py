"""What is told of incidents: by examples, and in a world where everything fails and everybody dies."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relit.durable import alerting
from relit.durable.alerting import Plan, Policy, due, pending, rank
from relit.store.values import Alert, Incident, Severity

POLICY = Policy(min_severity="warning", repeat_ms=4 * 3_600_000, gather_ms=120_000, settle_ms=0)
T0 = 1_800_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE


def incident(id: str = "i1", **fields: Any) -> Incident:
    given = {"id": id, "agent": f"agent-{id}", "instance": id, "opened_at": T0, "seen_at": T0, "severity": "warning"}
    return Incident(**(given | fields))


def sent(id: str = "a1", **fields: Any) -> Alert:
    given = {"id": id, "channel": "pager", "kind": "opened", "incident": "i1", "members": ["i1"],
             "severity": "warning", "state": "sent", "made_at": T0, "sent_at": T0}  # fmt: skip
    return Alert(**(given | fields))


def planned(incidents: list[Incident], alerts: list[Alert] | None = None, now: int = T0, **policy: Any) -> Plan:
    return alerting.plan(incidents, alerts or [], ["pager"], msgspec.structs.replace(POLICY, **policy), now)


def kinds(plan: Plan) -> list[tuple[str, list[str]]]:
    return [(each.kind, each.members) for each in plan.make]


def test_a_trouble_is_told_once_on_each_channel() -> None:
    plan = alerting.plan([incident()], [], ["pager", "mail"], POLICY, T0)
    assert [(each.channel, each.kind, each.incident) for each in plan.make] == [
        ("pager", "opened", "i1"),
        ("mail", "opened", "i1"),
    ]
    assert alerting.plan([incident()], plan.make, ["pager", "mail"], POLICY, T0) == Plan()


def test_the_same_state_gives_the_same_alerts_whoever_plans() -> None:
    first, second = planned([incident()]), planned([incident()], now=T0 + 5)
    assert first.make[0].id == second.make[0].id


@pytest.mark.parametrize(
    ("severity", "wanted", "told"),
    [("info", "warning", False), ("warning", "warning", True), ("critical", "warning", True), ("info", "info", True),
     ("warning", "critical", False)],
)  # fmt: skip
def test_only_what_is_severe_enough_is_told(severity: Severity, wanted: Severity, told: bool) -> None:
    assert bool(planned([incident(severity=severity)], min_severity=wanted).make) == told


def test_it_is_told_again_when_it_gets_worse_and_not_when_it_gets_better() -> None:
    assert kinds(planned([incident(severity="critical")], [sent()])) == [("worse", ["i1"])]
    worse = sent("a2", kind="worse", severity="critical")
    assert planned([incident(severity="warning")], [sent(), worse]).make == []


def test_what_waits_tells_the_newest_when_it_goes() -> None:
    waiting = sent(state="waiting", sent_at=None)
    assert planned([incident(severity="critical")], [waiting]) == Plan()


def test_a_critical_trouble_is_told_again_every_few_hours() -> None:
    told = sent(severity="critical")
    trouble = incident(severity="critical")
    assert planned([trouble], [told], T0 + HOUR) == Plan(look_at=T0 + 4 * HOUR)
    assert kinds(planned([trouble], [told], T0 + 4 * HOUR)) == [("again", ["i1"])]
    again = sent("a2", kind="again", severity="critical", sent_at=T0 + 4 * HOUR)
    assert planned([trouble], [told, again], T0 + 5 * HOUR).look_at == T0 + 8 * HOUR
    assert planned([trouble], [told], T0 + 9 * HOUR, repeat_ms=0) == Plan()
    assert planned([incident()], [sent()], T0 + 9 * HOUR) == Plan()


def test_the_end_is_told_to_who_was_told_of_the_beginning() -> None:
    over = incident(resolved_at=T0 + 5)
    assert kinds(planned([over], [sent()])) == [("resolved", ["i1"])]
    assert planned([over], [sent(), sent("a2", kind="resolved", state="waiting")]) == Plan()
    assert planned([over]).make == []


def test_what_was_never_taken_is_taken_back_when_it_is_over() -> None:
    waiting = sent(state="waiting", sent_at=None, tries=3, retry_at=T0 + 9)
    plan = planned([incident(resolved_at=T0 + 5)], [waiting])
    assert plan.make == []
    assert plan.change == [(waiting, msgspec.structs.replace(waiting, state="withdrawn", retry_at=None, closed=True))]


def test_of_what_may_have_arrived_the_end_is_told() -> None:
    on_its_way = sent(state="sending", sent_at=None, retry_at=T0 + 9)
    plan = planned([incident(resolved_at=T0 + 5)], [on_its_way])
    assert kinds(plan) == [("resolved", ["i1"])]
    assert [(after.state, after.closed) for _, after in plan.change] == [("withdrawn", False)]
    half_done = planned([incident(resolved_at=T0 + 5)], [on_its_way, *plan.make])  # killed between the two
    assert (half_done.make, half_done.change) == ([], plan.change)


def test_incidents_that_are_gone_are_told_of_no_more() -> None:
    waiting = sent(state="waiting", sent_at=None)
    plan = planned([], [waiting])
    assert (plan.make, [after.closed for _, after in plan.change]) == ([], [True])
    assert planned([], [sent()]) == Plan()


# --- many agents, one cause -------------------------------------------------------------------------------------------


def fleet(*openings: int, **fields: Any) -> list[Incident]:
    return [
        incident(f"i{n}", **({"group": "oom", "opened_at": T0 + at, "seen_at": T0 + at} | fields))
        for n, at in enumerate(openings)
    ]


def test_one_cause_is_one_alert_that_waits_for_all() -> None:
    many = fleet(0, 30_000, 119_000)
    assert planned(many, now=T0 + 119_000) == Plan(look_at=T0 + 120_000)
    assert kinds(planned(many, now=T0 + 120_000)) == [("opened", ["i0", "i1", "i2"])]


def test_who_falls_ill_later_is_another_alert() -> None:
    many = fleet(0, 120_000, 120_001)
    assert kinds(planned(many, now=T0 + 10**6)) == [("opened", ["i0", "i1"]), ("opened", ["i2"])]


def test_without_a_group_nothing_is_gathered() -> None:
    assert len(planned(fleet(0, 0, group="")).make) == 2
    assert len(planned([*fleet(0), incident("x", group="other")], now=T0 + 10**6).make) == 2


def test_who_is_well_before_the_alert_goes_is_not_in_it() -> None:
    first, second = fleet(0, 1000)
    assert planned([second], now=T0 + 120_000) == Plan(look_at=T0 + 121_000)
    assert kinds(planned([second], now=T0 + 121_000)) == [("opened", ["i1"])]
    assert first.id == "i0"


def test_who_joins_what_was_told_is_told_too_with_all_others_who_do() -> None:
    many = fleet(0, 1000, 60_000)
    told = sent(incident="i1", members=["i1"])  # its node found out later that it was not alone
    assert planned(many, [told], T0 + 60_000) == Plan(look_at=T0 + 120_000)
    plan = planned(many, [told], T0 + 120_000)
    assert kinds(plan) == [("worse", ["i0", "i1", "i2"])]
    assert plan.make[0].incident == "i1"
    heard = [told, msgspec.structs.replace(plan.make[0], state="sent", sent_at=T0)]
    assert planned(many, heard, T0 + HOUR) == Plan()
    well = [msgspec.structs.replace(each, resolved_at=T0 + HOUR) for each in many]
    assert planned([many[0], *well[1:]], heard, T0 + HOUR).make == []
    assert kinds(planned(well, heard, T0 + HOUR)) == [("resolved", ["i0", "i1", "i2"])]


def test_a_trouble_settles_before_it_is_told() -> None:
    assert planned([incident()], settle_ms=5000) == Plan(look_at=T0 + 5000)
    assert kinds(planned([incident()], now=T0 + 5000, settle_ms=5000)) == [("opened", ["i1"])]


def test_an_alert_that_waits_tells_of_those_who_joined_meanwhile() -> None:
    well, late = fleet(0, 1000)
    well = msgspec.structs.replace(well, resolved_at=T0 + 500)
    waiting = sent(incident="i0", members=["i0"], state="waiting", sent_at=None)
    plan = planned([well, late], [waiting], T0 + HOUR)
    assert (plan.make, [after.members for _, after in plan.change]) == ([], [["i0", "i1"]])


def test_nobody_joins_what_is_over() -> None:
    told = sent(incident="i0", members=["i0"])
    over = sent("a2", incident="i0", members=["i0"], kind="resolved", state="waiting")
    well, late = fleet(0, 1000)
    plan = planned([msgspec.structs.replace(well, resolved_at=T0 + 5), late], [told, over], T0 + HOUR)
    assert kinds(plan) == [("opened", ["i1"])]


def test_a_clock_that_runs_ahead_does_not_hold_an_alert_back() -> None:
    ahead = fleet(0, opened_at=T0 + 10 * HOUR, seen_at=T0)
    assert kinds(planned(ahead, now=T0 + 120_000)) == [("opened", ["i0"])]


def test_a_fleet_is_told_again_when_one_of_it_gets_worse() -> None:
    many = fleet(0, 1000)
    told = sent(incident="i0", members=["i0", "i1"])
    many[1] = msgspec.structs.replace(many[1], severity="critical")
    assert kinds(planned(many, [told])) == [("worse", ["i0", "i1"])]


# --- the order on a channel ------------------------------------------------------------------------------------------


def test_the_oldest_that_is_due_goes_first_and_one_that_rests_holds_up_no_other() -> None:
    rests = sent("a1", state="waiting", retry_at=T0 + 50, made_at=T0)
    fresh = sent("a2", state="waiting", made_at=T0 + 2)
    done = sent("a3")
    assert due([rests, fresh, done], "pager", T0) == (fresh, None)
    assert due([rests, done], "pager", T0) == (None, T0 + 50)
    assert due([rests, done], "pager", T0 + 50) == (rests, None)
    assert due([done], "pager", T0) == (None, None)
    assert due([fresh], "mail", T0) == (None, None)


# --- a world ---------------------------------------------------------------------------------------------------------

CHANNELS = ["pager", "mail"]
SEVERITIES: list[Severity] = ["info", "warning", "critical"]


FATES = st.sampled_from(
    ["taken", "taken", "taken", "refused", "unknown-taken", "unknown-lost", "died-before", "died-after"]
)


class World(RuleBasedStateMachine):
    """Incidents come, change and go; planners die half-way; channels refuse, or take and do not say so."""

    def __init__(self) -> None:
        super().__init__()
        self.now = T0
        self.incidents: dict[str, Incident] = {}
        self.alerts: dict[str, Alert] = {}
        self.heard: list[tuple[str, str, str, Severity, list[str]]] = []  # channel, kind, case, severity, members

    @rule(
        group=st.sampled_from(["", "oom", "oom"]),
        severity=st.sampled_from(SEVERITIES),
        late=st.sampled_from([0, 1000, 110_000, 110_000, 500_000]),
    )
    def fall_ill(self, group: str, severity: Severity, late: int) -> None:
        id = f"i{len(self.incidents):03}"
        self.incidents[id] = incident(id, group=group, severity=severity, opened_at=self.now - late, seen_at=self.now)

    @rule(which=st.integers(0, 50), becomes=st.sampled_from([*SEVERITIES, "critical", "resolved"]))
    def change(self, which: int, becomes: str) -> None:
        if ill := [each for each in self.incidents.values() if each.open]:
            each = ill[which % len(ill)]
            how = {"resolved_at": self.now} if becomes == "resolved" else {"severity": becomes}
            self.incidents[each.id] = msgspec.structs.replace(each, **how)

    @rule(
        ms=st.sampled_from([1, 1000, 60_000, 120_000, HOUR, 5 * HOUR]),
        until=st.sampled_from([0, 1, 2, 1000, 1000]),
        fates=st.lists(FATES, max_size=6),
    )
    def live(self, ms: int, until: int, fates: list[str]) -> None:
        """Time goes by; alerts are planned, and some of them sent."""
        self.now += ms
        self._plan(until)
        if until == 1000:
            assert self._next() == Plan(look_at=self._next().look_at), (
                "a plan that was carried out leaves nothing to do"
            )
        for number, fate in enumerate(fates):
            self._send(CHANNELS[number % 2], fate)

    def _live(self) -> list[Alert]:
        return [each for each in self.alerts.values() if not each.closed]

    def _next(self) -> Plan:
        told = {id for each in self._live() for id in each.members}
        seen = [each for each in self.incidents.values() if each.open or each.id in told]
        return alerting.plan(seen, self._live(), CHANNELS, POLICY, self.now)

    def _plan(self, until: int) -> None:
        plan = self._next()
        if plan.make and until > 0:
            for each in plan.make:
                self.alerts.setdefault(each.id, each)
        for before, after in plan.change[: max(0, until - 1)]:
            self._move(before, after)

    def _move(self, before: Alert, after: Alert) -> bool:
        now = self.alerts[before.id]
        if (now.state, now.tries, now.retry_at) != (before.state, before.tries, before.retry_at) or now.closed:
            return False
        self.alerts[before.id] = msgspec.structs.replace(after, closed=now.closed)
        if after.closed:
            for each in [*self.alerts.values()]:
                if (each.incident, each.channel) == (after.incident, after.channel):
                    self.alerts[each.id] = msgspec.structs.replace(each, closed=True)
        return True

    def _send(self, channel: str, fate: str) -> None:
        alert, _ = due(self._live(), channel, self.now)
        if alert is None:
            return
        members = [self.incidents[id] for id in alert.members]
        still = [each for each in members if each.open]
        if alert.kind != "resolved" and not still:
            return
        severity = alerting.worst(each.severity for each in still or members)
        held = msgspec.structs.replace(
            alert, state="sending", severity=severity, tries=alert.tries + 1, retry_at=self.now + 75_000
        )
        assert self._move(alert, held)
        if fate in ("taken", "unknown-taken", "died-after"):
            self.heard.append((channel, alert.kind, alert.incident, severity, alert.members))
        if fate == "taken":
            closed = alert.kind == "resolved"
            self._move(
                held, msgspec.structs.replace(held, state="sent", sent_at=self.now, retry_at=None, closed=closed)
            )
        elif fate == "refused":
            self._move(held, msgspec.structs.replace(held, state="waiting", retry_at=self.now + 2000))
        elif fate.startswith("unknown"):
            self._move(held, msgspec.structs.replace(held, retry_at=self.now + 2000))

    @invariant()
    def at_most_one_alert_of_a_case_waits_on_a_channel(self) -> None:
        waiting = [(each.incident, each.channel) for each in self._live() if pending(each)]
        opened = [key for key in waiting if waiting.count(key) > 1]
        for incident_id, channel in set(opened):
            both = [
                each
                for each in self._live()
                if pending(each) and (each.incident, each.channel) == (incident_id, channel)
            ]
            assert {each.kind == "resolved" for each in both} == {True, False}, "only an end overtakes"

    @invariant()
    def nobody_hears_of_an_end_without_a_beginning(self) -> None:
        for number, (channel, kind, case, _, _) in enumerate(self.heard):
            if kind == "resolved":
                before = [each[1] for each in self.heard[:number] if (each[0], each[2]) == (channel, case)]
                certain = [each for each in self.alerts.values() if each.incident == case and each.channel == channel]
                assert before or any(each.kind != "resolved" and each.tries for each in certain)

    @invariant()
    def a_trouble_is_told_once_until_it_is_worse(self) -> None:
        rows: dict[tuple[str, str], list[Alert]] = {}
        for each in sorted(self.alerts.values(), key=lambda each: each.made_at):
            rows.setdefault((each.incident, each.channel), []).append(each)
        for mine in rows.values():
            assert [each.kind for each in mine].count("opened") <= 1
            assert [each.kind for each in mine].count("resolved") <= 1
            assert [each.kind for each in mine].count("worse") <= 2 + len({id for each in mine for id in each.members})

    @invariant()
    def an_incident_is_in_one_case_on_a_channel(self) -> None:
        seen: dict[tuple[str, str], str] = {}
        for each in self.alerts.values():
            for id in each.members:
                assert seen.setdefault((id, each.channel), each.incident) == each.incident

    def teardown(self) -> None:
        """Whatever happened before: when all work again, everybody knows how things stand."""
        for _ in range(6):  # less than what it takes to be told again
            self._plan(1000)
            for channel in CHANNELS:
                while alerting.due(self._live(), channel, self.now)[0] is not None:
                    self._send(channel, "taken")
            self.now += 80_000
        assert not [each for each in self._live() if pending(each)]
        for each in self.incidents.values():
            if each.open and rank(each.severity) >= rank("warning"):
                for channel in CHANNELS:
                    self._is_known(each, channel)
        for alert in self._live():
            members = {id for each in self._live() if each.incident == alert.incident for id in each.members}
            assert any(self.incidents[id].open for id in members), "what is over is closed"

    def _is_known(self, incident: Incident, channel: str) -> None:
        named = [heard for heard in self.heard if heard[0] == channel and incident.id in heard[4]]
        assert named, (incident, channel)
        case = [heard for heard in self.heard if heard[0] == channel and heard[2] == named[-1][2]]
        assert case[-1][1] != "resolved"
        assert max(rank(heard[3]) for heard in case) >= rank(incident.severity)


World.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWorld = World.TestCase
