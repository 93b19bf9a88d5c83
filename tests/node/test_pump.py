"""What instances write comes into their logs, each line once, whatever happens in between."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_house import NOW, STAMP, Log, disk, fill, mounted, no_punch, run

from relit.node import outlog, pump, rawlog


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "log")
    yield made
    made.close()


def test_lines_get_the_time_at_which_they_were_read(log: Log) -> None:
    worker = log.pump()
    log.write("one\ntwo\n")
    run(worker)
    log.clock.ms += 1500
    log.write("\nlast\n")
    run(worker)
    later = STAMP.replace("12.123", "13.623")
    assert log.out.read_text() == f"{STAMP}one\n{STAMP}two\n{later}\n{later}last\n"


def test_secrets_are_not_kept(log: Log) -> None:
    worker = log.pump("hunter2hunter2")
    log.write("it is hunter2hun")
    run(worker)
    log.write("ter2, key sk-abcdefghijklmnopqrst\n")
    run(worker)
    assert log.lines() == ["it is [redacted:secret], key [redacted:api-key]"]


def test_what_is_no_text_is_escaped(log: Log) -> None:
    worker = log.pump()
    log.write(b"caf\xc3\xa9 \xff\xfe \xe2\x82\r\n")
    run(worker)
    assert log.lines() == ["caf\u00e9 \\xff\\xfe \\xe2\\x82"]


def test_a_last_line_waits_a_second_for_its_end(log: Log) -> None:
    worker = log.pump()
    log.write("Password? ")
    due = worker.step().due
    assert due == NOW / 1000 + 1
    log.clock.ms += 999
    assert worker.step().due == due
    assert log.texts() == []
    log.clock.ms += 1
    assert worker.step().due is None
    assert log.lines() == ["Password? "]
    log.write("thanks\n")
    run(worker)
    assert log.lines() == ["Password? ", "thanks"]


def test_what_may_become_a_secret_waits_longer(log: Log) -> None:
    worker = log.pump("correct horse")
    log.write("say corr")
    assert worker.step().due == NOW / 1000 + 1
    log.clock.ms += 1000
    assert worker.step().due == log.clock.ms / 1000 + 1
    assert log.lines() == ["say "]
    log.clock.ms += 1000
    assert worker.step().due == log.clock.ms / 1000 + 9
    log.clock.ms += 9000
    assert worker.step().due is None
    assert log.lines() == ["say ", "[redacted:secret]"]


def test_long_lines_come_in_pieces(log: Log) -> None:
    worker = log.pump()
    log.write("x" * 100_000 + "\n" + "y" * 50_000)
    run(worker, "ended")
    assert [len(line) for line in log.lines()] == [*[16384] * 6, 1696, *[16384] * 3, 848]


def test_a_flood_without_newlines_is_read_in_small_parts(log: Log) -> None:
    worker = log.pump()
    log.write(b"z" * (3 << 20))
    run(worker, "ended")
    assert sum(map(len, log.lines())) == 3 << 20


def test_what_was_read_gives_back_its_disk_under_a_living_writer(log: Log) -> None:
    worker = log.pump()
    for number in range(30):
        log.write(b"x" * 99_999 + b"\n")
        run(worker)
        assert disk(log.raw) <= 400_000, number
    assert log.raw.stat().st_size == 3_000_000
    log.write("last\n")
    run(worker)
    assert log.lines()[-1] == "last"


def test_logs_are_kept_in_turn(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", limit=10_000, keep=3)
    worker = log.pump()
    lines = [f"line {number}" for number in range(3000)]
    for line in lines:
        log.write(line + "\n")
        if line.endswith("0"):
            run(worker)
    run(worker)
    names = sorted(path.name for path in log.out.parent.iterdir())
    assert names == ["out.log", "out.log.1", "out.log.2", "out.log.3", "raw.log", "raw.log.place"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in log.out.parent.iterdir()} == {0o600}
    assert all(10_000 <= (log.out.parent / name).stat().st_size < 11_000 for name in names[1:4])
    kept = log.lines()
    assert kept == lines[-len(kept) :]
    log.close()


@pytest.mark.parametrize(("keep", "left"), [(1, ["out.log", "out.log.1"]), (0, ["out.log"])])
def test_fewer_are_kept_when_fewer_are_wanted(tmp_path: Path, keep: int, left: list[str]) -> None:
    for sizes in ({"keep": 4}, {"keep": keep}):
        log = Log(tmp_path / "log", limit=100, **sizes)
        worker = log.pump()
        for number in range(20):
            log.write(f"line {number} of twenty\n")
            run(worker)
        log.close()
    assert sorted(path.name for path in log.out.parent.glob("out.log*")) == left
    assert log.lines()[-1] == "line 19 of twenty"


def test_a_rotation_fills_the_gap_that_one_before_has_left(tmp_path: Path) -> None:
    log = tmp_path / "out.log"
    for name, text in (("out.log", "e"), ("out.log.1", "d"), ("out.log.3", "b"), ("out.log.4", "a")):
        (tmp_path / name).write_text(text)
    outlog.rotate(log, 5)
    texts = {path.name: path.read_text() for path in sorted(tmp_path.iterdir())}
    assert texts == {"out.log.1": "e", "out.log.2": "d", "out.log.3": "b", "out.log.4": "a"}


def test_a_new_raw_log_is_read_from_its_beginning(log: Log) -> None:
    worker = log.pump()
    log.write("old\n")
    run(worker)
    log.close()
    log.raw.rename(log.raw.with_name("away"))
    log.write("new, and longer than the old one\n")
    run(worker)
    assert log.lines() == ["old", "new, and longer than the old one"]


def test_without_its_record_a_log_goes_on_where_the_disk_was_given_back(log: Log) -> None:
    worker = log.pump()
    lines = [f"line {number:04d} {'x' * 80}" for number in range(3000)]
    log.write("\n".join(lines) + "\n")
    run(worker)
    log.raw.with_name("raw.log.place").write_bytes(b"\0" * 256)
    log.write("more\n")
    run(log.pump())
    kept = log.lines()
    assert kept[:3000] == lines
    assert kept[-1] == "more"
    assert len(kept) < 3000 + 68_000 // len(lines[0])  # what was not given back yet is there twice


def test_a_log_of_an_earlier_relit_is_gone_on_with(log: Log) -> None:
    log.out.write_text("not stamped\n")
    worker = log.pump()
    log.write("new\n")
    run(worker)
    assert log.out.read_text() == f"not stamped\n{STAMP}new\n"


def test_a_log_that_somebody_emptied_goes_on(log: Log) -> None:
    worker = log.pump()
    log.write("one\n")
    run(worker)
    os.truncate(log.out, 0)
    log.write("two\n")
    run(worker)
    log.out.unlink()
    log.write("three\n")
    run(worker)
    assert log.out.read_text() == f"{STAMP}three\n"


def test_a_backlog_that_is_too_large_is_skipped_and_said(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", limit=10 << 20, most=1 << 20)
    worker = log.pump()
    log.write("first\n")
    run(worker)
    lines = [f"line {number:06d} {'x' * 80}" for number in range(50_000)]
    log.write("\n".join(lines) + "\n")
    run(worker)
    first, said, *rest = log.lines()
    assert first == "first"
    assert rest == lines[-len(rest) :]
    assert 200_000 < sum(len(line) + 1 for line in rest) <= 1 << 18
    skipped = sum(len(line) + 1 for line in lines[: -len(rest)])
    assert said == f"[relit] skipped {skipped} bytes: more than 1.0M came before they could be read"
    assert disk(log.raw) < 200_000
    log.close()


def test_a_skip_into_a_private_key_shows_nothing_of_it(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", most=1 << 20)
    log.write("x" * (1 << 20) + "\n-----BEGIN PRIVATE KEY-----\n" + ("Ab3/" * 16 + "\n") * 5000)
    log.write("-----END PRIVATE KEY-----\nafter\n")
    run(log.pump())
    assert [line for line in log.lines() if "Ab3/" in line][: -64 * 5000] == []
    assert log.lines()[-1] == "after"
    log.close()


def test_a_private_key_over_a_restart_leaves_one_mark(log: Log) -> None:
    key = ["-----BEGIN PRIVATE KEY-----", *["Ab3/" * 16] * 20, "Ab==", "-----END PRIVATE KEY-----", "after"]
    for line in key:
        log.write(line + "\n")
        run(log.pump())
    assert log.lines() == ["[redacted:private-key]", "after"]


# --- where the disk cannot be given back -----------------------------------------------------------------------


def test_where_holes_cannot_be_made_it_is_said_once(log: Log) -> None:
    worker = log.pump(punch=no_punch)
    lines = [f"line {number} {'x' * 80}" for number in range(5000)]
    for line in lines:
        log.write(line + "\n")
    run(worker)
    said = [line for line in log.lines() if line.startswith("[relit]")]
    assert said == [
        "[relit] this filesystem cannot give back what was read: raw.log grows until its writers have ended"
    ]
    assert [line for line in log.lines() if line not in said] == lines


def test_a_raw_log_is_made_empty_only_when_nobody_writes_to_it(log: Log) -> None:
    worker = log.pump(punch=no_punch)
    log.write(("x" * 99 + "\n") * 1000)
    run(worker)
    assert worker.idle()
    assert log.raw.stat().st_size == 100_000
    log.close()
    assert worker.idle()
    assert log.raw.stat().st_size == 0
    log.write("again\n")
    run(worker)
    assert log.lines()[-1] == "again"
    assert len([line for line in log.lines() if not line.startswith("[relit]")]) == 1001


def test_a_raw_log_is_not_made_empty_before_it_was_read(log: Log) -> None:
    worker = log.pump(punch=no_punch)
    log.write(("x" * 99 + "\n") * 1000)
    run(worker)
    log.write("more\n")
    log.close()
    assert not worker.idle()
    run(worker)
    assert log.lines()[-1] == "more"


def test_a_large_raw_log_that_was_read_is_made_empty_too(log: Log) -> None:
    worker = log.pump()
    log.write(("x" * 9999 + "\n") * 1700)
    run(worker)
    log.close()
    assert worker.idle()
    assert log.raw.stat().st_size == 0


# --- trouble ---------------------------------------------------------------------------------------------------


def test_what_is_no_plain_file_is_not_waited_for(log: Log) -> None:
    os.mkfifo(log.raw)
    assert "plain file" in log.pump().step().trouble
    log.raw.unlink()
    log.raw.symlink_to("/etc/passwd")
    assert log.pump().step().trouble


def test_a_raw_log_that_is_not_there_is_no_trouble(log: Log) -> None:
    worker = log.pump()
    log.raw.unlink()
    assert worker.step() == pump.Progress()
    assert worker.idle()


def test_on_a_full_disk_a_log_waits_and_loses_nothing(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "tmpfs") as place:
        log = Log(place / "log")
        worker = log.pump()
        log.write("before\n")
        run(worker)
        lines = [f"line {number} {'x' * 80}" for number in range(5000)]
        log.write("\n".join(lines) + "\n")
        ballast = fill(place)
        for _ in range(3):
            progress = worker.step()
            while not progress.trouble:
                progress = worker.step()
            assert "No space left" in progress.trouble
        kept = log.lines()
        assert kept == ["before", *lines][: len(kept)]
        ballast.unlink()
        run(log.pump())
        assert log.lines() == ["before", *lines]
        log.close()


def test_on_a_filesystem_without_holes_a_log_is_whole(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ramfs") as place:
        log = Log(place / "log")
        worker = log.pump()
        log.write(("x" * 99 + "\n") * 3000)
        run(worker)
        assert [line[:7] for line in log.lines()].count("[relit]") == 1
        assert len(log.lines()) == 3001
        log.close()
        assert worker.idle()
        assert log.raw.stat().st_size == 0


# --- killed ----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


class Death:
    """Kills at the n-th line of our own code that is executed."""

    FILES = frozenset(each.__file__ for each in (pump, outlog, rawlog))

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in self.FILES:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise Killed
        return self


def _killed(count: int, work: Callable[[], None]) -> bool:
    """Whether it was killed before it came to its end."""
    before = sys.gettrace()
    sys.settrace(Death(count))
    try:
        work()
    except Killed:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("can", [True, False], ids=["holes", "no holes"])
def test_killed_at_any_line_each_line_is_kept_exactly_once(tmp_path: Path, can: bool) -> None:
    count = 0
    killed = True
    while killed:
        count += 1
        log = Log(tmp_path / str(count), limit=50_000, keep=9)
        options = {} if can else {"punch": no_punch}

        def life(log: Log = log, options: dict[str, Any] = options) -> None:
            worker = log.pump(**options)
            run(worker)
            assert worker.idle()

        def write(name: str, lines: int, log: Log = log) -> None:
            log.write("".join(f"{name} {number} {'x' * 40}\n" for number in range(lines)))

        write("first", 650)
        life()
        write("second", 650)
        log.close()
        killed = _killed(count, life)
        last = log.pump(**options)
        write("third", 1400)  # more than before: a raw log that was made empty cannot be told by its size any more
        run(last)
        texts = [line.partition(" x")[0] for line in log.lines() if not line.startswith("[relit]")]
        wanted = [
            f"{name} {n}" for name, most in (("first", 650), ("second", 650), ("third", 1400)) for n in range(most)
        ]
        assert texts == wanted, count
        log.close()
        for path in (tmp_path / str(count)).iterdir():
            path.unlink()
    assert count > 50


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 400)), min_size=1, max_size=12))
def test_killed_again_and_again_each_line_is_kept_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[int, int]]
) -> None:
    log = Log(tmp_path_factory.mktemp("log"), limit=5000, keep=100)
    written = 0
    for lines, death in rounds:
        log.write("".join(f"{number} {'x' * 90}\n" for number in range(written, written + lines)))
        written += lines
        _killed(death, lambda: run(log.pump()))
    run(log.pump())
    assert [line.partition(" ")[0] for line in log.lines()] == [str(number) for number in range(written)]
    log.close()
