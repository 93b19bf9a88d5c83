"""Who makes room: the less important, who does nothing, who frees most; one at a time, and never while it is green."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relit.pressure.footprint import MB
from relit.pressure.level import BURST, Pressure, marks
from relit.pressure.shedding import A_MINUTE, BACK_S, Shed, Tenant, choose, line, scores

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
    assert not gone.going
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
    helpful = [
        each for each in tenants if not each.going and each.resident >= max(8 * MB, (MARKS.amber - FAST.free) / 20)
    ]
    if helpful and not gone.over:
        assert gone.priority == min(each.priority for each in helpful)
