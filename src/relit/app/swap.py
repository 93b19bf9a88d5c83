"""Swap for agents that are frozen: what would be done, and doing it. Nothing is switched on unasked."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from relit.errors import Conflict, RelitError

FSTAB = Path("/etc/fstab")
ZRAM = Path("/sys/block/zram0")
_PAGE_IT = "none swap defaults,nofail 0 0"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A command, or ``text`` that is written (``append``: added) to the file ``to``; and what for."""

    what: str
    argv: list[str] = []
    to: str = ""
    text: str = ""
    append: bool = False

    @property
    def shown(self) -> str:
        """As a person would type it."""
        if self.argv:
            return " ".join(self.argv)
        return f"echo '{self.text.strip()}' {'>>' if self.append else '>'} {self.to}"


def default_size(folder: Path) -> int:
    """As much as there is memory, or half of what is free on the disk where that is less. RelitError: no folder."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(total, _free(folder) // 2)


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise RelitError(
            f"no swap file can lie in {folder}", why=error.strerror or str(error), fix=f"mkdir -p {folder}"
        ) from error


def file_steps(path: Path, size: int, *, swaps: str, fstab: str) -> list[Step]:
    """A file on a disk. Conflict: it is swap already. RelitError: there is no room."""
    if any(line.split()[0] == str(path) for line in swaps.splitlines()[1:]):
        raise Conflict(f"{path} is swap already", why="/proc/swaps lists it", fix="choose another one: --file PATH")
    if path.exists():
        raise Conflict(f"{path} is there already", why="it is not overwritten", fix="choose another one: --file PATH")
    free = _free(path.parent)
    if size > free:
        raise RelitError(f"there is no room for {size} bytes of swap", why=f"{free} are free", fix="a smaller --size")
    steps = [
        Step(what="room on the disk", argv=["fallocate", "-l", str(size), str(path)]),
        Step(what="nobody else reads it", argv=["chmod", "600", str(path)]),
        Step(what="its header", argv=["mkswap", str(path)]),
        Step(what="from now on", argv=["swapon", str(path)]),
    ]
    if str(path) not in {line.split()[0] for line in fstab.splitlines() if line.strip()}:
        steps.append(Step(what="after a reboot, too", to=str(FSTAB), text=f"{path} {_PAGE_IT}\n", append=True))
    return steps


def zram_steps(size: int, *, swaps: str) -> list[Step]:
    """Compressed memory: holds about three times as much as it takes. Conflict: it is in use."""
    if "/dev/zram0" in swaps:
        raise Conflict("/dev/zram0 is swap already", why="/proc/swaps lists it", fix="relit node")
    load = [] if ZRAM.exists() else [Step(what="the kernel's module", argv=["modprobe", "zram"])]
    return [
        *load,
        Step(what="how much it may hold, before it is compressed", to=str(ZRAM / "disksize"), text=f"{size}\n"),
        Step(what="its header", argv=["mkswap", "/dev/zram0"]),
        Step(what="from now on, until a reboot", argv=["swapon", "-p", "100", "/dev/zram0"]),
    ]


def perform(steps: Sequence[Step]) -> None:
    """One after the other. RelitError: one did not go well; what was done before it stays, and is said."""
    if os.geteuid() != 0:
        raise RelitError("swap is root's to switch on", why="this is another user", fix="the same with sudo")
    for number, step in enumerate(steps):
        try:
            _perform(step)
        except OSError as error:
            done = "; ".join(each.shown for each in steps[:number]) or "nothing"
            raise RelitError(f"{step.shown}: it did not go well", why=str(error), fix=f"done so far: {done}") from error


def _perform(step: Step) -> None:
    """OSError."""
    if step.argv:
        done = subprocess.run(step.argv, capture_output=True, text=True)
        if done.returncode:
            raise OSError(done.stderr.strip() or f"exit code {done.returncode}")
        return
    with open(step.to, "a" if step.append else "w", encoding="utf-8") as file:
        file.write(step.text)
