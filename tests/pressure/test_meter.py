from __future__ import annotations

from pathlib import Path

import pytest

from relit.pressure.admission import Room
from relit.pressure.footprint import MB
from relit.pressure.meter import Meter, cores


def machine(root: Path, total_mb: int, free_mb: int, cgroup: str = "") -> None:
    (root / "proc/self").mkdir(parents=True)
    text = f"MemTotal: {total_mb << 10} kB\nMemFree: 1 kB\nMemAvailable: {free_mb << 10} kB\nHugePages_Total: 0\n"
    (root / "proc/meminfo").write_text(text)
    (root / "proc/self/cgroup").write_text(cgroup)


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_without_a_limit_it_is_the_machines(tmp_path: Path) -> None:
    machine(tmp_path, 16_000, 9_000, "0::/user.slice\n")
    group(tmp_path / "sys/fs/cgroup/user.slice", memory__max="max", memory__current=MB)
    assert Meter(tmp_path).room() == Room(16_000 * MB, 9_000 * MB)


def test_in_a_container_it_is_the_containers(tmp_path: Path) -> None:
    machine(tmp_path, 16_000, 9_000, "0::/docker/one\n")
    group(tmp_path / "sys/fs/cgroup/docker", memory__max=4_000 * MB, memory__current=3_000 * MB)
    group(tmp_path / "sys/fs/cgroup/docker", memory__stat=f"anon 5\ninactive_file {400 * MB}\nswapcached {100 * MB}")
    group(tmp_path / "sys/fs/cgroup/docker/one", memory__max="max", memory__current=MB)
    assert Meter(tmp_path).room() == Room(4_000 * MB, 1_500 * MB)


def test_the_older_kind_of_cgroups_counts_too(tmp_path: Path) -> None:
    machine(tmp_path, 16_000, 9_000, "5:cpu:/\n4:memory:/box\n0::/\n")
    place = tmp_path / "sys/fs/cgroup/memory/box"
    group(place, memory__limit_in_bytes=2_000 * MB, memory__usage_in_bytes=500 * MB)
    group(place, memory__stat=f"cache 7\ntotal_inactive_file {60 * MB}\ntotal_swapcached {40 * MB}")
    group(place.parent, memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=MB)
    assert Meter(tmp_path).room() == Room(2_000 * MB, 1_600 * MB)


def test_what_is_in_swap_already_is_free(tmp_path: Path) -> None:
    machine(tmp_path, 16_000, 9_000)
    with (tmp_path / "proc/meminfo").open("a") as file:
        file.write(f"SwapCached: {500 << 10} kB\n")
    assert Meter(tmp_path).room() == Room(16_000 * MB, 9_500 * MB)


def test_the_tightest_counts(tmp_path: Path) -> None:
    machine(tmp_path, 16_000, 200, "0::/a\n")
    group(tmp_path / "sys/fs/cgroup/a", memory__max=4_000 * MB, memory__current=0)
    assert Meter(tmp_path).room() == Room(16_000 * MB, 200 * MB)


@pytest.mark.parametrize("cgroup", ["", "0::/gone\n", "3:memory:/gone\n"])
def test_what_is_not_there_limits_nothing(tmp_path: Path, cgroup: str) -> None:
    machine(tmp_path, 16_000, 9_000, cgroup)
    assert Meter(tmp_path).room() == Room(16_000 * MB, 9_000 * MB)


def test_it_works_here() -> None:
    room = Meter().room()
    assert 0 < room.free <= room.capacity


@pytest.mark.parametrize(
    ("cgroup", "place", "files", "cpus"),
    [
        ("0::/box\n", "box", {"cpu__max": "150000 100000"}, 2),
        ("0::/box\n", "", {"cpu__max": "50000 100000"}, 1),
        ("0::/box\n", "box", {"cpu__max": "max 100000"}, 64),
        (
            "3:cpu,cpuacct:/box\n0::/\n",
            "cpu,cpuacct/box",
            {"cpu__cfs_quota_us": 300000, "cpu__cfs_period_us": 100000},
            3,
        ),
        ("3:cpu,cpuacct:/\n", "cpu,cpuacct", {"cpu__cfs_quota_us": -1, "cpu__cfs_period_us": 100000}, 64),
        ("", "", {}, 64),
    ],
)
def test_as_many_cpus_as_its_container_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, place: str, files: dict[str, object], cpus: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    machine(tmp_path, 16_000, 9_000, cgroup)
    group(tmp_path / "sys/fs/cgroup" / place, **files)
    assert cores(tmp_path) == cpus


def test_no_more_cpus_than_it_may_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {7})
    assert cores() == 1
