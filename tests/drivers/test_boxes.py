"""Boxes before they are made: what is seen in them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from driver_house import ENV
from hypothesis import given
from hypothesis import strategies as st

from relit.control.box import Box, Limits
from relit.drivers.base import Exit, Launch
from relit.drivers.boxed import boxed, settle
from relit.drivers.machine import Found
from relit.drivers.sandbox import limited, view, wrap
from relit.drivers.tenant import told
from relit.errors import ConfigError, StartFailed

ABLE = Found(bwrap="/bin/bwrap", works=True, pids=True, network=True, landlock=4, prlimit="/bin/prlimit", python="py")
DATA = "/data"
BOX = Box(home="/data/agents/a/home", tmp="/data/agents/a/tmp", read=["/data/runtimes/x"], hide=[DATA])


def places(words: list[str]) -> list[tuple[str, str]]:
    """(what is done, where) of a command, in order."""
    takes = {"--ro-bind": 2, "--bind": 2, "--tmpfs": 1, "--remount-ro": 1}
    return [(word, words[at + takes[word]]) for at, word in enumerate(words) if word in takes]


def test_what_is_hidden_comes_before_what_is_shown_in_it() -> None:
    words = wrap(["agent"], BOX, ABLE)
    assert places(words) == [
        ("--ro-bind", "/"),
        ("--tmpfs", "/run"),
        ("--tmpfs", "/data"),
        ("--bind", "/tmp"),
        ("--bind", "/var/tmp"),
        ("--ro-bind", "/data/runtimes/x"),
        ("--bind", "/data/agents/a/home"),
        ("--remount-ro", "/run"),
        ("--remount-ro", "/data"),
    ]
    assert words[-3:] == ["/", "--", "agent"]


def test_an_agent_outlives_whoever_started_it() -> None:
    assert "--die-with-parent" not in wrap(["agent"], BOX, ABLE)


def test_root_gives_up_its_rights_and_the_kernels_settings() -> None:
    words = wrap(["agent"], BOX, msgspec.structs.replace(ABLE, root=True))
    assert words[words.index("--cap-drop") + 1] == "ALL"
    assert words.index("--proc") < words.index("/proc/sys")
    assert "--cap-drop" not in wrap(["agent"], BOX, ABLE)


@pytest.mark.parametrize(
    ("path", "behind"),
    [
        ("/usr/bin/sh", "/usr/bin/sh"),
        ("/data", None),
        ("/data/token", None),
        ("/data/agents/b/home", None),
        ("/data/agents/a/home", "/data/agents/a/home"),
        ("/data/agents/a/home/deep/file", "/data/agents/a/home/deep/file"),
        ("/data/agents/a/homeless", None),
        ("/data/runtimes/x/bin", "/data/runtimes/x/bin"),
        ("/tmp/file", "/data/agents/a/tmp/file"),
        ("/var/tmp", "/data/agents/a/tmp"),
        ("/run/docker.sock", None),
    ],
)
def test_a_path_inside_is_that_file_outside(path: str, behind: str | None) -> None:
    assert view(BOX, ABLE).behind(path) == behind


def test_what_is_out_of_sight_already_is_not_hidden_again() -> None:
    box = msgspec.structs.replace(BOX, hide=["/data", "/data/runtimes", "/data/runtimes/x/secret", "/run/user"])
    hidden = [part.path for part in view(box, ABLE).parts if part.kind == "hidden"]
    assert hidden == ["/run", "/data", "/data/runtimes/x/secret"]


def test_a_hidden_file_is_masked() -> None:
    box = msgspec.structs.replace(BOX, hide=["/etc/shadow", "/data", "/data/token"])
    assert view(box, ABLE, {"/etc/shadow", "/data/token"}).behind("/etc/shadow") is None
    words = wrap(["agent"], box, ABLE, files={"/etc/shadow", "/data/token"})
    assert words[words.index("/dev/null") :][:2] == ["/dev/null", "/etc/shadow"]
    assert "/data/token" not in words  # its folder is hidden


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))
PATHS = st.lists(NAMES, max_size=4)


@given(read=PATHS, write=PATHS, hide=PATHS, path=NAMES)
def test_the_deepest_part_counts(read: list[str], write: list[str], hide: list[str], path: str) -> None:
    box = Box(home="/home", tmp="/own", read=read, write=write, hide=hide)
    above = [path[:end] for end in range(len(path), 0, -1) if path[end:][:1] in ("", "/")]
    deepest = next((part for part in above if part in {*read, *write, *hide}), None)
    shown = deepest is None or deepest in {*read, *write}
    assert view(box, ABLE).behind(path) == (path if shown else None)


# --- what the machine cannot do ------------------------------------------------------------------------------------


def test_without_bubblewrap_nothing_is_started_unprotected() -> None:
    with pytest.raises(ConfigError, match="not installed") as refused:
        wrap(["agent"], BOX, Found(why="bubblewrap is not installed"))
    assert "apt-get install bubblewrap" in refused.value.fix


def test_a_box_without_its_namespaces_is_refused() -> None:
    for lacking in (msgspec.structs.replace(ABLE, pids=False), msgspec.structs.replace(ABLE, network=False)):
        with pytest.raises(ConfigError):
            wrap(["agent"], msgspec.structs.replace(BOX, network=False), lacking)
    open_box = msgspec.structs.replace(BOX, pids=False)
    assert "--unshare-pid" not in wrap(["agent"], open_box, msgspec.structs.replace(ABLE, pids=False))


def test_ports_are_fenced_where_the_kernel_can() -> None:
    box = msgspec.structs.replace(BOX, ports=[8080, 0], connect=[])
    words = wrap(["agent"], box, ABLE)
    assert words[:3] == ["py", "-I", "-S"]
    assert words[4 : words.index("--")] == ["--bind", "8080,0", "--connect", ""]
    assert wrap(["agent"], box, msgspec.structs.replace(ABLE, landlock=3))[0] == "/bin/bwrap"
    assert wrap(["agent"], msgspec.structs.replace(box, network=False), ABLE)[0] == "/bin/bwrap"
    assert wrap(["agent"], BOX, ABLE)[0] == "/bin/bwrap"


def test_the_machine_tells_what_it_does_not_enforce() -> None:
    said = "\n".join(msgspec.structs.replace(ABLE, version="0.8.0").told())
    assert "bubblewrap 0.8.0" in said
    assert "not enforced" not in said
    assert "ports: not enforced (the kernel has no Landlock)" in "\n".join(
        msgspec.structs.replace(ABLE, landlock=0).told()
    )
    assert "Landlock 3 knows no ports" in "\n".join(msgspec.structs.replace(ABLE, landlock=3).told())
    assert Found(why="bubblewrap is not installed").told() == ["sandboxes: none (bubblewrap is not installed)"]


def test_limits_are_named_to_prlimit() -> None:
    assert limited(["agent"], None, ABLE) == ["agent"]
    assert limited(["agent"], Limits(nofile=64), ABLE) == ["/bin/prlimit", "--nofile=64", "--core=0", "--", "agent"]
    with pytest.raises(ConfigError, match="prlimit"):
        limited(["agent"], Limits(), Found())


@pytest.mark.parametrize(
    ("bwraps", "programs"),
    [
        (Exit(code=0), Exit(code=0)),
        (Exit(code=128), Exit(code=128)),
        (Exit(code=143), Exit(signal=15)),
        (Exit(code=192), Exit(signal=64)),
        (Exit(code=193), Exit(code=193)),
        (Exit(signal=9), Exit(signal=9)),
        (Exit(), Exit()),
    ],
)
def test_the_end_of_a_program_is_told_by_bubblewrap(bwraps: Exit, programs: Exit) -> None:
    assert told(bwraps) == programs


# --- hostile and missing paths -------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Box:
    for name in ("home", "tmp", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    return Box(home=str(tmp_path / "home"), tmp=str(tmp_path / "tmp"))


@pytest.mark.parametrize(
    ("field", "path", "why"),
    [
        ("home", "{}/link", "symbolic link"),
        ("home", "{}/link/", "symbolic link"),
        ("tmp", "{}/link", "symbolic link"),
        ("home", "{}/file", "not a folder"),
        ("home", "home", "not an absolute path"),
        ("home", "/", "root of all files"),
        ("write", "{}/missing", "does not exist"),
        ("write", "/../", "root of all files"),
        ("hide", "/usr/..", "root of all files"),
        ("read", "/bin\0/sh", "not an absolute path"),
    ],
)
def test_a_wrong_path_is_refused_with_its_reason(own: Box, tmp_path: Path, field: str, path: str, why: str) -> None:
    named = path.format(tmp_path)
    wrong = msgspec.structs.replace(own, **{field: named if field in ("home", "tmp") else [named]})
    with pytest.raises(ConfigError, match=field) as refused:
        settle(wrong, ABLE)
    assert why in refused.value.why
    assert refused.value.fix


def test_what_is_not_there_is_neither_read_nor_hidden(own: Box, tmp_path: Path) -> None:
    missing, there = f"{tmp_path}/missing", f"{tmp_path}/other"
    found = settle(msgspec.structs.replace(own, read=[missing, there], hide=[there, missing]), ABLE)
    assert missing not in found.read
    assert there in found.read
    assert found.hide == [there]


def test_links_are_followed_to_what_they_mean(own: Box, tmp_path: Path) -> None:
    settled = settle(msgspec.structs.replace(own, read=[f"{tmp_path}/link"], hide=[f"{tmp_path}/link"]), ABLE)
    assert settled.hide == [f"{tmp_path}/other"]
    assert f"{tmp_path}/other" in settled.read


def test_a_home_below_a_link_is_its_real_folder(own: Box, tmp_path: Path) -> None:
    (tmp_path / "other" / "home").mkdir()
    assert settle(msgspec.structs.replace(own, home=f"{tmp_path}/link/home"), ABLE).home == f"{tmp_path}/other/home"


def launch(box: Box, **fields: object) -> Launch:
    return Launch(**({"key": "k", "name": "a", "argv": ["sh"], "env": ENV, "box": box} | fields))  # type: ignore[arg-type]


def test_what_cannot_be_seen_inside_is_not_started(own: Box, tmp_path: Path) -> None:
    (tmp_path / "other" / "agent").write_text("#!/bin/sh\n")
    (tmp_path / "other" / "agent").chmod(0o755)
    agent, hiding = f"{tmp_path}/other/agent", msgspec.structs.replace(own, hide=[f"{tmp_path}/other"])
    shown = msgspec.structs.replace(hiding, read=[agent])
    assert boxed(launch(shown, argv=[agent]), ABLE).argv[-1] == agent
    for wrong in (
        launch(hiding, argv=[agent]),
        launch(hiding, argv=["agent"], env={"PATH": f"{tmp_path}/other"}),
        launch(own, argv=[str(tmp_path / "file")]),
        launch(own, argv=[]),
        launch(hiding, cwd=f"{tmp_path}/other"),
        launch(own, cwd="/tmp/missing"),
    ):
        with pytest.raises(StartFailed):
            boxed(wrong, ABLE)


def test_a_folder_of_the_private_tmp_may_be_worked_in(own: Box, tmp_path: Path) -> None:
    (tmp_path / "tmp" / "here").mkdir()
    ready = boxed(launch(own, cwd="/tmp/here"), ABLE)
    assert (ready.cwd, ready.argv[-4:]) == ("/", ["--chdir", "/tmp/here", "--", "sh"])
