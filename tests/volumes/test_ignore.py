"""What a snapshot leaves out: gitignore's patterns as git itself reads them, at a price that no pattern can raise."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relit.volumes.beneath import Beneath
from relit.volumes.ignore import BYTES, MOST, Ignore, Rules, fault
from relit.volumes.scan import Home

FOLDERS = ["a", "b", "ab", "a/a", "a/b", "a/ab", "b/a", "b/b", "ab/b", "a/b/a", "a/b/b", "a/ab/b", "b/a/b"]
NAMES = ["aab", "a.b", "-"]
FILES = [*NAMES, *(f"{folder}/{name}" for folder in FOLDERS for name in NAMES)]
PATHS = sorted([*FOLDERS, *FILES])


class Git:
    """A folder with those paths, and what git would leave out of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        subprocess.run(["git", "init", "-q", root], check=True)
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True, exist_ok=True)
        for file in FILES:
            (root / file).touch()

    def ignores(self, text: bytes) -> list[str]:
        (self.root / ".gitignore").write_bytes(text)
        asked = ["git", "-C", self.root, "check-ignore", "--no-index", "-z", "--stdin"]
        done = subprocess.run(asked, input="\0".join(PATHS).encode(), capture_output=True)
        assert done.returncode in (0, 1), done.stderr
        return sorted(done.stdout.decode().split("\0")[:-1])


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Git:
    if shutil.which("git") is None:
        assert os.environ.get("CI") != "true", "git is needed"
        pytest.skip("git is not here")
    return Git(tmp_path_factory.mktemp("git"))


def ignored(text: bytes, *patterns: str) -> list[str]:
    ignore = Ignore(Rules(patterns, text))
    return [path for path in PATHS if left_out(ignore, path)]


def left_out(ignore: Ignore, path: str) -> bool:
    name = path.encode()
    return ignore.below(name) or ignore.leaves_out(name, path in FOLDERS)


PIECES = ["a", "b", "-", ".", "*", "?", "[ab]", "[!a]", "[^b]", "[a-b]", "[]a]", "[!]a]", "[-a]", "[a-]", "[a\\]]"]
PIECES += ["[[:alpha:]]", "[[:punct:]]", "[[:no:]]", "[[:a]", "\\a", "\\*", "[z-a]", "[a", "[a-\\]", "[/]", "\\", "\\/"]
GLOBS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join).filter(lambda glob: "**" not in glob)
LINES = st.builds(
    lambda taken, anchor, names, folder, end: taken + anchor + "/".join(names) + folder + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(GLOBS | GLOBS | st.sampled_from(["**", "***"]), min_size=1, max_size=4),
    st.sampled_from(["", "/"]),
    st.sampled_from(["", "", " ", "\\ ", "\\  ", "\r"]),
)


@settings(max_examples=250, deadline=None)
@given(lines=st.lists(LINES | st.sampled_from(["", "#a", "\\#a", "!", "/", " "]), min_size=1, max_size=5))
def test_what_git_ignores_is_left_out(git: Git, lines: list[str]) -> None:
    same = [line for line in lines if "backwards" not in fault(line)]  # git takes [z-ab] for [b]; here it is a slip
    assert ignored("\n".join(lines).encode()) == git.ignores("\n".join(same).encode())


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[z-a]", "z-a is no range: it runs backwards"),
        ("x[9-0]", "9-0 is no range"),
        ("[a-\\]", "is no range: it runs backwards"),
        ("a/[b", "its [ is never closed"),
        ("[[:letters:]]", "there are no letters called letters"),
        ("a\\", "it ends with a backslash"),
        ("a//b", "a name in it is empty"),
        ("x" * 1001, "it is longer than 1000 bytes"),
    ],
)
def test_a_line_that_no_path_can_match_is_told_and_the_others_count(line: str, why: str) -> None:
    rules = Rules((), f"ab/\n{line}\n*.b\n".encode())
    (told,) = rules.faults
    assert told.startswith("line 2 counts for nothing: ")
    assert why in told
    assert len(told) < 200
    ignore = Ignore(rules)
    assert [path for path in ("ab", "a.b", "a/ab", "a/aab") if left_out(ignore, path)] == ["ab", "a.b", "a/ab"]
    assert why in fault(line)


