"""What ``relit node setup-swap`` would do, and that it does it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from relit.app import swap
from relit.errors import Conflict, RelitError

NONE = "Filename\tType\tSize\tUsed\tPriority\n"


def test_a_file_takes_five_steps_and_four_when_it_is_in_fstab(tmp_path: Path) -> None:
    path = tmp_path / "swap"
    steps = swap.file_steps(path, 1 << 20, swaps=NONE, fstab="")
    assert [each.shown.split()[0] for each in steps] == ["fallocate", "chmod", "mkswap", "swapon", "echo"]
    assert len(swap.file_steps(path, 1 << 20, swaps=NONE, fstab=f"{path} none swap\n")) == 4


def test_another_file_of_a_longer_name_is_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "swap"
    for fstab in (f"{path}2 none swap\n", f"# {path}\n", f"UUID=1 {path} ext4\n\n"):
        assert len(swap.file_steps(path, 1 << 20, swaps=NONE, fstab=fstab)) == 5


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    for ask in (lambda: swap.default_size(tmp_path / "no"), lambda: _steps(tmp_path / "no" / "swap")):
        with pytest.raises(RelitError, match="no swap file can lie in") as told:
            ask()
        assert told.value.fix == f"mkdir -p {tmp_path / 'no'}"


def _steps(path: Path) -> list[swap.Step]:
    return swap.file_steps(path, 1, swaps=NONE, fstab="")


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "swap"
    with pytest.raises(Conflict, match="swap already"):
        swap.file_steps(path, 1, swaps=f"{NONE}{path} file 8 0 -2\n", fstab="")
    path.touch()
    with pytest.raises(Conflict, match="there already"):
        swap.file_steps(path, 1, swaps=NONE, fstab="")


def test_without_room_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(RelitError, match="no room"):
        swap.file_steps(tmp_path / "swap", 1 << 60, swaps=NONE, fstab="")


def test_zram_is_set_up_once() -> None:
    steps = swap.zram_steps(1 << 30, swaps=NONE)
    assert steps[-1].shown == "swapon -p 100 /dev/zram0"
    with pytest.raises(Conflict):
        swap.zram_steps(1 << 30, swaps=f"{NONE}/dev/zram0 partition 8 0 100\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="root")
def test_a_step_that_fails_says_what_was_done_before(tmp_path: Path) -> None:
    done, fails = swap.Step(what="", argv=["true"]), swap.Step(what="", argv=["mkswap", str(tmp_path / "missing")])
    with pytest.raises(RelitError, match="did not go well") as told:
        swap.perform([done, fails])
    assert "done so far: true" in told.value.fix


@pytest.mark.skipif(os.geteuid() != 0, reason="root")
def test_it_is_switched_on(tmp_path: Path) -> None:
    path, fstab = tmp_path / "swap", tmp_path / "fstab"
    steps = [each for each in swap.file_steps(path, 8 << 20, swaps=NONE, fstab="") if each.argv]
    steps.append(swap.Step(what="", to=str(fstab), text="x\n", append=True))
    try:
        swap.perform(steps)
    except RelitError as error:
        if "swapon" not in str(error):
            raise
        pytest.skip("no swap can be switched on here")
    try:
        assert str(path) in Path("/proc/swaps").read_text()
        assert fstab.read_text() == "x\n"
    finally:
        subprocess.run(["swapoff", path], check=True)
