"""DBOS: plain workflows and steps that return 1 KB, on SQLite or PostgreSQL.

Plain functions on DBOS's threads, not its async ones: they were the faster of the two.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import measure
import sqlalchemy as sa
from dbos import DBOS, DBOSConfig


class Starts:
    """When each noted workflow began."""

    def __init__(self) -> None:
        self.moments: dict[int, float] = {}
        self.changed = threading.Condition()

    def note(self, number: int) -> None:
        """Called by the workflow's first line."""
        moment = time.perf_counter()
        with self.changed:
            self.moments[number] = moment
            self.changed.notify_all()

    def wait(self, number: int) -> float:
        """The moment at which workflow ``number`` began."""
        with self.changed:
            if not self.changed.wait_for(lambda: number in self.moments, timeout=30):
                raise SystemExit(f"workflow {number} did not start within 30 s")
            return self.moments[number]


starts = Starts()


@DBOS.step()
def work(number: int) -> str:
    """One step with a 1 KB result."""
    return measure.kilobyte(number)


@DBOS.workflow()
def job(steps: int) -> int:
    """Steps one after the other; answers how many bytes they gave."""
    return sum(len(work(number)) for number in range(steps))


@DBOS.workflow()
def note(number: int) -> None:
    """Records the moment at which it starts."""
    starts.note(number)


def config(options: measure.Options) -> DBOSConfig:
    """DBOS as it comes, on the database asked for."""
    url = options.database
    if url == "sqlite":
        url = f"sqlite:///{options.folder}/dbos.sqlite"
    return {"name": "bench", "system_database_url": url, "log_level": "ERROR", "console_log_level": "ERROR"}


def force_wal(options: measure.Options) -> None:
    """The journal mode is kept in the file: set it before DBOS opens it."""
    engine = sa.create_engine(f"sqlite:///{options.folder}/dbos.sqlite")
    with engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar()
    engine.dispose()
    if mode != "wal":
        raise SystemExit(f"SQLite answered journal mode {mode}, not wal")


def run_many(runs: int, steps: int) -> float:
    """Seconds from the first start to the last result."""
    begin = time.perf_counter()
    handles = [DBOS.start_workflow(job, steps) for _ in range(runs)]
    answers = [handle.get_result() for handle in handles]
    seconds = time.perf_counter() - begin
    measure.check(answers, steps)
    return seconds


def run_one(steps: int) -> float:
    """Seconds for one run, called directly: no queue, no polling for its result."""
    begin = time.perf_counter()
    answer = job(steps)
    seconds = time.perf_counter() - begin
    measure.check([answer], steps)
    return seconds


def rate(count: int, once: Callable[[], float]) -> float:
    """``count`` things a second, where ``once`` does them and answers how many seconds it took."""
    repeats = measure.Repeats()
    while repeats.wanted():
        repeats.add(once())
    return repeats.rate(count)


def start_latency(samples: int, polling: float | None) -> dict[str, float]:
    """Milliseconds from enqueue to the workflow's first line."""
    extra: dict[str, Any] = {} if polling is None else {"polling_interval_sec": polling}
    DBOS.register_queue("bench", **extra)
    DBOS.enqueue_workflow("bench", note, -1)  # returns once DBOS has noticed the new queue
    starts.wait(-1)
    taken = []
    for number, pause in enumerate(measure.pauses(samples, 1.0 if polling is None else 0.05)):
        time.sleep(pause)
        begin = time.perf_counter()
        DBOS.enqueue_workflow("bench", note, number)
        taken.append((starts.wait(number) - begin) * 1000)
    return measure.latency(taken)


def main(options: measure.Options) -> dict[str, float]:
    """The figures of the scenarios asked for, after a short run that warms everything up."""
    figures: dict[str, float] = {}
    run_many(5 if options.scenarios == ["latency"] else 30, 2)
    if "aggregate" in options.scenarios:
        figures["aggregate"] = rate(options.runs * options.steps, lambda: run_many(options.runs, options.steps))
    if "sequential" in options.scenarios:
        figures["sequential"] = rate(options.sequential, lambda: run_one(options.sequential))
    if "latency" in options.scenarios:
        figures |= start_latency(options.samples, options.polling)
    return figures


if __name__ == "__main__":
    asked = measure.options()
    if asked.wal:
        force_wal(asked)
    DBOS(config=config(asked))
    DBOS.launch()
    try:
        measure.report("dbos", version("dbos"), main(asked))
    finally:
        DBOS.destroy()
