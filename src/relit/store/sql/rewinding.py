"""An agent's journal brought back to a moment: steps after it no longer count, effects stay done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from relit.store.sql import ending, outside, queue
from relit.store.sql.outside import one_by_one
from relit.store.sql.reviving import revive
from relit.store.sql.tx import Tx
from relit.store.values import Rewind, Run


@one_by_one
async def rewind(tx: Tx, wanted: Rewind) -> list[str]:
    """Answers the runs that were changed."""
    ids = [row[1] for row in await tx.many("runs_since", [(wanted.agent, wanted.at_ms)])]
    for run in await ending.lock(tx, ids):
        await _let_go(tx, run)
    changed = await _drop(tx, wanted, await ending.lock(tx, ids)) if wanted.messages == "drop" else []
    for run in sorted(await ending.lock(tx, ids), key=lambda each: (each.created_at, each.id)):
        if await _go_back(tx, run, wanted):
            changed.append(run.id)
    event = queue.event(
        tx, "journal.rewound", wanted.agent, None, event=wanted.event, runs=len(changed), messages=wanted.messages
    )
    await queue.add_events(tx, [event])
    return changed


async def _let_go(tx: Tx, run: Run) -> None:
    """Nobody runs it: its agent stands still, and whatever its last worker still writes is refused."""
    if run.state != "running":
        return
    await tx.many("run_release", [(run.id, run.epoch)])
    tx.topics.add("ready")
    if run.request == "cancel":  # its worker did not live to do it
        await outside.cancel(tx, [(run.id, run.reason or "cancelled")])
    elif run.request == "pause":
        await outside.pause(tx, [run.id])


async def _drop(tx: Tx, wanted: Rewind, runs: Sequence[Run]) -> list[str]:
    """Cancel what came since and has not ended. What another of these runs asked for goes back with that one."""
    open_ = {run.id for run in runs if not run.final}
    since = [run for run in runs if run.id not in wanted.runs and run.created_at > wanted.at_ms]
    dropped = [run for run in since if run.id in open_ and run.parent not in open_]
    for run in dropped:
        await queue.admit(tx, await ending.cancel(tx, run, "dropped when its agent went back"))
    return [run.id for run in dropped]


async def _go_back(tx: Tx, run: Run, wanted: Rewind) -> bool:
    again = run.final and wanted.messages == "redeliver" and run.continued_to is None
    if run.final and not again:
        return False  # its answer was given
    superseded = await _supersede(tx, run, wanted)
    if superseded:
        await tx.many("wait_clear", [(run.id,)])
    if again:
        await revive(tx, run, "run.requeued", attempt=0, in_turn=True)
    elif superseded and run.state != "parked":
        await revive(tx, run, "run.resumed", attempt=run.attempt)
    return again or superseded


def known_seq(run: Run, runs: Mapping[str, int], at_ms: int) -> int | None:
    """The newest step that counted at the moment; ``None``: the run had ended then, and was taken up again since."""
    return runs.get(run.id, 0 if run.created_at > at_ms else None)


async def _supersede(tx: Tx, run: Run, wanted: Rewind) -> bool:
    """Take everything after the moment out of the journal's way."""
    seq = known_seq(run, wanted.runs, wanted.at_ms)
    if seq is None:
        seq = (await tx.many("seq_at", [(run.id, wanted.at_ms)]))[0][1]
    if not await tx.many("steps_supersede", [(run.id, seq)]):
        return False
    await tx.many("effects_adrift", [(run.id, run.epoch)])
    await tx.many("effects_void", [(run.id,)])
    await _return_signals(tx, run.id)
    await tx.many("stream_supersede", [(run.id, wanted.at_ms)])
    return True


async def _return_signals(tx: Tx, run: str) -> None:
    """Signals that no step holds are there again."""
    held = Counter((name, payload) for _, name, payload in await tx.many("signal_steps", [(run,)]))
    for _, id_, name, payload in await tx.many("signals_taken", [(run,)]):
        held[name, payload] -= 1
        if held[name, payload] < 0:
            await tx.many("signal_return", [(id_,)])


@one_by_one
async def recovered(tx: Tx, _: None) -> int:
    """Mark every unfinished run: what it did since the copy was made is in doubt."""
    return len(await tx.many("runs_recovered", [(tx.now,)]))
