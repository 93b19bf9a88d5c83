"""Runs that go on after an end: what failed is forgotten, and children that failed are tried with their parent."""

from __future__ import annotations

from relit.store.sql import ending, queue
from relit.store.sql.tx import Tx
from relit.store.values import Run


async def begin_again(tx: Tx, run: Run) -> None:
    """Forget what failed, so that it is done again."""
    if run.failed_pos is not None:
        failed = [(run.id, pos) for pos in run.failed_pos.split()]
        await tx.many("step_forget", failed)
        await tx.many("wait_settle", failed)
    await retry_children(tx, run.id)


async def retry_children(tx: Tx, parent: str) -> None:
    """A child that failed, or was cancelled with its parent, is tried again unless an effect of it is in doubt."""
    ids = [row[1] for row in await tx.many("children_to_retry", [(parent,)])]
    for child in await ending.lock(tx, ids):
        if not await tx.many("effects_in_doubt", [(child.id,)]):
            await begin_again(tx, child)
            await revive(tx, child, "run.retried", attempt=1)


async def revive(tx: Tx, run: Run, event: str, *, attempt: int, in_turn: bool = False) -> None:
    """Make a run that nobody runs available. ``in_turn``: before what came after it, though it had ended."""
    placed = int(run.mailbox is None)
    rank = queue.rank(run.created_at if in_turn or not run.final else tx.now, run.priority)
    await tx.many("run_revive", [(run.id, placed, attempt, int(event != "run.resumed"), rank)])
    await queue.add_events(tx, [queue.event(tx, event, run.agent, run.id)])
    await queue.admit(tx, {run.mailbox} if run.mailbox else set())
    tx.topics.update({"ready", f"run:{run.id}"})
