"""An agent's journal brought back to a moment: steps after it no longer count, effects stay done."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from relit.store.sql import ending, queue
from relit.store.sql.outside import one_by_one
from relit.store.sql.reviving import revive
from relit.store.sql.tx import Tx
from relit.store.values import Rewind, Run


@one_by_one
async def rewind(tx: Tx, wanted: Rewind) -> list[str]:
    """Answers the runs that were changed."""
    ids = [row[1] for row in await tx.many("runs_since", [(wanted.agent, wanted.at_ms)])]
    changed = []
    for run in await ending.lock(tx, ids):
        if await _rewind(tx, await _let_go(tx, run), wanted):
            changed.append(run.id)
    event = queue.event(
        tx, "journal.rewound", wanted.agent, None, event=wanted.event, runs=len(changed), messages=wanted.messages
    )
    await queue.add_events(tx, [event])
    return changed


async def _let_go(tx: Tx, run: Run) -> Run:
    """Nobody runs it: its agent stands still, and whatever its last worker still writes is refused."""
    if run.state != "running":
        return run
    await tx.many("run_release", [(run.id, run.epoch)])
    return msgspec.structs.replace(run, state="available")


async def _rewind(tx: Tx, run: Run, wanted: Rewind) -> bool:
    began_since = run.id not in wanted.runs
    if run.final and wanted.messages != "redeliver":
        return False  # its answer was given
    if began_since and wanted.messages == "drop" and not run.final:
        await queue.admit(tx, await ending.cancel(tx, run, "dropped when its agent went back"))
        return True
    seq = wanted.runs.get(run.id, 0)
    superseded = await _supersede(tx, run.id, seq)
    if run.final or (run.state != "parked" and superseded):
        await tx.many("wait_clear", [(run.id,)])
        await revive(tx, run, "run.requeued" if run.final else "run.resumed", attempt=0 if run.final else run.attempt)
    return run.final or bool(superseded)


@one_by_one
async def recovered(tx: Tx, _: None) -> int:
    """Mark every unfinished run: what it did since the copy was made is in doubt."""
    return len(await tx.many("runs_recovered", [(tx.now,)]))


async def _supersede(tx: Tx, run: str, seq: int) -> int:
    """Take everything after ``seq`` out of the journal's way."""
    await tx.many("effects_keep", [(run, seq)])
    await _return_signals(tx, run, seq)
    return len(await tx.many("steps_supersede", [(run, seq)]))


async def _return_signals(tx: Tx, run: str, seq: int) -> None:
    """Signals are consumed in order, so of each name the first belong to the steps that stay."""
    stays: Counter[Any] = Counter(row[1] for row in await tx.many("signal_steps", [(run, seq)]))
    taken: Counter[Any] = Counter()
    for _, id, name in await tx.many("signals_taken", [(run,)]):
        taken[name] += 1
        if taken[name] > stays[name]:
            await tx.many("signal_return", [(id,)])
