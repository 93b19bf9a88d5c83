"""``relit agent adopt`` and ``release``: nothing is lost on the way in, and out again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_house import AgentHouse
from cli_house import free_port

pytestmark = pytest.mark.slow


@pytest.fixture
def quiet(tmp_path: Path) -> AgentHouse:
    return AgentHouse(tmp_path)


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentHouse]:
    made = AgentHouse(tmp_path_factory.mktemp("lively"))
    made.up()
    try:
        yield made
    finally:
        made.down()


class Old:
    """An installation of somebody's, with a workspace beside it."""

    def __init__(self, folder: Path) -> None:
        self.place, self.work, self.port = folder / ".toy", folder / "notes", free_port()
        for each in (self.place / "deep", self.place / "cache", self.work):
            each.mkdir(parents=True)
        self.config = {
            "port": self.port, "heartbeat": "30m", "workspace": str(self.work), "mood": f"{self.place}/deep/mood",
        }  # fmt: skip
        (self.place / "toy.json").write_text(json.dumps(self.config))
        (self.place / "deep" / "mood").write_text("good")
        (self.place / "cache" / "x").write_text("not needed")
        (self.place / "deep" / "out").symlink_to("/etc/hostname")
        (self.place / "deep" / "in").symlink_to("mood")
        (self.work / "diary.md").write_text("Dear diary")
        (self.place / "deep" / "mood").chmod(0o640)
        os.utime(self.place / "deep", ns=(1_500_000_000_000_000_001, 1_500_000_000_000_000_001))

    def seen(self) -> list[tuple[str, int, int]]:
        """All that is there, to the nanosecond."""
        return [(str(each), each.lstat().st_mtime_ns, each.lstat().st_mode) for each in sorted(self.place.rglob("*"))]


@pytest.fixture
def old(tmp_path: Path) -> Old:
    return Old(tmp_path / "owner")


def test_all_comes_along_and_the_original_stays(quiet: AgentHouse, old: Old) -> None:
    before = old.seen()
    done = quiet.run("agent", "adopt", str(old.place), "--name", "ann", "--no-start")
    assert done.exit_code == 0, done.output
    home = quiet.home("ann")
    assert (home / "work/diary.md").read_text() == "Dear diary"
    assert (home / "state/deep/mood").stat().st_mode & 0o777 == 0o640
    assert (home / "state/deep").stat().st_mtime_ns == 1_500_000_000_000_000_001
    assert os.readlink(home / "state/deep/out") == "/etc/hostname"
    assert "state/deep/out -> /etc/hostname" in done.output
    assert "not taken along: state/cache" in done.output
    assert old.seen() == before


@pytest.mark.parametrize("move", [False, True])
def test_links_lead_to_what_came_along_whatever_it_is_called(quiet: AgentHouse, old: Old, move: bool) -> None:
    """The installation and its workspace lie on another disk, and links lead there."""
    disk = old.place.parent / "disk"
    disk.mkdir()
    for each in (old.place, old.work):
        each.rename(disk / each.name)
        each.symlink_to(disk / each.name)
    (old.place / "deep" / "absolute").symlink_to(old.place / "deep" / "mood")
    (old.place / "deep" / "around").symlink_to("../../.toy/deep/mood")
    (old.place / "deep" / "diary").symlink_to(old.work / "diary.md")
    (old.work / "mood").symlink_to("../.toy/deep/mood")
    done = quiet.run("agent", "adopt", str(old.place), "--name", "ann", "--no-start", *(["--move", "--yes"] * move))
    assert done.exit_code == 0, done.output
    home = quiet.home("ann")
    if move:
        assert not (disk / ".toy").exists()
        assert not old.place.is_symlink()
        assert (disk / "notes/diary.md").exists()
    for each in ("absolute", "around", "in"):
        assert (home / "state/deep" / each).resolve() == (home / "state/deep/mood").resolve()
    assert (home / "work/diary.md").read_text() == (home / "state/deep/diary").read_text() == "Dear diary"
    assert (home / "work/mood").read_text() == "good"
    assert "diary -> " not in done.output
    told = json.loads((home / "state/toy.json").read_text())
    assert (told["mood"], told["workspace"]) == (f"{home}/state/deep/mood", f"{home}/work")
    place = old.place if move else old.place.parent / "back"
    back = quiet.run("--yes", "agent", "release", "ann", str(place))
    assert back.exit_code == 0, back.output
    assert os.readlink(place / "deep/absolute") == "mood"
    assert (place / "deep/diary").read_text() == "Dear diary"
    assert not (place / "deep/diary").resolve().is_relative_to(quiet.data)


