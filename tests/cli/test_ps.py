"""``relit ps``: agents as one list, for a screen of any width."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talker_house import TalkerHouse

from relit import documents
from relit.cli.board import SHAPES, Board, cells_of, cut, span
from relit.cli.roster import Known, Memory, Row, roster, troubles
from relit.control.values import InstanceStatus
from relit.lib import footprint

NOW = 1_800_000_000_000


def instance(name: str, **how: object) -> InstanceStatus:
    return InstanceStatus(**{"name": name, "state": "ready", "pid": 1, **how})  # type: ignore[arg-type]


def agent(name: str, *, workers: int = 1, paused: bool = False, **runs: int) -> documents.Agent:
    box = documents.Mailbox(
        name=name, concurrency=1, key_concurrency=None, depth=None, rate=None, burst=1, paused=paused
    )
    return documents.Agent(name=name, targets=[f"{name}/message"], workers=workers, runs=runs, mailbox=box)


def run(agent: str, id: str, started_at: int) -> documents.Run:
    return documents.Run(
        id=id, target=f"{agent}/message", agent=agent, workflow="message", kind="message", state="running",
        started_at=started_at,
    )  # fmt: skip


def only(known: Known) -> Row:
    [row] = roster(known)
    return row


# --- the list ----------------------------------------------------------------------------------------------------


def test_a_program_that_the_server_does_not_know_is_an_agent_too() -> None:
    row = only(Known(instances=[instance("tick", agent="tick", kind="command"), instance("server")]))
    assert (row.agent, row.kind, row.state) == ("tick", "command", "ready")


def test_an_agent_of_both_is_one_row() -> None:
    row = only(Known(instances=[instance("claw", agent="claw", kind="openclaw")], agents=[agent("claw", available=2)]))
    assert (row.state, row.queued, row.kind) == ("idle", 2, "openclaw")


def test_a_process_in_trouble_counts_for_more_than_what_the_server_says() -> None:
    ill = instance("claw", agent="claw", state="backing-off", reason="it failed", last_exit="exit 3", retry_at_ms=9)
    row = only(Known(instances=[ill], agents=[agent("claw", running=1)]))
    assert (row.state, row.reason, row.last_exit, row.retry_at) == ("backing-off", "it failed", "exit 3", 9)


def test_copies_are_one_agent_in_the_worst_of_their_states() -> None:
    known = Known(
        instances=[instance("clerk-1", restarts=1), instance("clerk-2", state="down", restarts=4)],
        agents=[agent("clerk", workers=1)],
        memory={"clerk-1": Memory(bytes=10), "clerk-2": Memory(bytes=5)},
    )
    row = only(known)
    assert (row.state, row.restarts, row.memory, row.instances) == ("down", 5, 15, ["clerk-1", "clerk-2"])


def test_agents_of_a_module_have_its_process() -> None:
    known = Known(
        instances=[instance("clerks", pid=7)], housed={"clerks": {"clerk"}}, agents=[agent("clerk", running=1)]
    )
    row = only(known)
    assert (row.agent, row.state, row.pids, row.kind) == ("clerk", "working", [7], "python")


def test_a_module_that_runs_nothing_known_stands_for_itself() -> None:
    assert only(Known(instances=[instance("clerks", state="down")])).agent == "clerks"


def test_the_oldest_run_is_the_turn() -> None:
    runs = [run("clerk", "new", 50), run("clerk", "old", 20), run("clerk", "newest", 70)]
    turn = only(Known(agents=[agent("clerk", running=3)], runs=runs)).turn
    assert turn is not None
    assert (turn.run, turn.since, turn.others) == ("old", 20, 2)


def test_the_turns_last_step_and_todays_cost_are_shown() -> None:
    steps = {"old": documents.Step(seq=7, pos="7", kind="step", name="charge the customer"), "gone": None}
    known = Known(
        agents=[agent("clerk", running=1)], runs=[run("clerk", "old", 20)], costs={"clerk": 1.234},
        steps={name: step for name, step in steps.items() if step},
    )  # fmt: skip
    row = only(known)
    assert (row.turn.step, row.turn.number, row.cost) == ("charge the customer", 7, 1.234)  # type: ignore[union-attr]
    line = drawn([row], None)[1]
    assert "7 charge the cu…" in line
    assert line.endswith("$1.23")
    assert [drawn([Row(agent="a", state="idle", cost=cost)], None)[1][-6:] for cost in (0.001, 0.005)] == [
        "<$0.01", " $0.01",
    ]  # fmt: skip


def test_a_paused_mailbox_is_told_with_what_opens_it() -> None:
    row = only(Known(agents=[agent("clerk", paused=True)]))
    assert row.state == "paused"
    assert "relit mailbox resume clerk" in row.reason


def test_a_limit_counts_when_all_of_an_agents_processes_have_one() -> None:
    instances = [instance("clerk-1"), instance("clerk-2")]
    both = {"clerk-1": Memory(bytes=1, limit=5), "clerk-2": Memory(bytes=1, limit=6)}
    one = {**both, "clerk-2": Memory(bytes=1)}
    assert only(Known(instances=instances, agents=[agent("clerk")], memory=both)).limit == 11
    assert only(Known(instances=instances, agents=[agent("clerk")], memory=one)).limit is None


def test_troubles_name_the_command() -> None:
    told = troubles([agent("clerk", workers=0, available=1, parked=2, discarded=3)])
    assert [line.rpartition(": ")[2].split()[1] for line in told] == ["up,", "runs", "requeue"]


# --- the table ---------------------------------------------------------------------------------------------------

ROWS = [
    Row(agent="breaker", state="down", kind="command", restarts=8, reason="it failed (exit 1)", last_exit="exit 1",
        retry_at=NOW + 90_000),
    Row(agent="clerk", state="working", kind="python", memory=50 << 20, limit=500 << 20, snapshot_at=NOW - 60_000),
]  # fmt: skip


def drawn(rows: list[Row], width: int | None, **how: bool) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in Board(width, **how).lines(rows, NOW)]


def test_every_state_has_a_shape_of_its_own_and_its_word() -> None:
    for state in SHAPES:
        [_, line] = drawn([Row(agent="a", state=state)], 80)
        assert f"{SHAPES[state][0]} {state}" in line
    plain = [SHAPES[state][1] for state in SHAPES]
    assert all(shape.isascii() for shape in plain)


def test_the_reason_begins_with_what_tells_most() -> None:
    [_, line, _] = drawn(ROWS, None)
    assert line.endswith("again in 90s: exit 1: it failed")


def test_columns_make_room_for_the_reason() -> None:
    wide, narrow = drawn(ROWS, 200)[0], drawn(ROWS, 60)[0]
    assert wide.split() == [
        "AGENT", "KIND", "STATE", "TURN", "STEP", "MEM", "SNAPSHOT", "QUEUE", "RESTARTS", "COST", "REASON",
    ]  # fmt: skip
    assert "REASON" in narrow.split()
    assert "KIND" not in narrow.split()


def test_steady_columns_stay_where_they_are() -> None:
    idle = [Row(agent="clerk", state="idle")]
    busy = [Row(agent="clerk", state="working", turn=roster(
        Known(agents=[agent("clerk", running=1)], runs=[run("clerk", "0" * 26, NOW)]))[0].turn)]  # fmt: skip
    assert drawn(idle, 80, steady=True)[0] == drawn(busy, 80, steady=True)[0]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
some_rows = st.lists(
    st.builds(
        Row,
        agent=st.from_regex(r"[a-z][a-z0-9-]{0,40}", fullmatch=True),
        state=st.sampled_from(sorted(SHAPES)),
        kind=st.sampled_from(["", "python", "openclaw"]),
        restarts=st.integers(0, 10_000),
        memory=st.none() | st.integers(0, 1 << 45),
        queued=st.integers(0, 10_000),
        reason=texts,
    ),
    min_size=1,
    max_size=5,
)


@given(some_rows, st.integers(20, 200), st.booleans())
def test_no_line_is_wider_than_the_terminal(rows: list[Row], width: int, steady: bool) -> None:
    for line in Board(width, steady=steady).lines(rows, NOW):
        text = "".join(text for text, _ in line)
        assert "\n" not in text
        assert cells_of(text.rstrip()) <= max(width, 24)  # a name and a state are always there


@given(texts, st.integers(0, 50))
def test_what_is_cut_fits(text: str, width: int) -> None:
    assert cells_of(cut(text, width)) <= width


@pytest.mark.parametrize(
    ("ms", "said"), [(-5, "0s"), (99_000, "99s"), (100_000, "1m"), (7_200_000, "2h"), (172_800_000, "2d")]
)
def test_spans_have_one_unit(ms: int, said: str) -> None:
    assert span(ms) == said


# --- memory ------------------------------------------------------------------------------------------------------


def test_a_trees_memory_is_that_of_all_its_processes() -> None:
    seen = {
        1: footprint.Seen(parent=0, session=1, resident=100),
        5: footprint.Seen(parent=1, session=5, resident=10),
        6: footprint.Seen(parent=5, session=5, resident=4),
        7: footprint.Seen(parent=1, session=5, resident=2),  # its parent died: the session tells whose it is
        8: footprint.Seen(parent=7, session=8, resident=1),
    }
    forest = footprint.Forest(seen)
    assert forest.tree(5) == 17
    assert forest.alone(5) == 10
    assert forest.tree(99) == 0


def test_this_process_holds_something() -> None:
    forest = footprint.Forest(footprint.look())
    assert forest.tree(os.getpid()) >= forest.alone(os.getpid()) > 1 << 20
    assert footprint.limit(999_999_999) is None


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def talkers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TalkerHouse]:
    house = TalkerHouse(tmp_path_factory.mktemp("talkers"))
    house.up()
    try:
        yield house
    finally:
        house.down()


def test_ps_shows_agents_of_all_kinds(talkers: TalkerHouse) -> None:
    rows = {each["agent"]: each for each in talkers.json("ps")["agents"]}
    assert {name: row["kind"] for name, row in rows.items()} == {
        "breaker": "command", "clerk": "python", "parent": "command", "talker": "talker",
    }  # fmt: skip
    assert rows["clerk"]["instances"] == ["clerk"]
    assert rows["talker"]["workers"] == 1


def test_ps_counts_the_memory_of_children(talkers: TalkerHouse) -> None:
    row = talkers.seen("parent", lambda row: (row["memory"] or 0) > 40_000_000)
    assert row["state"] == "ready"


def test_ps_says_why_an_agent_is_not_well(talkers: TalkerHouse) -> None:
    talkers.seen("breaker", lambda row: row["state"] in ("backing-off", "down"))
    result = talkers.run("ps")
    assert result.exit_code == 3
    line = next(line for line in result.stdout.splitlines() if line.startswith("breaker"))
    assert "exit 7" in line
    assert "breaker is" in result.stderr


def test_ps_shows_the_turn(talkers: TalkerHouse) -> None:
    id = talkers.run("send", "talker", "wait for it").stdout.strip()
    row = talkers.seen("talker", lambda row: row["turn"] is not None)
    assert row["state"] == "working"
    assert row["turn"]["run"] == id
    assert talkers.seen("talker", lambda row: row["turn"]["number"] > 0)["turn"]["step"]
    assert id[-8:] in talkers.run("ps").stdout
    (talkers.work / "go").touch()
    assert talkers.run("wait", id, "--timeout", "30s").exit_code == 0


def test_relits_own_processes_are_a_line_or_rows(talkers: TalkerHouse) -> None:
    brief, whole = talkers.run("ps").stdout, talkers.run("ps", "--all").stdout
    [line] = [line for line in brief.splitlines() if line.startswith("relit: ")]
    for name in ("server", "volumes", "turns", "node", "keeper"):
        assert name in line
        assert [each for each in whole.splitlines() if each.startswith(name)]
    assert "relit: " not in whole


def test_ps_works_while_the_server_is_away(talkers: TalkerHouse) -> None:
    url = talkers.data / "run" / "server.url"
    listen = talkers.environment["RELIT_SERVER__LISTEN"]
    url.rename(kept := url.with_name("kept"))
    talkers.environment["RELIT_SERVER__LISTEN"] = "127.0.0.1:1"
    try:
        result = talkers.run("ps")
    finally:
        talkers.environment["RELIT_SERVER__LISTEN"] = listen
        kept.rename(url)
    assert result.exit_code == 3
    names = {line.split()[0] for line in result.stdout.splitlines()[1:]}
    assert {"breaker", "clerk", "parent", "talker"} <= names
    assert "no relit server answers" in result.stderr


def test_ps_reads_no_configuration(talkers: TalkerHouse) -> None:
    """Nor anything else that takes long to load."""
    code = (
        "import sys\nfrom relit.cli.main import cli\n"
        "try: cli.main(['ps', '--json'])\nexcept SystemExit: pass\n"
        "heavy = {'asyncio', 'httpx', 'rich', 'hashlib', 'relit.settings.load', 'relit.agents.kind'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=talkers.environment, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
