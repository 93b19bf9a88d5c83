"""The store against a model: whatever order things happen in, rows and model agree.

The model knows which runs exist, who holds them under which claim, and what is recorded. It knows nothing of ranks.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from relit.errors import Conflict, Fenced
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.sql.store import SqlStore
from relit.store.values import FINAL, Fence, Finish, Mailbox, NewRun, Signal, Step, Wait, WorkerInfo
from relit.store.wakeups import Wakeups

PLACES = {"one": 1, "two": 2, None: None}
pick = st.integers(0, 10**6)


@dataclass
class ModelRun:
    mailbox: str | None
    state: str = "available"
    epoch: int = 0
    worker: str | None = None
    steps: list[str] = field(default_factory=list)
    signals: int = 0
    request: str | None = None


class StoreMachine(RuleBasedStateMachine):
    """Rules pick a run by number so that hypothesis can shrink."""

    make: Callable[[], Awaitable[SqlStore]]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = self.do(type(self).make())
        self.runs: dict[str, ModelRun] = {}
        self.workers: list[str] = []
        self.count = 0
        for name, places in PLACES.items():
            if name is not None:
                self.do(self.store.configure_mailbox(Mailbox(name=name, concurrency=places)))
        self.join()

    def do(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        assert self.do(self.store.check()) == []
        self.do(self.store.stop())
        self.loop.close()

    def choose(self, number: int, *states: str) -> tuple[str, ModelRun] | None:
        found = [(id_, run) for id_, run in self.runs.items() if run.state in states]
        return found[number % len(found)] if found else None

    # --- rules -------------------------------------------------------------------------------------------------

    @rule()
    @precondition(lambda self: len(self.workers) < 3)
    def join(self) -> None:
        self.count += 1
        name = f"worker-{self.count}"
        info = WorkerInfo(id=name, host="h", pid=1, start=1, boot="b", namespace="n", targets=["a/w"])
        self.do(self.store.join(info, 10_000_000))
        self.workers.append(name)

    @rule(mailbox=st.sampled_from(list(PLACES)), priority=st.integers(0, 100), again=st.booleans())
    def enqueue(self, mailbox: str | None, priority: int, again: bool) -> None:
        ids = [f"run-{self.count:05}-{i}" for i in range(3)]
        self.count += 1
        new = [
            NewRun(id=id_, agent="a", workflow="w", input=b"\x01\xc0", mailbox=mailbox, priority=priority)
            for id_ in ids
        ]
        assert all(run.created for run in self.do(self.store.enqueue(new)))
        if again:
            assert not any(run.created for run in self.do(self.store.enqueue(new)))
        self.runs |= {id_: ModelRun(mailbox) for id_ in ids}

    @rule(limit=st.integers(1, 4), number=pick)
    def claim(self, limit: int, number: int) -> None:
        worker = self.workers[number % len(self.workers)]
        taken = self.do(self.store.claim(worker, ["a/w"], limit, suspects=limit))
        for row in taken:
            run = self.runs[row.id]
            assert run.state == "available"
            assert row.epoch > run.epoch
            run.state, run.epoch, run.worker = "running", row.epoch, worker
        if len(taken) < limit:
            assert not [id_ for id_, run in self.runs.items() if run.state == "available" and self.has_place(run)]

    def has_place(self, run: ModelRun) -> bool:
        places = PLACES[run.mailbox]
        holding = [r for r in self.runs.values() if r.mailbox == run.mailbox and r.state in ("running", "waiting")]
        return places is None or len(holding) < places

    @rule(number=pick, stale=st.booleans())
    def append(self, number: int, stale: bool) -> None:
        chosen = self.choose(number, "running")
        if chosen is None:
            return
        id_, run = chosen
        seq = len(run.steps) + 1
        step = Step(seq=seq, pos=str(seq), kind="step", name="s", hash=b"h", result=str(self.count).encode())
        if stale:
            with pytest.raises(Fenced):
                self.do(self.store.append(Fence(id_, run.epoch - 1), [step]))
        else:
            self.do(self.store.append(Fence(id_, run.epoch), [step]))
            run.steps.append(str(self.count))

    @rule(number=pick)
    def consume_a_signal(self, number: int) -> None:
        waiting = [(id_, run) for id_, run in self.runs.items() if run.state == "running" and run.signals]
        if not waiting:
            return
        id_, run = waiting[number % len(waiting)]
        pending = self.do(self.store.arrivals(id_)).signals
        assert len(pending) == run.signals
        step = Step(seq=len(run.steps) + 1, pos=f"s{len(run.steps)}", kind="signal", name="go", hash=b"", result=b"got")
        self.do(self.store.append(Fence(id_, run.epoch), [step], consume=[pending[0].id]))
        run.steps.append("got")
        run.signals -= 1

    @rule(number=pick)
    def suspend(self, number: int) -> None:
        if (chosen := self.choose(number, "running")) is None:
            return
        id_, run = chosen
        wait = Wait(pos=f"wait-{len(run.steps)}", kind="signal", name="go")
        asleep = self.do(self.store.suspend(Fence(id_, run.epoch), [wait], "signal go"))
        assert asleep == (run.signals == 0 and run.request is None)
        if asleep:
            run.state, run.worker = "waiting", None

    @rule(number=pick)
    def signal(self, number: int) -> None:
        self.count += 1
        if (chosen := self.choose(number, *({"available", "running", "waiting", "parked"}))) is None:
            return
        id_, run = chosen
        signal = Signal(id=f"signal-{self.count}", run=id_, name="go", payload=b"", at=0)
        assert self.do(self.store.signal(signal))
        assert not self.do(self.store.signal(signal))
        run.signals += 1
        if run.state == "waiting":
            run.state = "available"

    @rule(number=pick, state=st.sampled_from(["completed", "failed", "discarded", "parked"]))
    def finish(self, number: int, state: str) -> None:
        if (chosen := self.choose(number, "running")) is None:
            return
        id_, run = chosen
        self.do(self.store.finish(Fence(id_, run.epoch), Finish(state=state)))  # type: ignore[arg-type]
        cancelled = state == "parked" and run.request == "cancel"
        run.state, run.worker, run.request = "cancelled" if cancelled else state, None, None
        with pytest.raises(Fenced):
            self.do(self.store.finish(Fence(id_, run.epoch), Finish(state="completed")))

    @rule(number=pick)
    def release(self, number: int) -> None:
        if (chosen := self.choose(number, "running")) is None:
            return
        id_, run = chosen
        self.do(self.store.release([Fence(id_, run.epoch)]))
        run.state, run.worker = "available", None

    @rule(number=pick)
    @precondition(lambda self: len(self.workers) > 1)
    def worker_dies(self, number: int) -> None:
        worker = self.workers.pop(number % len(self.workers))
        reaped = self.do(self.store.reap(worker, proven=True, poison_after=10**6))
        held = [run for run in self.runs.values() if run.worker == worker]
        assert reaped.runs == len(held)
        assert self.do(self.store.reap(worker, proven=True, poison_after=10**6)) is None
        for run in held:
            run.state = {"cancel": "cancelled", "pause": "parked"}.get(run.request or "", "available")
            run.worker, run.request, run.epoch = None, None, run.epoch + 1

    @rule(number=pick)
    def cancel(self, number: int) -> None:
        if (chosen := self.choose(number, "available", "running", "waiting", "parked", *FINAL)) is None:
            return
        id_, run = chosen
        if run.state in FINAL:
            with pytest.raises(Conflict):
                self.do(self.store.cancel(id_, "test"))
        else:
            self.do(self.store.cancel(id_, "test"))
            if run.state == "running":
                run.request = "cancel"
            else:
                run.state, run.request = "cancelled", None

    @rule(number=pick)
    def pause(self, number: int) -> None:
        if (chosen := self.choose(number, "available", "waiting")) is None:
            return
        self.do(self.store.pause(chosen[0]))
        chosen[1].state, chosen[1].request = "parked", None

    @rule(number=pick)
    def resume(self, number: int) -> None:
        if (chosen := self.choose(number, "parked")) is None:
            return
        self.do(self.store.resume(chosen[0]))
        chosen[1].state = "available"

    @rule(number=pick)
    def retry(self, number: int) -> None:
        if (chosen := self.choose(number, "failed", "cancelled", "discarded")) is None:
            return
        self.do(self.store.retry(chosen[0]))
        chosen[1].state = "available"

    # --- what must always hold -----------------------------------------------------------------------------------

    @invariant()
    def rows_and_model_agree(self) -> None:
        rows = {row.id: row for row in self.do(self.store.runs(limit=1000))}
        assert {id_: run.state for id_, run in self.runs.items()} == {id_: row.state for id_, row in rows.items()}
        for id_, run in self.runs.items():
            assert (rows[id_].worker, rows[id_].request) == (run.worker, run.request)

    @invariant()
    def no_mailbox_has_more_at_work_than_places(self) -> None:
        for stats in self.do(self.store.mailboxes()):
            assert stats.active <= (stats.mailbox.concurrency or 10**6)

    @invariant()
    def recorded_steps_are_exactly_the_acknowledged_ones(self) -> None:
        for id_, run in self.runs.items():
            steps = self.do(self.store.steps(id_))
            assert [(s.seq, s.result) for s in steps] == [(i + 1, r.encode()) for i, r in enumerate(run.steps)]


BUDGET = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.mark.timeout(400)
def test_sqlite_store_agrees_with_the_model() -> None:
    with tempfile.TemporaryDirectory(prefix="relit-") as folder:
        numbers = iter(range(10**6))

        async def make() -> SqlStore:
            store = SqliteStore(Path(folder) / f"{next(numbers)}.db", wakeups=Wakeups())
            await store.start()
            return store

        machine = type("SqliteMachine", (StoreMachine,), {"make": staticmethod(make)})
        run_state_machine_as_test(machine, settings=BUDGET)