def test_what_relit_changed_is_told_and_the_port_stays(quiet: AgentHouse, old: Old) -> None:
    done = quiet.run("--json", "agent", "adopt", str(old.place), "--name", "ann", "--no-start")
    told = next(row for row in map(json.loads, done.stdout.splitlines()) if row["event"] == "adopted")
    home = quiet.home("ann")
    assert {each["key"]: (each["before"], each["after"]) for each in told["changes"]} == {
        "heartbeat": ("30m", "off"),
        "workspace": (str(old.work), str(home / "work")),
        "mood": (f"{old.place}/deep/mood", str(home / "state/deep/mood")),
    }
    assert told["added"]["ports"] == {"http": old.port}
    assert json.loads((home / "state/toy.json").read_text())["port"] == old.port


def test_a_snapshot_holds_it_as_it_was(quiet: AgentHouse, old: Old) -> None:
    assert quiet.run("agent", "adopt", str(old.place), "--name", "ann", "--no-start").exit_code == 0
    kept = quiet.run("volume", "cat", "ann", "state/toy.json", "--at", "adopted")
    assert json.loads(kept.stdout) == old.config


def test_what_runs_is_not_taken_over(quiet: AgentHouse, old: Old) -> None:
    program = f"f = open('{old.place}/toy.json'); print(1, flush=True); input()"
    holding = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holding.stdout is not None
    holding.stdout.readline()
    try:
        done = quiet.run("agent", "adopt", str(old.place), "--name", "ann")
    finally:
        holding.communicate(b"\n")
    assert done.exit_code == 6
    assert f"in use by pid {holding.pid}" in done.output
    assert "kill it" in done.output
    assert not quiet.home("ann").exists()


def test_a_folder_of_no_kind_is_refused(quiet: AgentHouse, tmp_path: Path) -> None:
    done = quiet.run("agent", "adopt", str(tmp_path / "wheels"))
    assert done.exit_code == 4
    assert "openclaw has openclaw.json" in done.output


def test_move_removes_the_original_and_nothing_beside_it(quiet: AgentHouse, old: Old) -> None:
    """Also nothing of a folder that lies elsewhere: it was copied, and is told."""
    done = quiet.run("--yes", "agent", "adopt", str(old.place), "--name", "ann", "--move", "--no-start")
    assert done.exit_code == 0, done.output
    assert [each.name for each in old.place.parent.iterdir()] == ["notes"]
    assert (old.work / "diary.md").read_text() == "Dear diary"
    assert f"copied too, and left where it is: {old.work}" in done.output
    assert (quiet.home("ann") / "work/diary.md").exists()


def test_the_question_before_a_move_names_what_is_left(quiet: AgentHouse, old: Old) -> None:
    done = quiet.run("agent", "adopt", str(old.place), "--name", "ann", "--move")
    assert done.exit_code == 2
    assert f"remove it there? Copied too, and left where they are: {old.work}." in done.output
    assert not quiet.home("ann").exists()


