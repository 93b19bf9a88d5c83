"""``relit logs``: out of the data folder, of one or several, from when one likes, and on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from cli_house import House
from click.testing import Result

from relit.cli.commands.logs import Page, SinceType
from relit.cli.screen import Screen
from relit.lib.clock import SYSTEM_CLOCK, iso
from relit.node.logbook import Line
from relit.node.outlog import OutLog, rotate

MINUTE = 60_000


class Written:
    """A data folder with logs in it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.now = SYSTEM_CLOCK.now_ms()

    def out(self, name: str) -> Path:
        return self.house.data / "agents" / name / "log" / "out.log"

    def write(self, name: str, *texts: str, minutes_ago: float = 0) -> None:
        out = self.out(name)
        out.parent.mkdir(parents=True, exist_ok=True)
        log = OutLog(out)
        for text in texts:
            line = f"{iso(self.now - round(minutes_ago * MINUTE))} {text}\n"
            log.write(line.encode(), out.stat().st_size)
        log.close()

    def logs(self, *words: str) -> Result:
        result = self.house.run("logs", *words)
        assert result.exit_code == 0, result.output
        return result

    def texts(self, *words: str) -> list[str]:
        return self.logs("--raw", *words).stdout.splitlines()

    def rows(self, *words: str) -> list[tuple[str, str]]:
        rows = [json.loads(line) for line in self.logs("--json", *words).stdout.splitlines()]
        return [(row["instance"], row["text"]) for row in rows]


@pytest.fixture
def written(quiet_house: House) -> Written:
    return Written(quiet_house)


def test_a_log_is_shown_with_times(written: Written) -> None:
    written.write("scout", "hello", "", "you")
    lines = written.logs("scout").stdout.splitlines()
    today = time.strftime("%H:%M:%S", time.localtime(written.now / 1000)) + f".{written.now % 1000:03d}"
    assert [line.rstrip() for line in lines] == [f"{today}  hello", today, f"{today}  you"]


def test_several_logs_are_merged_by_time_with_their_names(written: Written) -> None:
    written.write("scout", "one", minutes_ago=4)
    written.write("server", "two", minutes_ago=3)
    written.write("scout", "three", "three again", minutes_ago=2)
    written.write("server", "four", minutes_ago=1)
    lines = written.logs().stdout.splitlines()
    shown = [line.split("  ", 1)[1] for line in lines]
    assert shown == ["scout   one", "server  two", "scout   three", "scout   three again", "server  four"]
    assert [name for name, _ in written.rows("server", "scout")] == ["scout", "server", "scout", "scout", "server"]


def test_json_is_one_object_a_line(written: Written) -> None:
    written.write("scout", 'say "hi"')
    assert json.loads(written.logs("scout", "--json").stdout) == {
        "instance": "scout",
        "at": written.now,
        "text": 'say "hi"',
    }


def test_the_last_lines_are_shown_from_as_many_files_as_it_takes(written: Written) -> None:
    for number in range(500):
        written.write("scout", str(number))
        if number % 60 == 59:
            rotate(written.out("scout"), 20)
    assert written.texts() == [str(number) for number in range(300, 500)]
    assert written.texts("-n", "3") == ["497", "498", "499"]
    assert written.texts("-n", "0") == []
    assert len(written.texts("-n", "5000")) == 500


def test_the_last_lines_of_several_are_the_last_of_all(written: Written) -> None:
    for number in range(10):
        written.write("a" if number < 8 else "b", str(number), minutes_ago=10 - number)
    assert written.rows("-n", "3") == [("a", "7"), ("b", "8"), ("b", "9")]


def test_since_shows_all_from_a_moment_on(written: Written) -> None:
    for minutes in range(300, 0, -1):
        written.write("scout", str(minutes), minutes_ago=minutes - 0.5)
        if minutes % 50 == 0:
            rotate(written.out("scout"), 20)
    wanted = [str(minutes) for minutes in range(240, 0, -1)]
    assert written.texts("--since", "4h") == wanted
    assert written.texts("--since", "240 minutes ago") == wanted
    assert written.texts("--since", iso(written.now - 240 * MINUTE)) == wanted
    assert written.texts("--since", "4h", "-n", "2") == ["2", "1"]


@pytest.mark.parametrize("text", ["soon", "10x", "2999-01-01T00:00"])
def test_what_is_no_moment_is_refused(written: Written, text: str) -> None:
    written.write("scout", "x")
    result = written.house.run("logs", "--since", text)
    assert result.exit_code == 2
    assert text in result.stderr


def test_a_time_of_day_is_the_last_one_that_has_come() -> None:
    now = SYSTEM_CLOCK.now_ms()
    found = SinceType().convert(time.strftime("%H:%M", time.localtime(now / 1000)), None, None)
    assert 0 <= now - found < 70_000
    with pytest.raises(click.BadParameter):
        SinceType().convert("25:00", None, None)


