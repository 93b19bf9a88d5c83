"""earlyoom beside the same ten agents and the same hog.

It looks at the whole machine, and not at a cgroup that plays one. So it is told to act when as much memory is available
as at the moment when the small machine has a tenth left: its default. A PID namespace shows it nobody but the agents.
``earlyoom.py LIMIT ROUNDS HOLDS_MB OOM_CONTROL`` runs in there, and prints what came of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve()
PROGRAM = HERE.parent.parent.parent / ".bench" / "earlyoom" / "usr" / "bin" / "earlyoom"
PROGRAMS = HERE.with_name("programs.py")
LEFT = 0.1  # of the machine: where it acts by default, by TERM; by KILL at the half
HOG_S = 20.0
FIRST = 500  # the hog's oom_score_adj: whom to take is not left to chance


def command(limit: int, rounds: int, holds_mb: int, oom_control: Path) -> list[str] | None:
    """``None``: it is not installed."""
    if not PROGRAM.exists():
        return None
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*alone, sys.executable, "-I", *map(str, (HERE, limit, rounds, holds_mb, oom_control))]


class Arena:
    """Ten agents and earlyoom."""

    def __init__(self, limit: int, holds_mb: int, oom_control: Path) -> None:
        self._holds_mb = holds_mb
        self._control = oom_control
        self.agents = [self._hold() for _ in range(10)]
        time.sleep(2)
        full_kb = _available_kb() - (limit >> 10) + 10 * (holds_mb << 10)
        floors = [full_kb + int(left * limit) // 1024 for left in (LEFT, LEFT / 2)]
        words = [PROGRAM, "-M", ",".join(map(str, floors)), "-s", "100", "-r", "0"]
        self._watch = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        assert self._watch.poll() is None, "earlyoom runs"

    def _hold(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-I", str(PROGRAMS), "hold", str(self._holds_mb)])

    def oom_kills(self) -> int:
        """Of the kernel, so far."""
        return int(dict(line.split() for line in self._control.read_text().splitlines())["oom_kill"])

    def round(self) -> tuple[bool, int]:
        """(whether the hog alone was ended, and not by the kernel; agents lost)."""
        before = self.oom_kills()
        hog = subprocess.Popen([sys.executable, "-I", str(PROGRAMS), "hog"], preexec_fn=_first, stderr=-3)
        try:
            hog.wait(HOG_S)
            ended = True
        except subprocess.TimeoutExpired:
            hog.kill()
            hog.wait()
            ended = False
        time.sleep(0.5)
        lost = [at for at, each in enumerate(self.agents) if each.poll() is not None]
        for at in lost:
            self.agents[at] = self._hold()
        return ended and not lost and self.oom_kills() == before, len(lost)

    def end(self) -> None:
        """All of it."""
        for each in (*self.agents, self._watch):
            each.kill()
            each.wait()


def _first() -> None:
    Path("/proc/self/oom_score_adj").write_text(str(FIRST))


def _available_kb() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def main(limit: int, rounds: int, holds_mb: int, oom_control: Path) -> None:
    """Its JSON is the last line."""
    arena = Arena(limit, holds_mb, oom_control)
    found = [arena.round() for _ in range(rounds)]
    kills = arena.oom_kills()
    arena.end()
    print(json.dumps({
        "earlyoom_oom_kills": kills, "earlyoom_protected_lost": sum(lost for _, lost in found),
        "earlyoom_right_victim": sum(right for right, _ in found) / rounds,
    }))  # fmt: skip


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    main(*map(int, sys.argv[1:4]), Path(sys.argv[4]))