def move(house: AgentHouse, old: Old) -> subprocess.Popen[str]:
    """In a process of its own, told step by step."""
    words = ["--json", "--yes", "agent", "adopt", str(old.place), "--name", "ann", "--move", "--no-start"]
    return subprocess.Popen(
        [sys.executable, "-m", "relit.cli", *words], cwd=house.folder, env=house.environment, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def until_step(adopting: subprocess.Popen[str], step: str) -> None:
    assert adopting.stdout is not None
    assert any(step in line for line in adopting.stdout), f"it never came to {step}"


def test_an_original_that_is_written_to_meanwhile_stays(quiet: AgentHouse, old: Old) -> None:
    adopting = move(quiet, old)
    until_step(adopting, "taking a snapshot")
    times = (old.place / "deep/mood").stat()
    (old.place / "deep/mood").write_text("evil")  # as long as before, and as old
    os.utime(old.place / "deep/mood", ns=(times.st_atime_ns, times.st_mtime_ns))
    (old.place / "late").write_text("new")
    rows = [json.loads(line) for line in adopting.communicate(timeout=50)[0].splitlines()]
    told = next(row for row in rows if row["event"] == "adopted")
    assert (adopting.returncode, told["moved"]) == (6, False)
    assert "deep/mood was written to; late is new" in told["stays"]["why"]
    assert f"rm -r {old.place}" in told["stays"]["fix"]
    assert (old.place / "late").read_text() == "new"
    assert [each.name for each in sorted(old.place.parent.iterdir())] == [".toy", "notes"]
    assert (quiet.home("ann") / "state/deep/mood").read_text() == "good"
    assert quiet.listed("ann")["reason"] == "stopped by hand"
    again = quiet.run("--yes", "agent", "adopt", str(old.place), "--name", "ann", "--move")
    assert again.exit_code == 6
    assert "ann is complete without it" in again.output


def test_an_original_that_is_in_use_again_stays(quiet: AgentHouse, old: Old) -> None:
    adopting = move(quiet, old)
    until_step(adopting, "taking a snapshot")
    with (old.place / "toy.json").open():  # by this process, which is another one
        rows = [json.loads(line) for line in adopting.communicate(timeout=50)[0].splitlines()]
    told = next(row for row in rows if row["event"] == "adopted")
    assert (adopting.returncode, told["moved"]) == (6, False)
    assert f"in use by pid {os.getpid()}" in told["stays"]["why"]
    assert old.place.exists()


def test_a_move_that_is_killed_before_the_agent_is_complete_begins_again(quiet: AgentHouse, old: Old) -> None:
    before = old.seen()
    adopting = move(quiet, old)
    until_step(adopting, "taking a snapshot")
    adopting.kill()
    adopting.communicate()
    assert old.seen() == before
    again = quiet.run("--yes", "agent", "adopt", str(old.place), "--name", "ann", "--move", "--no-start")
    assert again.exit_code == 6
    assert "that was cut short" in again.output
    home = quiet.home("ann")
    assert f"relit agent rm ann; mv {home} {home}.cut-short; then again" in again.output
    assert quiet.run("--yes", "agent", "rm", "ann").exit_code == 0
    home.rename(f"{home}.cut-short")
    done = quiet.run("--yes", "agent", "adopt", str(old.place), "--name", "ann", "--move", "--no-start")
    assert done.exit_code == 0, done.output
    assert not old.place.exists()
    assert json.loads((quiet.home("ann") / "state/toy.json").read_text())["heartbeat"] == "off"


def test_every_workspace_comes_along_and_is_given_back(quiet: AgentHouse, old: Old, tmp_path: Path) -> None:
    """Those that a list names, one that it does not name since it lies in its usual place, and one inside another."""
    apart, inside, usual = tmp_path / "owner" / "apart", old.work / "sub", old.place / "room-b"
    for each in (apart, inside, usual):
        each.mkdir()
        (each / "notes.md").write_text(each.name)
    rooms = [
        {"id": "a", "folder": str(apart)}, {"id": "b"}, {"id": "c", "folder": str(inside)}, {"id": "gone"},
        {"id": "d", "folder": f"{old.place}/deep"},
    ]  # fmt: skip
    (old.place / "toy.json").write_text(json.dumps(old.config | {"rooms": rooms}))
    done = quiet.run("--yes", "agent", "adopt", str(old.place), "--name", "ann", "--move", "--no-start")
    assert done.exit_code == 0, done.output
    assert (apart / "notes.md").exists()
    assert not old.place.exists()
    home = quiet.home("ann")
    found = json.loads((home / "state/toy.json").read_text())["rooms"]
    assert found == [
        {"id": "a", "folder": str(home / "rooms/0")},
        {"id": "b", "folder": str(home / "state/room-b")},
        {"id": "c", "folder": str(home / "work/sub")},
        {"id": "gone"},
        {"id": "d", "folder": str(home / "state/deep")},
    ]
    assert [(Path(each["folder"]) / "notes.md").read_text() for each in found[:3]] == ["apart", "room-b", "sub"]
    (home / "extra").mkdir()
    (home / "extra/of-its-own").write_text("work")
    dest = tmp_path / "given"
    back = quiet.run("agent", "release", "ann", str(dest))
    assert back.exit_code == 0, back.output
    again = json.loads((dest / "toy.json").read_text())["rooms"]
    assert [each.get("folder") for each in again] == [
        str(dest / "room-a"), str(dest / "room-b"), str(dest / "workspace/sub"), None, str(dest / "deep"),
    ]  # fmt: skip
    assert [(Path(each["folder"]) / "notes.md").read_text() for each in again[:3]] == ["apart", "room-b", "sub"]
    assert (dest / "from-relit/extra/of-its-own").read_text() == "work"
    assert str(dest / "from-relit/extra") in back.output


def test_an_adopted_agent_runs_at_its_old_port_and_is_given_back(lively: AgentHouse, old: Old, tmp_path: Path) -> None:
    done = lively.run("agent", "adopt", str(old.place), "--name", "ann")
    assert done.exit_code == 0, done.output
    assert lively.listed("ann")["state"] == "ready"
    (lively.home("ann") / "work/diary.md").write_text("Dear relit")
    dest = tmp_path / "given"
    back = lively.run("agent", "release", "ann", str(dest))
    assert back.exit_code == 0, back.output
    assert json.loads((dest / "toy.json").read_text()) == old.config | {
        "workspace": str(dest / "workspace"), "mood": str(dest / "deep/mood"),
    }  # fmt: skip
    assert (dest / "workspace/diary.md").read_text() == "Dear relit"
    assert f"TOY_STATE={dest}" in back.output
    assert lively.listed("ann")["reason"] == "stopped by hand: it was given back"
    assert lively.run("agent", "release", "ann", str(dest)).exit_code == 6
