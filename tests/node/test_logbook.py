"""Logs are read back by number, by time, and as they grow, over rotations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relit.lib.clock import iso
from relit.node.logbook import Line, Logbook, parsed, tail
from relit.node.outlog import OutLog, rotate

BEGIN = 1_795_678_812_000


class Writer:
    """Writes lines a second apart, and turns the log over."""

    def __init__(self, out: Path, keep: int = 4) -> None:
        self.out = out
        self.keep = keep
        self.count = 0

    def write(self, lines: int = 1) -> None:
        log = OutLog(self.out)
        for _ in range(lines):
            log.write(self.text(self.count).encode() + b"\n", self.out.stat().st_size)
            self.count += 1
        log.close()

    def text(self, number: int) -> str:
        return f"{iso(BEGIN + 1000 * number)} line {number}"

    def texts(self, *numbers: int) -> list[str]:
        return [self.text(number) for number in range(*numbers)]

    def turn(self) -> None:
        rotate(self.out, self.keep)


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "out.log")


@pytest.fixture
def files() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def _since(writer: Writer, number: int) -> list[str]:
    book = Logbook(writer.out)
    try:
        book.since(BEGIN + 1000 * number)
        return list(book.texts())
    finally:
        book.close()


@pytest.mark.usefixtures("files")
def test_the_last_lines_come_from_as_many_files_as_it_takes(writer: Writer) -> None:
    for lines in (5, 1, 7, 3):
        writer.turn()
        writer.write(lines)
    for count in range(20):
        assert tail(writer.out, count) == writer.texts(max(0, 16 - count), 16)


def test_the_last_lines_of_nothing_are_none(writer: Writer) -> None:
    assert tail(writer.out, 3) == []
    writer.out.touch()
    assert tail(writer.out, 3) == []
    assert tail(writer.out, 0) == []


def test_the_last_lines_of_a_large_file_are_found_from_its_end(writer: Writer) -> None:
    text = "".join(f"{iso(BEGIN)} {number} {'x' * 900}\n" for number in range(2000))
    writer.out.write_text(text)
    for count in (1, 200, 1999, 2000, 2001):
        assert len(tail(writer.out, count)) == min(count, 2000)
        assert text.endswith("\n".join(tail(writer.out, count)) + "\n")


def test_a_line_that_is_being_written_is_not_shown(writer: Writer) -> None:
    writer.write(2)
    with writer.out.open("ab") as file:
        file.write(b"2026-11-26T07:40:12.123Z half a li")
    assert tail(writer.out, 1) == writer.texts(1, 2)


@pytest.mark.usefixtures("files")
def test_files_that_are_older_are_not_read(writer: Writer) -> None:
    for lines in (5, 1, 7, 3):
        writer.turn()
        writer.write(lines)
    for number in range(17):
        texts = _since(writer, number)
        begin = max([0, *(at for at in (5, 6, 13) if at < number)])  # the file before may end at the same time
        assert texts == writer.texts(begin, 16)


def test_a_number_that_a_cut_short_rotation_left_out_is_no_end(writer: Writer) -> None:
    for _ in range(3):
        writer.turn()
        writer.write(2)
    writer.out.with_name("out.log.1").rename(writer.out.with_name("out.log.3"))
    names = sorted(path.name for path in writer.out.parent.iterdir())
    assert names == ["out.log", "out.log.2", "out.log.3"]
    assert tail(writer.out, 9) == writer.texts(2, 4) + writer.texts(0, 2) + writer.texts(4, 6)


def test_lines_are_told_with_their_time() -> None:
    assert parsed("2026-11-26T07:40:12.123Z hello  you") == Line(1_795_678_812_123, "hello  you")
    assert parsed("2026-11-26T07:40:12.123Z ") == Line(1_795_678_812_123, "")
    assert parsed("2026-13-26T07:40:12.123Z x") == Line(0, "2026-13-26T07:40:12.123Z x")
    assert parsed("no time") == Line(0, "no time")


def test_a_line_without_a_time_has_that_of_the_line_before(writer: Writer) -> None:
    writer.out.write_text("first\n2026-11-26T07:40:12.123Z second\nthird\n")
    book = Logbook(writer.out)
    book.last(3)
    assert [line.at for line in book.lines()] == [0, 1_795_678_812_123, 1_795_678_812_123]
    book.close()


def test_what_was_cut_off_is_read_again_as_it_is_written_anew(writer: Writer) -> None:
    writer.write(2)
    book = Logbook(writer.out)
    with writer.out.open("ab") as file:
        file.write(b"cut short\n")
    assert [line.text for line in book.lines()] == ["cut short"]
    os.truncate(writer.out, writer.out.stat().st_size - len(b"cut short\n"))
    assert list(book.lines()) == []
    writer.write(1)
    assert [line.text for line in book.lines()] == ["line 2"]
    book.close()


def test_a_log_that_comes_later_is_followed_from_its_beginning(writer: Writer) -> None:
    book = Logbook(writer.out)
    assert list(book.lines()) == []
    writer.write(2)
    assert [line.text for line in book.lines()] == ["line 0", "line 1"]
    book.close()
    book.close()


def test_who_comes_too_late_is_told_so(writer: Writer) -> None:
    writer.write(2)
    book = Logbook(writer.out)
    for _ in range(10):
        writer.write(2)
        writer.turn()
    writer.write(2)
    kept = [line.text for line in book.lines()]
    assert kept[-1] == f"line {writer.count - 1}"
    assert book.lost
    book.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 5), st.sampled_from(["turn", "read"])), max_size=60))
@pytest.mark.usefixtures("files")
def test_who_follows_sees_each_line_once(tmp_path_factory: pytest.TempPathFactory, actions: list[int | str]) -> None:
    writer = Writer(tmp_path_factory.mktemp("log") / "out.log", keep=60)
    book, seen = Logbook(writer.out), []
    for action in actions:
        if action == "turn":
            writer.turn()
        elif action == "read":
            seen += list(book.texts())
        else:
            writer.write(int(action))
    seen += list(book.texts())
    assert seen == writer.texts(writer.count)
    assert not book.lost
    book.close()
