"""What follows from a run's end: its parent goes on, its children are cancelled."""

from __future__ import annotations

from collections.abc import Sequence

from relit.store.sql import queue, rows
from relit.store.sql.tx import Tx
from relit.store.values import Run


async def after_end(tx: Tx, run: str, parent: str | None, state: str) -> set[str]:
    """Wake the parent; cancel the children of a run that did not complete. Answers mailboxes with places to give."""
    tx.topics.update({f"run:{run}", f"end:{run}"})
    if parent is not None and await tx.many("parent_wake", [(parent, run)]):
        tx.topics.update({"ready", f"run:{parent}"})
    elif parent is not None:
        tx.topics.add(f"run:{parent}")
    return set() if state == "completed" else await _cancel_children(tx, run)


async def _cancel_children(tx: Tx, run: str) -> set[str]:
    boxes: set[str] = set()
    for _, child in await tx.many("children_open", [(run,)]):
        for row in await tx.many("run_lock", [(child,)]):
            boxes |= await cancel(tx, rows.run(row[1:]), f"its parent {run} ended")
    return boxes


async def cancel(tx: Tx, run: Run, reason: str) -> set[str]:
    """Cancel one run that is not final: at once, or by asking its worker. Answers mailboxes with places to give."""
    if run.state == "running":
        await tx.many("run_request", [(run.id, "cancel", reason)])
        tx.topics.update({"requests", f"run:{run.id}"})
        return set()
    return await end(tx, run, "cancelled", reason)


async def end(tx: Tx, run: Run, state: str, reason: str, error: bytes | None = None, event: str = "") -> set[str]:
    """Bring a run that nobody runs to a final state. Answers mailboxes with places to give."""
    await tx.many("run_set", [(run.id, state, reason, 0, tx.now, error)])
    await tx.many("wait_clear", [(run.id,)])
    await queue.add_events(tx, [queue.event(tx, event or f"run.{state}", run.agent, run.id, reason=reason)])
    boxes = await after_end(tx, run.id, run.parent, state)
    return boxes | ({run.mailbox} if run.mailbox else set())


async def lock(tx: Tx, ids: Sequence[str]) -> list[Run]:
    """Runs by id, held until the commit."""
    return [rows.run(row[1:]) for row in await tx.many("run_lock", [(id_,) for id_ in sorted(ids)])]