def test_good_patterns_have_no_fault() -> None:
    assert [fault(each) for each in ("*.log", "!keep", "# remark", "", "a/**/[!b]?", "[[:alpha:]-]", "\\ ")] == [""] * 7


def test_a_text_that_is_too_long_counts_up_to_its_last_whole_line() -> None:
    rules = Rules((), b"a.b\n" + b"#" * (BYTES - 9) + b"\nabc-not-cut\n*\n")
    assert rules.faults == ["only its first 64 KiB count"]
    ignore = Ignore(rules)
    assert [path for path in (b"a.b", b"abc", b"x") if ignore.leaves_out(path, False)] == [b"a.b"]
    assert Rules((), b"#" * BYTES).faults == []


def test_so_many_patterns_count_and_so_many_faults_are_told() -> None:
    rules = Rules((), b"".join(b"n%d\n" % number for number in range(MOST + 1)))
    assert rules.faults == [f"only its first {MOST} patterns count"]
    ignore = Ignore(rules)
    assert ignore.leaves_out(b"n%d" % (MOST - 1), False)
    assert not ignore.leaves_out(b"n%d" % MOST, False)
    assert Rules((), b"[z-a]\n" * 500).faults[-1] == "and 480 more faults"


HOSTILE = {
    "stars": (b"*a" * 8 + b"b", b"a" * 200),
    "many stars": (b"*a" * 120 + b"b", b"a" * 255),
    "stars apart": (b"*" + b"?" * 127 + b"b*", b"a" * 255),
    "folders": (b"**/" + b"a/" * 200 + b"b", b"a/" * 2046 + b"a"),
    "crossing": (b"**/a/" * 40 + b"b", b"a/" * 2046 + b"a"),
    "both": (b"**/" + b"*a*a/" * 30 + b"b", b"aaaa/" * 800 + b"a"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_pattern_costs_more_than_it_is_long(kind: str) -> None:
    pattern, path = HOSTILE[kind]
    count = min(MOST, BYTES // (len(pattern) + 4))
    text = b"".join(pattern + b"%d\n" % number for number in range(count)) + pattern
    began = time.process_time()
    ignore = Ignore(Rules((), text))
    assert not ignore.below(path)
    assert not ignore.leaves_out(path, False)
    assert time.process_time() - began < 5, "it takes a fraction of a second; what goes back takes for ever"


KEPT = """AGENTS.md memory/today.md state/a.json state/state/a.sqlite state/state/a.sqlite-wal
    workspace/cache/kept workspace/logs/kept"""
OUT = """state/cache/a state/cache/deep/b state/tmp/c state/logs/a.log state/state/a.lock.sqlite a.lock.sqlite
    state/state/a.sqlite-shm"""
PATTERNS = ("state/cache/**", "state/tmp/", "state/logs/**", "**/*.lock.sqlite")


@pytest.fixture
def beneath(tmp_path: Path) -> Iterator[Beneath]:
    with Beneath(tmp_path) as made:
        yield made


def test_an_agent_leaves_out_its_caches_and_locks_and_keeps_its_state(beneath: Beneath) -> None:
    kept, out = KEPT.split(), OUT.split()
    for path in kept + out:
        (beneath.root / path).parent.mkdir(parents=True, exist_ok=True)
        (beneath.root / path).touch()
    home = Home(beneath, Ignore(Rules(PATTERNS)))
    found = {os.fsdecode(path) for path, _ in home.walk() if (beneath.root / os.fsdecode(path)).is_file()}
    assert found == set(kept)


def test_a_later_pattern_takes_an_earlier_one_back() -> None:
    assert not Ignore(Rules(["*.pid", "!gateway.pid"])).leaves_out(b"gateway.pid", False)
