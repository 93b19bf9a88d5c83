"""Files that are written through memory: told while they are mapped, and as closed afterwards."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest
from mapper import mapped

from relit.volumes.base import Changes, Watch
from relit.volumes.watch.maps import Mappings


def real(home: Path) -> bytes:
    return os.fsencode(home.resolve())


@pytest.fixture(params=[True, False], ids=["query", "text"])
def mappings(request: pytest.FixtureRequest) -> Mappings:
    """Asked as new kernels allow it, and read as text."""
    return Mappings(queries=request.param)


def test_a_store_through_memory_gives_no_event_but_its_file_is_known(watch: Watch, home: Path) -> None:
    with mapped(home / "notes") as other:
        watch.drain()
        other.store()
        assert watch.drain() == Changes()
        assert watch.mapped() == {b"notes"}


def test_a_mapping_that_is_gone_has_told_its_file_as_closed(watch: Watch, home: Path) -> None:
    with mapped(home / "notes") as other:
        other.store()
        watch.drain()
    assert watch.mapped() == frozenset()
    assert watch.drain() == Changes(closed=frozenset({b"notes"}))


@pytest.mark.parametrize("access", ["private", "read"])
def test_mappings_that_write_no_file_are_left_out(mappings: Mappings, home: Path, access: str) -> None:
    with mapped(home / "notes", access):
        assert mappings.below(real(home)) == frozenset()


@pytest.mark.parametrize("name", [b"a b", b"new\nline", b"\\012", b"\xff\xfe", b"x (deleted)", b"tab\t\\n"])
def test_odd_names_are_told_as_they_are(mappings: Mappings, home: Path, name: bytes) -> None:
    path = home / "src" / os.fsdecode(name)
    path.write_text("1")
    with mapped(path):
        assert mappings.below(real(home)) == {b"src/" + name}


def test_a_removed_file_is_left_out(mappings: Mappings, home: Path) -> None:
    with mapped(home / "notes"):
        (home / "notes").unlink()
        assert mappings.below(real(home)) == frozenset()


def test_a_renamed_file_is_told_at_its_place(mappings: Mappings, home: Path) -> None:
    with mapped(home / "src" / "deep" / "code.py"):
        (home / "src").rename(home / "lib")
        assert mappings.below(real(home)) == {b"lib/deep/code.py"}


def test_only_the_processes_that_are_named_are_asked(mappings: Mappings, home: Path) -> None:
    with mapped(home / "notes") as other:
        assert mappings.below(real(home), pids=[os.getpid()]) == frozenset()
        assert mappings.below(real(home), pids=[other.process.pid, 2**22]) == {b"notes"}


def test_many_mappings_of_one_process_are_all_told(mappings: Mappings, home: Path) -> None:
    held = []
    for number in range(50):
        with open(home / str(number), "w+b") as file:
            file.truncate(4096)
            held.append(mmap.mmap(file.fileno(), 0))
    assert mappings.below(real(home), pids=[os.getpid()]) == {b"%d" % number for number in range(50)}
    for each in held:
        each.close()


def test_a_home_behind_a_symlink_is_meant_by_its_real_path(mappings: Mappings, home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    with mapped(home / "notes"):
        assert mappings.below(real(tmp_path / "link")) == {b"notes"}


def test_a_home_that_is_not_there_has_nothing_mapped(mappings: Mappings, tmp_path: Path) -> None:
    assert mappings.below(b"") == frozenset()


def test_a_home_that_is_mounted_elsewhere_for_its_process_is_found(
    mappings: Mappings, home: Path, tmp_path: Path
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    if os.geteuid() != 0 and os.environ.get("CI") != "true":
        pytest.skip("needs root to mount")
    mount = ["unshare", "--mount", "sh", "-c", f'mount --bind {home} {inside} && exec "$@"', "sh"]
    with mapped(inside / "src" / "deep" / "code.py", "write", *mount) as other:
        assert mappings.below(real(home), pids=[other.process.pid]) == {b"src/deep/code.py"}
        assert mappings.below(real(home / "other")) == frozenset()


def test_all_processes_are_asked_but_for_the_kernels_own(mappings: Mappings, home: Path) -> None:
    with mapped(home / "notes") as other:
        first, again = mappings._processes(), mappings._processes()
        assert {os.getpid(), other.process.pid} <= set(first) & set(again)
        for (pid, _), thread in mappings._processes_met.items():
            assert not thread or Path(f"/proc/{pid}/maps").read_bytes() == b""
    assert other.process.pid not in mappings._processes()


def test_a_process_that_has_the_number_of_a_kernel_thread_that_ended_is_asked(mappings: Mappings, home: Path) -> None:
    with mapped(home / "notes") as other:
        mappings._processes_met[other.process.pid, os.stat(f"/proc/{other.process.pid}").st_ino + 1] = True
        assert mappings.below(real(home)) == {b"notes"}
