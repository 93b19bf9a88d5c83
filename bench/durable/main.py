"""Compare relit's durable engine with its peers: ``python bench/durable/main.py``.

Every round runs each engine once, in a process and a folder of its own, and every other round backwards, so that a
machine that is slow for a minute is slow for all of them. Ratios are taken inside a round; the last line printed is one
JSON object. ``QUICK=1`` keeps within 50 seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import table
import verdict
from rows import LIMITS, QUICK, ROWS, Row

from relit.testing import servers
from relit.testing.postgres import Postgres

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
VENVS = HERE.parents[1] / ".bench"
QUICK_SECONDS = 46.0  # the rest of the promised 50 is for this process itself
QUICK_GUESS = 4.0  # do not begin a script with less time left than that


class Failed(Exception):
    """An engine's script did not give its figures."""


class TooLate(Failed):
    """A script did not end in time."""


def say(text: str) -> None:
    """Progress goes to stderr, so that stdout is only the result."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def fresh_folder() -> Iterator[Path]:
    """An empty folder on the temporary directory's disk, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="relit-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def python_of(row: Row) -> str:
    """The interpreter that has the engine."""
    if row.venv is None:
        return sys.executable
    found = VENVS / row.venv / "bin" / "python"
    if not found.exists():
        raise Failed(f"{row.title} is not installed: make bench-setup")
    return str(found)


def run_script(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """Run one script and read the JSON object on its last line."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as script:
        try:
            out, errors = script.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as late:
            end(script)
            raise TooLate(f"{Path(command[1]).name} took longer than {seconds:.0f} s") from late
        except BaseException:
            end(script)
            raise
    lines = out.strip().splitlines()
    if script.returncode or not lines:
        raise Failed(f"{' '.join(command)} ended with {script.returncode}:\n{errors[-3000:]}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def end(script: subprocess.Popen[str]) -> None:
    """End a script; it gets the time to end its own servers."""
    script.terminate()
    try:
        script.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        script.kill()
        script.communicate()


def measure(row: Row, server: Postgres | None, seconds: float) -> dict[str, float]:
    """One engine once. A PostgreSQL row gets an empty database of its own."""
    with fresh_folder() as folder:
        database = "sqlite"
        if row.database == "postgres":
            if server is None:
                raise Failed(f"{row.title}: there is no PostgreSQL")
            database = server.create_database()
        script = str(PEERS / f"{row.script}_peer.py")
        place = ["--folder", str(folder), "--database", database]
        answer = run_script([python_of(row), script, row.scenarios, "--json", *place, *row.flags], seconds)
    return {name: value for name, value in answer.items() if isinstance(value, (int, float))}


@contextlib.contextmanager
def postgres() -> Iterator[Postgres | None]:
    """A PostgreSQL of our own; None, and a word about it, where none is installed."""
    try:
        server = Postgres()
    except servers.Missing as missing:
        say(f"rows on PostgreSQL are left out: {missing}")
        yield None
        return
    with server:
        yield server


def one_round(number: int, rows: Sequence[Row], server: Postgres | None) -> verdict.Round:
    """Each row once; every second round backwards."""
    found: dict[str, dict[str, float]] = {}
    for row in rows if number % 2 == 0 else list(reversed(rows)):
        found[row.key] = told(number, row, server, 600)
    return found


def told(number: int, row: Row, server: Postgres | None, seconds: float) -> dict[str, float]:
    """Measure a row and say what it gave."""
    begin = time.monotonic()
    figures = measure(row, server, seconds)
    text = ", ".join(f"{name} {value:,.1f}" for name, value in figures.items())
    say(f"round {number + 1} · {row.title}: {text}  ({time.monotonic() - begin:.1f} s)")
    return figures


def limits(quick: bool, seconds: float) -> dict[str, Any]:
    """relit's own limits: waiting runs, CPU for a step, replay, growth."""
    script = str(PEERS / "relit_limits.py")
    with fresh_folder() as folder:
        flags = ["--folder", str(folder), *(["--quick"] if quick else [])]
        return run_script([sys.executable, script, *flags], seconds)


def machine() -> dict[str, Any]:
    """What the figures depend on, for whoever compares two runs."""
    with fresh_folder() as folder, (folder / "probe").open("wb") as probe:
        taken = []
        for _ in range(50):
            probe.write(b"x" * 4096)
            probe.flush()
            begin = time.perf_counter()
            os.fsync(probe.fileno())
            taken.append((time.perf_counter() - begin) * 1000)
    return {"cores": os.cpu_count(), "python": sys.version.split()[0], "fsync_p50_ms": round(sorted(taken)[25], 3)}


def full(rounds: int, only: Sequence[str]) -> tuple[list[verdict.Round], dict[str, Any]]:
    """Every row in every round, then the limits."""
    rows = [row for row in ROWS if not only or row.key in only]
    with postgres() as server:
        able = [row for row in rows if server is not None or row.database == "sqlite"]
        done = [one_round(number, able, server) for number in range(rounds)]
    return done, limits(False, 3600) if not only or LIMITS in only else {}


def quick(until: float) -> tuple[list[verdict.Round], dict[str, Any]]:
    """What ``rows.QUICK`` lists, in that order.

    Whatever would not be done before ``until`` is left out, and its figures are null.
    """
    rounds: list[dict[str, dict[str, float]]] = [{}, {}]
    found: dict[str, Any] = {}
    known = {row.key: row for row in ROWS}
    with postgres() as server:
        for place, key in enumerate(QUICK):
            number, left = int(key in QUICK[:place]), until - time.monotonic()
            try:
                if left < QUICK_GUESS:
                    raise TooLate(f"only {left:.1f} s left")
                if key == LIMITS:
                    found = limits(True, left)
                elif server is not None or known[key].database == "sqlite":
                    rounds[number][key] = told(number, known[key], server, left)
            except TooLate as late:
                say(f"round {number + 1} · {key}: left out, {late}")
    return [each for each in rounds if each], found


def options() -> argparse.Namespace:
    """The command line; ``QUICK=1`` in the environment is ``--quick``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", default=os.environ.get("QUICK", "") not in ("", "0"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="row keys, comma separated; limits: relit's own")
    return parser.parse_args()


def main() -> int:
    """Measure, print, and exit 0 unless a script failed: a missed promise is a result, not an error."""
    asked = options()
    begin = time.monotonic()
    try:
        if asked.quick:
            rounds, found = quick(begin + QUICK_SECONDS)
        else:
            rounds, found = full(asked.rounds, asked.only.split(",") if asked.only else [])
    except Failed as error:
        say(f"error: {error}")
        return 1
    curve = found.pop("growth", None)
    result: dict[str, Any] = dict(verdict.summary(rounds, found))
    print(table.engines(ROWS, verdict.medians(rounds)), end="\n\n")
    print(table.promises(result), end="\n\n")
    result |= {"growth": curve, "raw": verdict.medians(rounds), "rounds": len(rounds), "quick": asked.quick}
    result |= {"machine": machine(), "seconds": round(time.monotonic() - begin, 1)}
    VENVS.mkdir(exist_ok=True)
    (VENVS / "durable.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
