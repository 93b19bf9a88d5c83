"""``relit top``: what stands where on screens of all sizes, its keys, and one frame where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cli_house import House
from hypothesis import given
from hypothesis import strategies as st
from terminal import Person

from relit import documents
from relit.cli.board import cells_of
from relit.cli.keys import first
from relit.cli.roster import Memory, Row
from relit.cli.stage import Panel, Stage, about
from relit.cli.survey import Found
from relit.cli.watch import Machine, Seen, machine
from relit.errors import ServerUnreachable
from relit.events import Event

NOW = 1_800_000_000_000
AWAY = ServerUnreachable("no relit server answers at http://127.0.0.1:7717", why="refused")


def seen(count: int = 3, *, events: int = 0, away: bool = False) -> Seen:
    rows = [Row(agent=f"agent-{n:02}", state="ready", kind="command") for n in range(count)]
    if rows:
        rows[-1] = Row(agent="broken", state="down", reason="it failed", last_exit="exit 1")
    return Seen(
        found=Found(
            here=None, rows=rows, own={"node": Memory(bytes=1 << 20)}, workers=[], troubles=[],
            away=AWAY if away else None,
        ),
        machine=Machine(load=(1.5, 1.0, 0.5), cores=2, used=3 << 30, total=4 << 30),
        incidents=[documents.Incident(id="i", agent="broken", opened_at=NOW, severity="critical")],
        events=[Event(id=str(n), at=NOW, name="run.completed", agent=f"who-{n}") for n in range(events)],
    )  # fmt: skip


def drawn(stage: Stage, seen: Seen, selected: int = 0, panel: Panel | None = None) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in stage.frame(seen, NOW, selected, panel)]


def test_the_head_tells_of_the_machine_and_the_agents() -> None:
    machine, counts, *_ = drawn(Stage(100, 24), seen())
    assert "load 1.50 1.00 0.50 of 2" in machine
    assert "█████████░░░ 3.0G of 4.0G" in machine
    assert counts == "3 agents  ✖ 1 down  ● 2 ready  1 open incident"


def test_events_stand_below_the_agents() -> None:
    lines = drawn(Stage(100, 24), seen(events=5))
    at = next(number for number, line in enumerate(lines) if line.startswith("── events"))
    assert [line.split()[-1] for line in lines[at + 1 : at + 6]] == [f"who-{n}" for n in range(5)]
    assert lines[-1].startswith("j k select")


def test_many_agents_leave_room_for_events() -> None:
    lines = drawn(Stage(100, 24), seen(200, events=5))
    assert len(lines) == 24
    assert any(line.startswith("── events") for line in lines)
    assert any("+189" in line for line in lines)


def test_the_selected_agent_is_always_seen() -> None:
    for selected in (0, 60, 199):
        frame = Stage(100, 24).frame(seen(200), NOW, selected)
        [line] = [line for line in frame if line and all("reverse" in style for _, style in line)]
        assert line[0][0].strip() == ("broken" if selected == 199 else f"agent-{selected:02}")


def test_a_panel_shows_the_end_of_a_log_and_the_beginning_of_a_page() -> None:
    text = [f"line {n}" for n in range(50)]
    log = drawn(Stage(100, 24), seen(), panel=Panel(title="log", text=text))
    page = drawn(Stage(100, 24), seen(), panel=Panel(title="why", text=text, end=False))
    assert log[-2] == "line 49"
    assert page[page.index(next(line for line in page if line.startswith("── why"))) + 1] == "line 0"
    assert "esc close" in page[-1]


def test_a_server_that_is_away_is_told() -> None:
    assert any("no relit server answers" in line for line in drawn(Stage(100, 24), seen(away=True)))
    assert drawn(Stage(100, 24), Seen(error=AWAY))[1].startswith("no relit server answers")


def test_without_utf8_all_is_ascii() -> None:
    for line in drawn(Stage(100, 24, plain=True), seen(events=2), panel=Panel(title="log", text=["x"])):
        assert line.isascii(), line


@given(
    st.integers(20, 220), st.integers(2, 60), st.integers(0, 80), st.integers(0, 5),
    st.none() | st.builds(Panel, title=st.just("log of agent"), text=st.lists(st.text(max_size=300), max_size=80)),
)  # fmt: skip
def test_a_frame_fits_its_terminal(width: int, height: int, count: int, events: int, panel: Panel | None) -> None:
    selected = max(0, count - 1)
    frame = Stage(width, height).frame(seen(count, events=events), NOW, selected, panel)
    assert len(frame) <= height
    for line in frame:
        assert cells_of("".join(text for text, _ in line)) <= width


def test_about_says_what_is_known() -> None:
    said = about(Row(agent="a", state="down", reason="it failed", restarts=3, retry_at=NOW + 5000), NOW)
    assert "why        it failed" in said
    assert said[0] == "state      down, again in 5s"


@pytest.mark.parametrize(
    ("data", "key", "rest"),
    [
        (b"jj", b"j", b"j"),
        (b"\x1b[A\x1b[B", b"\x1b[A", b"\x1b[B"),
        (b"\x1b[5~x", b"\x1b[5~", b"x"),
        (b"\x1b", b"\x1b", b""),
    ],
)
def test_keys_are_taken_one_by_one(data: bytes, key: bytes, rest: bytes) -> None:
    assert first(data) == (key, rest)


def test_this_machine_has_memory() -> None:
    assert 0 < machine().used < machine().total


# --- the command -------------------------------------------------------------------------------------------------


def test_one_frame_where_there_is_no_terminal(house: House) -> None:
    result = house.run("top")
    assert result.exit_code == 0, result.output
    assert "1 agent  ● 1 idle" in result.stdout
    assert "quit" not in result.stdout
    assert [each["agent"] for each in house.json("top")["agents"]] == ["clerk"]


def test_where_nothing_runs_it_fails_as_ps_does(quiet_house: House) -> None:
    result = quiet_house.run("top")
    assert result.exit_code == 1
    assert "fix: relit up" in result.stderr


@pytest.fixture
def person(house: House) -> Iterator[Person]:
    made = Person(house, "top")
    try:
        yield made
    finally:
        made.close()


def test_keys_open_a_log_and_end_it(house: House, person: Person) -> None:
    person.sees("clerk")
    person.types("l")
    person.sees("log of clerks")
    person.types("\x1b")
    person.types("w")
    person.sees("why clerk")
    assert house.run("send", "clerk", "hello", "--wait").exit_code == 0
    person.types("w")
    person.sees("run.completed")
    assert person.leaves("q") == 0


def test_ctrl_c_ends_it(person: Person) -> None:
    person.sees("j k select")
    person.types("\x03")
    assert person.process.wait(20) == 0
