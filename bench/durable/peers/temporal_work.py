"""Temporal's workflows and activities: a module of their own, because the SDK imports workflows in a sandbox."""

from __future__ import annotations

import time
from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import measure

started: dict[int, float] = {}


@activity.defn
async def work(number: int) -> str:
    """One step with a 1 KB result."""
    return measure.kilobyte(number)


@activity.defn
async def mark(number: int) -> None:
    """Records the moment at which it starts."""
    started[number] = time.perf_counter()


@workflow.defn
class Job:
    """Steps one after the other; answers how many bytes they gave."""

    @workflow.run
    async def run(self, steps: int, local: bool) -> int:
        """Activities, or local activities (recorded together, when the workflow task ends)."""
        run = workflow.execute_local_activity if local else workflow.execute_activity
        total = 0
        for number in range(steps):
            total += len(await run(work, number, start_to_close_timeout=timedelta(seconds=60)))
        return total


@workflow.defn
class Note:
    """Marks its own start by its first line, a local activity."""

    @workflow.run
    async def run(self, number: int) -> None:
        """A workflow has no clock of its own, so the mark is made just outside of it."""
        await workflow.execute_local_activity(mark, number, start_to_close_timeout=timedelta(seconds=60))
