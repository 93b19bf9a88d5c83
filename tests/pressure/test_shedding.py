"""Who makes room: the less important, who does nothing, who frees most; one at a time, and never while it is green."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from relit.pressure.admission import Room, Waiting
from relit.pressure.footprint import MB, Footprint
from relit.pressure.level import BURST, Pressure, marks, next_s, seen
from relit.pressure.shedding import A_MINUTE, BACK_S, Shed, Tenant, choose, cold, displaced, line, scores

GB = 1 << 30
ALL = 16 * GB
MARKS = marks(ALL, BURST)
GREEN = Pressure(level="green", capacity=ALL, free=8 * GB)
AMBER = Pressure(level="amber", capacity=ALL, free=MARKS.amber - 200 * MB)
RED = Pressure(level="red", capacity=ALL, free=MARKS.red - 100 * MB)
FAST = Pressure(level="red", capacity=ALL, free=MARKS.red - 100 * MB, rate=GB, full_s=0.2)


def tenant(name: str, **facts: Any) -> Tenant:
    given: dict[str, Any] = {"name": name, "priority": 50, "resident": 600 * MB}
    return Tenant(**(given | facts))


def victim(now: Pressure, *tenants: Tenant, shed: tuple[Shed, ...] = (), at: float = 1000.0) -> tuple[str, str] | None:
    found = choose(now, tenants, shed, at)
    return None if found is None else (found.name, found.deed)


def test_amber_parks_one_who_does_nothing() -> None:
    assert victim(AMBER, tenant("a", idle=False), tenant("b")) == ("b", "stop")
    assert victim(AMBER, tenant("a", idle=False), tenant("b", then="freeze")) == ("b", "freeze")
    assert victim(AMBER, tenant("a", idle=False), tenant("b", then="keep"), tenant("c", effect=True)) is None


def test_nobody_goes_while_it_only_waits_to_be_easier() -> None:
    calm = Pressure(level="red", capacity=ALL, free=4 * GB, calm_at=999.0)
    assert victim(calm, tenant("a", idle=False)) is None


def test_the_order_is_limit_importance_idleness_and_what_it_frees() -> None:
    order = [
        tenant("over", over=True, priority=90, idle=False),
        tenant("low", priority=10, idle=False),
        tenant("idle-large", resident=GB),
        tenant("idle"),
        tenant("idle-dear", cost_s=15.0),
        tenant("busy", idle=False),
        tenant("high", priority=90),
    ]
    assert line(order[::-1]) == order


def test_the_kernel_is_told_the_same_order() -> None:
    many = [tenant(f"t{number}", priority=number) for number in range(20)]
    found = scores(many)
    assert [name for name, _ in sorted(found.items(), key=lambda each: -each[1])] == [each.name for each in line(many)]
    assert 300 <= min(found.values()) < max(found.values()) == 900
    assert scores([tenant("a")]) == {"a": 900}
    assert scores([]) == {}


def test_who_was_just_woken_is_left_alone_while_it_is_amber() -> None:
    assert victim(AMBER, tenant("a", woken_at=990.0)) is None
    assert victim(AMBER, tenant("a", woken_at=900.0)) == ("a", "stop")
    assert victim(FAST, tenant("a", woken_at=990.0)) == ("a", "kill")


def test_red_kills_what_grows_before_those_that_do_nothing() -> None:
    hog = tenant("hog", idle=False, resident=5 * GB, grown=500 * MB)
    quiet = [tenant(f"quiet-{number}") for number in range(10)]
    assert victim(FAST, *quiet, hog) == ("hog", "kill")


def test_red_spares_the_important_ones_while_others_help() -> None:
    hog = tenant("hog", priority=90, idle=False, resident=5 * GB, grown=500 * MB)
    assert victim(FAST, hog, tenant("low", priority=10)) == ("low", "kill")
    assert victim(FAST, hog, tenant("tiny", priority=10, resident=MB)) == ("hog", "kill"), "a tiny one does not help"


def test_red_that_is_slow_leaves_time_for_good_order() -> None:
    assert victim(RED, tenant("a")) == ("a", "stop")
    assert victim(RED, tenant("a", idle=False)) == ("a", "kill")


def test_one_that_is_frozen_gives_no_more_while_there_is_time() -> None:
    frozen, idle = tenant("frozen", priority=10, frozen=True, then="freeze"), tenant("idle")
    assert victim(RED, frozen, idle) == ("idle", "stop")
    assert victim(RED, frozen) is None
    assert victim(FAST, frozen, idle) == ("frozen", "kill")


def test_one_that_goes_in_good_order_is_killed_when_there_is_no_time_for_it() -> None:
    slow, other = tenant("slow", priority=10, going=True), tenant("other")
    begun = Shed("slow", 990.0, "stop", 600 * MB, FAST.free)
    assert victim(RED, slow, other, shed=(begun,)) == ("other", "stop")
    assert victim(FAST, slow, other, shed=(begun,)) == ("slow", "kill")
    killed = Shed("slow", 999.0, "kill", 600 * MB, FAST.free)
    assert victim(FAST, slow, other, shed=(begun, killed)) == ("other", "kill")


def test_pages_of_one_that_rests_are_moved_out_before_those_of_one_at_work() -> None:
    resting, working = tenant("resting", priority=90, then="keep"), tenant("working", priority=10, idle=False)

    def moved(now: Pressure, *tenants: Tenant, before: dict[str, float] | None = None) -> str | None:
        found = cold(now, tenants, before or {}, 1000.0)
        return found[0].name if found else None

    assert moved(AMBER, working, resting) == "resting"
    assert moved(AMBER, working, resting, before={"resting": 990.0}) == "working"
    assert moved(AMBER, working, resting, before={"resting": 900.0}) == "resting"
    assert moved(AMBER, tenant("small", resident=MB), tenant("still", frozen=True), tenant("goes", going=True)) is None
    assert moved(GREEN, resting) is None
    assert moved(RED, resting) is None


def test_the_next_one_waits_for_the_memory_of_the_last() -> None:
    gone = Shed("a", 999.5, "stop", 600 * MB, AMBER.free)
    assert victim(AMBER, tenant("b"), shed=(gone,)) is None
    assert victim(AMBER, tenant("b"), shed=(gone,), at=999.5 + BACK_S) == ("b", "stop"), "it does not come back"
    back = Shed("a", 999.5, "stop", 600 * MB, AMBER.free - 400 * MB)
    assert victim(AMBER, tenant("b"), shed=(back,)) == ("b", "stop"), "it is back"


def test_no_more_than_a_few_a_minute_while_it_is_amber() -> None:
    shed = tuple(Shed(f"s{number}", 950.0 + number, "stop", MB, 0) for number in range(A_MINUTE))
    assert victim(AMBER, tenant("b"), shed=shed) is None
    assert victim(FAST, tenant("b"), shed=shed) == ("b", "kill")


def test_the_reason_says_what_it_was_decided_from() -> None:
    found = choose(FAST, [tenant("a", grown=MB, over=True)], (), 0.0)
    assert found is not None
    for each in ("memory is red", "MB are free", "full in 0 s", "holds 600 MB", "priority 50", "limit", "grows most"):
        assert each in found.reason


TENANTS = st.lists(
    st.builds(
        Tenant,
        name=st.sampled_from("abcdefgh"),
        priority=st.integers(0, 100),
        resident=st.integers(0, 4 * GB),
        grown=st.integers(-GB, GB),
        cost_s=st.floats(0, 30),
        over=st.booleans(),
        idle=st.booleans(),
        effect=st.booleans(),
        then=st.sampled_from(["freeze", "stop", "keep"]),
        woken_at=st.none() | st.floats(0, 1000),
        going=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda each: each.name,
)


@given(TENANTS, st.sampled_from([GREEN, AMBER, RED, FAST]))
def test_nobody_goes_who_must_not(tenants: list[Tenant], now: Pressure) -> None:
    found = choose(now, tenants, (), 1000.0)
    if found is None:
        return
    gone = next(each for each in tenants if each.name == found.name)
    assert now.level != "green"
    assert not gone.going or (now is FAST and found.deed == "kill")
    assert gone.resident > 0
    if now.level == "amber":
        assert gone.idle
        assert not gone.effect
        assert gone.then != "keep"
        assert found.deed != "kill"


@given(TENANTS)
def test_less_important_ones_go_first_among_those_that_help(tenants: list[Tenant]) -> None:
    found = choose(FAST, tenants, (), 1000.0)
    if found is None:
        return
    gone = next(each for each in tenants if each.name == found.name)
    helpful = [each for each in tenants if each.resident >= max(8 * MB, (MARKS.amber - FAST.free) / 20)]
    if helpful and not gone.over:
        assert gone.priority == min(each.priority for each in helpful)


WANTS = Waiting("new", Footprint(600 * MB, 400 * MB, 1.0), 50, 1000.0)


def makes_way(*tenants: Tenant, wants: Waiting = WANTS, shed: tuple[Shed, ...] = (), at: float = 1000.0) -> str:
    found = displaced(GREEN, wants, tenants, shed, at)
    return "" if found is None else found.name


def test_an_idle_one_makes_way_for_a_start_that_waits() -> None:
    assert makes_way(tenant("a", idle=False), tenant("b", priority=40), tenant("c")) == "b"
    assert makes_way(tenant("a", rested_s=1.0), tenant("b", then="keep"), tenant("c", effect=True)) == ""
    assert makes_way(tenant("a", woken_at=999.0)) == "a", "it has done what it was woken for"


def test_a_more_important_one_makes_way_when_the_other_has_waited_for_long() -> None:
    high = tenant("high", priority=60)
    assert makes_way(high) == ""
    assert makes_way(high, at=1000.0 + 61) == "high"


def test_the_next_one_makes_way_when_the_memory_of_the_last_is_back() -> None:
    gone = Shed("x", 999.5, "stop", 600 * MB, GREEN.free)
    assert makes_way(tenant("a"), shed=(gone,)) == ""
    assert makes_way(tenant("a"), shed=(Shed("x", 999.5, "stop", 600 * MB, GREEN.free - 400 * MB),)) == "a"


# --- in simulated time ----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(["burst", "leak", "saw", "calm"]), min_size=1, max_size=6),
    st.integers(1, 12),
    st.randoms(use_true_random=False),
)
def test_traces_end_green_and_take_the_least_important_first(trace: list[str], count: int, chance: Any) -> None:
    """A machine whose foreign load follows the trace, and agents that all may be stopped."""
    agents = {f"a{number}": [number * 5, 300 * MB, True] for number in range(count)}
    now, shed, at = Pressure(), [], 0.0
    foreign, top = 2.0 * GB, ALL - 2 * GB
    for phase in [*trace, "calm"]:
        for step in range(200 if phase != "calm" else 900):
            up = {"burst": step < 60, "leak": True, "saw": step % 40 < 20, "calm": True}[phase]
            slope = {"burst": 200, "leak": 15, "saw": 80, "calm": -50}[phase] * MB
            grow = (slope if up else -slope) * chance.random()
            foreign = min(top, max(1.0 * GB, foreign + grow))
            held = sum(each[1] for each in agents.values() if each[2])
            now = seen(now, Room(ALL, max(0, round(ALL - foreign - held))), at)
            tenants = [
                Tenant(name=name, priority=each[0], resident=each[1]) for name, each in agents.items() if each[2]
            ]
            choice = choose(now, tenants, shed, at)
            assert choice is None or now.level != "green"
            if choice is not None:
                gone = agents[choice.name]
                assert gone[0] == min(each.priority for each in tenants), "the least important one"
                gone[2] = False
                shed = [*shed[-20:], Shed(choice.name, at, choice.deed, 300 * MB, now.free)]
            at += next_s(now)
    assert now.level == "green"
