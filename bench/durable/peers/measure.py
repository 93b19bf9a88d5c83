"""What every engine's script shares: the options, the 1 KB result, the checks and the one line it prints.

Standard library only, because each script runs in its engine's own venv.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_LIBC = ctypes.CDLL(None)
_NOISE = "".join(random.Random(7).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=1016))


@dataclass(frozen=True)
class Options:
    """How a script was asked to measure."""

    scenarios: list[str]
    folder: Path
    database: str
    runs: int
    steps: int
    sequential: int
    samples: int
    wal: bool
    polling: float | None
    local: bool
    server: str


def options() -> Options:
    """The command line: SCENARIO[,SCENARIO…] and what varies. From here on SIGTERM ends the script in good order."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser()
    parser.add_argument("scenarios", help="comma separated, for example aggregate,sequential,latency")
    parser.add_argument("--json", action="store_true", help="print one JSON line (always on)")
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder for the engine's files")
    parser.add_argument("--database", default="sqlite", help="sqlite, or the DSN of an empty PostgreSQL database")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--sequential", type=int, default=300)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--wal", action="store_true", help="DBOS on SQLite: force journal_mode=WAL")
    parser.add_argument("--polling", type=float, default=None, help="seconds between polls, where the engine polls")
    parser.add_argument("--local", action="store_true", help="Temporal: local activities")
    parser.add_argument("--server", default="hypercorn", help="Restate: what serves the service")
    found = parser.parse_args()
    return Options(
        scenarios=found.scenarios.split(","),
        folder=found.folder,
        database=found.database,
        runs=found.runs,
        steps=found.steps,
        sequential=found.sequential,
        samples=found.samples,
        wal=found.wal,
        polling=found.polling,
        local=found.local,
        server=found.server,
    )


def kilobyte(number: int) -> str:
    """A step's result: 1,024 characters, another one for each number, so that nothing compresses away."""
    return f"{number:08d}{_NOISE}"


def check(answers: Sequence[int], steps: int) -> None:
    """Every run must have done all of its steps: a fast wrong answer is not a figure."""
    wrong = [answer for answer in answers if answer != steps * 1024]
    if wrong or not answers:
        raise SystemExit(f"{len(wrong)} of {len(answers)} runs gave a wrong answer, for example {wrong[:3]}")


class Repeats:
    """Takes a measurement up to five times within about a second, so that one stall of the disk does not decide.

    The rule is the same for every engine: what takes a second or more is done once.
    """

    def __init__(self) -> None:
        self._taken: list[float] = []

    def wanted(self) -> bool:
        """Whether to measure once more."""
        return len(self._taken) < 5 and sum(self._taken) < 1.0

    def add(self, seconds: float) -> None:
        """One measurement."""
        self._taken.append(seconds)

    def rate(self, count: int) -> float:
        """``count`` things a second, by the median of the measurements."""
        return count / percentile(self._taken, 0.5)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: ``share`` 0.5 is the median, 0.99 the value 99 of 100 stay below."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def latency(milliseconds: Sequence[float]) -> dict[str, float]:
    """The two figures of a latency scenario."""
    return {"start_p50_ms": percentile(milliseconds, 0.5), "start_p99_ms": percentile(milliseconds, 0.99)}


def pauses(samples: int, longest: float) -> list[float]:
    """Waits between latency samples, spread so that no sample rides on a poller's phase."""
    chance = random.Random(11)
    return [chance.uniform(0, longest) for _ in range(samples)]


@contextlib.contextmanager
def process(command: list[str], log: Path, environment: dict[str, str] | None = None) -> Iterator[None]:
    """A server that is ended with the block, or with this process; what it says goes to ``log``."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=Path(__file__).resolve().parent,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_follow_parent,
        )
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _follow_parent() -> None:
    """In the child: be killed when the parent ends, however it ends (PR_SET_PDEATHSIG)."""
    _LIBC.prctl(1, int(signal.SIGKILL))


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 60) -> None:
    """Return once somebody listens on the loopback's ``port``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nobody listens on port {port} after {seconds} s")


def report(engine: str, version: str, figures: dict[str, float]) -> None:
    """The script's one line."""
    line = {"engine": engine, "version": version, **figures}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def rate(count: int, once: Callable[[], Awaitable[float]]) -> float:
    """``count`` things a second, where ``once`` does them and answers how many seconds it took."""
    repeats = Repeats()
    while repeats.wanted():
        repeats.add(await once())
    return repeats.rate(count)