def test_a_name_that_nobody_has_is_told_with_those_there_are(written: Written) -> None:
    written.write("scout", "x")
    written.write("server", "x")
    result = written.house.run("logs", "scuot")
    assert result.exit_code == 4
    assert "error: there is no log of scuot" in result.stderr
    assert "why: there are scout, server" in result.stderr


def test_where_there_is_nothing_that_is_said(written: Written) -> None:
    result = written.logs()
    assert result.stdout == ""
    assert "no logs yet" in result.stderr
    assert written.house.run("logs", "scout").exit_code == 4


def test_an_agent_s_name_stands_for_all_its_instances(written: Written) -> None:
    for name in ("scout-1", "scout-2", "scout-11", "scout-x", "scout-3"):
        written.write(name, "line")
    (written.house.data / "agents" / "scout" / "home").mkdir(parents=True)
    (written.house.data / "agents" / "scout-3" / "home").mkdir()  # an agent that is only called so
    assert {name for name, _ in written.rows("scout")} == {"scout-1", "scout-2", "scout-11"}
    assert {name for name, _ in written.rows("scout-2")} == {"scout-2"}


def test_an_agent_that_lives_in_another_s_processes_has_that_one_s_log(written: Written) -> None:
    written.write("clerks", "line")
    notes = written.house.data / "agents" / "clerk" / "run" / "lives-in"
    notes.mkdir(parents=True)
    (notes / "clerks").touch()
    assert written.rows("clerk") == [("clerks", "line")]


def test_what_would_move_the_cursor_is_not_shown_unless_raw_is_asked_for(written: Written) -> None:
    written.write("scout", "\x1b[31mred\x1b[0m \x1b]0;title\x07a\tb \x1b[2J\x08")
    shown = written.logs("scout").stdout.rstrip("\n")
    assert shown.split("  ", 1)[1] == "red a   b ·"
    assert written.logs("scout", "--raw").stdout == "\x1b[31mred\x1b[0m \x1b]0;title\x07a\tb \x1b[2J\x08\n"


def test_names_have_colours_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.colour = True
    page = Page(screen, raw=False)
    page.widen(["a", "long"])
    page.line("a", Line(0, "x"))
    page.line("long", Line(0, "y"))
    one, other = capsys.readouterr().out.splitlines()
    assert "\x1b[36ma   \x1b[0m  x" in one
    assert "\x1b[32mlong\x1b[0m  y" in other


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root to give rights away")
def test_a_data_folder_of_somebody_else_is_told_for_logs(written: Written) -> None:
    written.write("scout", "x")
    (written.house.data / "run").mkdir()
    os.chown(written.house.data, 65534, 65534)
    written.house.data.chmod(0o700)
    done = subprocess.run(
        ["setpriv", "--inh-caps=-all", "--bounding-set=-all", sys.executable, "-m", "relit.cli", "logs"],
        env=written.house.environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 78
    assert "cannot be used" in done.stderr


class Following:
    """``relit logs -f`` in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def next(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def interrupt(self) -> int:
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(20)


@contextmanager
def _following(house: House, *words: str) -> Iterator[Following]:
    process = subprocess.Popen(
        [sys.executable, "-m", "relit.cli", "logs", "-f", *words],
        env=house.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Following(process)
        finally:
            process.kill()


def test_follow_goes_on_over_rotations(written: Written) -> None:
    written.write("scout", "old", "before")
    with _following(written.house, "scout", "--raw", "-n", "1") as follow:
        assert follow.next() == "before"
        for number in range(30):
            written.write("scout", f"line {number}", f"and {number}")
            if number % 7 == 0:
                rotate(written.out("scout"), 20)
            if number % 3 == 0:
                written.write("scout", f"end {number}")
        for number in range(30):
            assert [follow.next(), follow.next()] == [f"line {number}", f"and {number}"]
            if number % 3 == 0:
                assert follow.next() == f"end {number}"
        assert follow.interrupt() == 130


def test_follow_takes_in_who_comes_later(written: Written) -> None:
    with _following(written.house, "--json") as follow:
        written.write("scout", "hello")
        assert json.loads(follow.next())["instance"] == "scout"
        written.write("server", "here")
        assert json.loads(follow.next())["text"] == "here"
        written.write("scout", "again")
        assert json.loads(follow.next())["text"] == "again"


def test_logs_are_shown_without_a_server_of_agents_that_ran(quiet_house: House) -> None:
    assert quiet_house.run("logs").exit_code == 0
    code = (
        "import sys\nfrom relit.cli.main import cli\n"
        "try: cli.main(['logs'])\nexcept SystemExit: pass\n"
        "print(sorted({'asyncio', 'httpx', 'rich', 'starlette', 'apsw', 'obstore'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=quiet_house.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
