"""``relit chat``: messages in, answers as they come, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from talker_house import TalkerHouse
from terminal import Person

from relit import documents
from relit.cli.answer import Answer, Said, safe
from relit.cli.http import Frame

# --- one answer --------------------------------------------------------------------------------------------------


def item(idx: int, data: Any, attempt: int = 1) -> Frame:
    made = documents.Item(idx=idx, pos="2", attempt=attempt, data=data)
    return Frame("item", f"r:0:{idx}", msgspec.json.encode(made))


def ended(state: str = "completed", event: str = "end", **how: Any) -> Frame:
    made = documents.Run(
        id="0" * 26, target="claw/message", agent="claw", workflow="message", kind="message", state=state, **how
    )  # fmt: skip
    return Frame(event, "r:9:9", msgspec.json.encode(made))


def said(*frames: Frame) -> list[Said]:
    answer = Answer("claw")
    return [each for frame in frames for each in answer.frame(frame)]


def test_pieces_are_printed_once() -> None:
    assert said(item(0, {"text": "one "}), item(1, {"text": "two"}), ended(output="one two")) == [
        Said("text", "one "), Said("text", "two"),
    ]  # fmt: skip


def test_what_came_only_with_the_end_is_printed_then() -> None:
    assert said(item(0, {"text": "one "}), ended(output="one two"))[-1] == Said("text", "two")
    assert said(ended(output={"sum": 3})) == [Said("line", '{"sum": 3}')]
    assert said(ended(output=None)) == []


def test_an_answer_goes_on_after_a_second_delivery() -> None:
    frames = [item(0, {"text": "one"}), item(1, {"redelivered": 2}), item(2, {"text": " two"})]
    assert said(*frames, ended(output="one two")) == [
        Said("text", "one"), Said("note", "delivered again after a crash"), Said("text", " two"),
    ]  # fmt: skip


def test_it_begins_anew_where_that_is_said() -> None:
    frames = [item(0, {"text": "one"}), item(1, {"restarted": 1}), item(2, {"text": "two"})]
    assert said(*frames, ended(output="two three")) == [
        Said("text", "one"), Said("anew", "another answer: it begins anew"), Said("text", "two"),
        Said("text", " three"),
    ]  # fmt: skip


def test_a_crash_is_told_where_there_was_one() -> None:
    told = [each.text for number in (1, 2, 3) for each in said(item(0, {"redelivered": number}))]
    assert told == ["delivered again", "delivered again after a crash", "delivered again after a crash (delivery 3)"]


def test_so_does_another_attempt() -> None:
    frames = [item(0, {"text": "one"}), item(1, {"text": "two"}, attempt=2)]
    assert said(*frames, ended(output="two")) == [Said("text", "one"), Said("anew", "tried again"), Said("text", "two")]


def test_waiting_is_told_once() -> None:
    assert said(item(0, {"waiting": "starting"}), item(1, {"waiting": "starting"})) == [
        Said("note", "waiting: claw is not ready (starting)")
    ]


def test_other_items_have_lines_of_their_own() -> None:
    assert said(item(0, {"text": "x", "more": 1}), item(1, 5)) == [
        Said("item", '{"text": "x", "more": 1}'), Said("item", "5"),
    ]  # fmt: skip


def test_a_failure_is_told_with_what_to_look_at() -> None:
    failure = documents.Failure(message="cannot do that")
    assert said(ended("discarded", error=failure)) == [
        Said("error", "discarded: cannot do that. relit show 00000000"),
    ]
    assert said(ended("cancelled")) == [Said("error", "cancelled")]


def test_a_parked_run_waits_for_a_person() -> None:
    answer = Answer("claw")
    [note] = answer.frame(ended("parked", event="state", reason="in doubt"))
    assert answer.stuck
    assert "it waits for a person (in doubt): relit show 00000000" in note.text


def test_an_answer_does_not_move_the_cursor() -> None:
    assert safe("a\x1b[2Jb\r\nc\td") == "a·[2Jb\nc       d"


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def talkers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TalkerHouse]:
    house = TalkerHouse(tmp_path_factory.mktemp("talkers"))
    house.up()
    try:
        yield house
    finally:
        house.down()


def test_each_line_is_a_message_and_is_answered(talkers: TalkerHouse) -> None:
    result = talkers.run("chat", "talker", text="hello\n\nlong \\\nmessage\n")
    assert result.exit_code == 0, result.output
    assert result.stdout == "main: one hello \nmain: one message \n"


def test_a_session_is_kept_apart(talkers: TalkerHouse) -> None:
    result = talkers.run("chat", "talker", "--session", "a", text="x\n/session b-2\nx\n/session\nx\n//etc\n/quit\nx\n")
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == ["a", "b-2", "main", "main"]
    assert "/etc" in result.stdout
    assert talkers.run("chat", "talker", "--session", "a b").exit_code == 2


def test_an_sdk_agent_answers_with_its_result(talkers: TalkerHouse) -> None:
    result = talkers.run("chat", "clerk", text="hello\nbad\n")
    assert result.stdout == "HELLO\n"
    assert "cannot do that" in result.stderr
    assert result.exit_code == 1


def test_commands_are_answered_and_not_sent(talkers: TalkerHouse) -> None:
    result = talkers.run("chat", "talker", text="find me\n/help\n/runs\n/nothing\n")
    assert "find me" in result.stdout.splitlines()[2]
    assert "/session NAME" in result.stderr
    assert "there is no /nothing" in result.stderr
    assert talkers.json("runs", "--agent", "talker", "-n", "1")["runs"][0]["state"] == "completed"


def test_nobody_who_takes_messages_is_exit_code_4(talkers: TalkerHouse) -> None:
    result = talkers.run("chat", "parent", text="hello\n")
    assert result.exit_code == 4
    assert "fix: relit ps" in result.stderr


def test_json_is_a_line_for_each_thing(talkers: TalkerHouse) -> None:
    rows = [json.loads(line) for line in talkers.run("--json", "chat", "talker", text="x\n").stdout.splitlines()]
    assert rows[0]["event"] == "sent"
    assert rows[-1]["data"]["output"] == "main: one x "


def test_a_crash_in_the_middle_is_told_and_the_answer_given(talkers: TalkerHouse) -> None:
    result = talkers.run("chat", "talker", text="please die\n")
    assert result.exit_code == 0, result.output
    assert result.stdout == "main: one please die \n"
    assert "delivered again after a crash" in result.stderr


# --- at a terminal -----------------------------------------------------------------------------------------------


@pytest.fixture
def person(talkers: TalkerHouse) -> Iterator[Person]:
    made = Person(talkers, "chat", "talker")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def held(talkers: TalkerHouse) -> Iterator[Path]:
    """Messages that say "wait" are not answered until this file is there."""
    go = talkers.work / "go"
    go.unlink(missing_ok=True)
    yield go
    go.touch()


def test_an_answer_goes_on_where_it_was_when_the_server_dies(talkers: TalkerHouse, person: Person, held: Path) -> None:
    person.sees("you> ")
    person.types("wait here\n")
    person.sees("main: one ")
    record = json.loads((talkers.data / "run" / "node.json").read_bytes())
    os.kill(next(each["pid"] for each in record["instances"] if each["name"] == "server"), signal.SIGKILL)
    held.touch()
    person.sees("wait here")
    assert "one" not in person.seen
    person.sees("you> ")
    assert person.leaves() == 0


def test_an_answer_that_begins_anew_is_told_so(talkers: TalkerHouse, person: Person) -> None:
    person.sees("you> ")
    person.types("change\n")
    person.sees("main: one ")
    person.sees("  · delivered again after a crash")
    person.sees("  · another answer: it begins anew")
    person.sees("main: two change ")
    person.sees("you> ")
    assert person.leaves() == 0


def test_ctrl_c_asks_what_is_to_become_of_the_message(talkers: TalkerHouse, person: Person, held: Path) -> None:
    person.sees("you> ")
    person.types("wait\n")
    person.sees("main: one ")
    person.types("\x03")
    person.sees("go on waiting? ")
    person.types("c\n")
    person.sees("cancelled")
    person.sees("you> ")
    assert talkers.json("runs", "--agent", "talker", "-n", "1")["runs"][0]["state"] == "cancelled"
    assert person.leaves() == 0


def test_or_leaves_it_running(talkers: TalkerHouse, person: Person, held: Path) -> None:
    person.sees("you> ")
    person.types("wait\n")
    person.sees("main: one ")
    person.types("\x03")
    person.sees("go on waiting? ")
    person.types("l\n")
    person.sees("it goes on: relit tail")
    person.sees("you> ")
    assert person.leaves() == 0
    held.touch()
    run = talkers.json("runs", "--agent", "talker", "-n", "1")["runs"][0]["id"]
    assert talkers.run("wait", run, "--timeout", "30s").exit_code == 0
