"""Named events: the one source of logs, the live stream and metrics.

A store writes an event in the transaction that makes it true; the node writes its own through ``Control``.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True):
    """Something that happened. ``id`` grows; ``at`` is ms since 1970."""

    id: str
    at: int
    name: str
    agent: str | None = None
    run: str | None = None
    data: dict[str, Any] = {}


CATALOGUE: dict[str, str] = {
    "run.enqueued": "A run was made and is on disk. data: target, kind",
    "run.started": "A worker claimed the run. data: worker, epoch, attempt",
    "run.waiting": "The run waits for a timer, a signal, a child or a retry; it costs a row. data: reason, wake_at",
    "run.retrying": "The run failed and will be tried again. data: attempt, wake_at, error",
    "run.parked": "The run waits for a person. data: reason",
    "run.resumed": "A parked run goes on.",
    "run.completed": "The run finished.",
    "run.failed": "The run failed for good. data: error",
    "run.cancelled": "The run was cancelled. data: reason",
    "run.discarded": "The message is a dead letter; `relit requeue` brings it back. data: reason",
    "run.missed": "The message expired before it could start.",
    "run.requeued": "A dead letter went back into its mailbox.",
    "run.retried": "A person asked for a failed run to be tried again.",
    "run.forked": "A new run was made from a step of another. data: source, seq",
    "run.recovered": "The run's worker died; the run was taken from it. data: worker, proven, crashes",
    "effect.in_doubt": "An effect has an intent, no receipt, and asks a person. data: pos, name",
    "effect.resolved": "A person said whether an effect happened. data: pos, done",
    "signal.received": "A signal for a run is on disk. data: name",
    "schedule.fired": "A schedule made a run. data: schedule, due",
    "schedule.missed": "A firing was missed and not made up for. data: schedule, due, reason",
    "schedule.changed": "A schedule was added, changed, paused, resumed or removed. data: schedule, what",
    "mailbox.changed": "A mailbox was configured, paused or resumed. data: mailbox, what",
    "worker.joined": "A worker registered. data: worker, pid, host",
    "worker.left": "A worker stopped in good order. data: worker",
    "worker.died": "A worker died or lost its lease. data: worker, proven, runs",
    "subscriber.removed": "A webhook's receiver wants no more events (410). data: subscriber, reason",
    "server.started": "A server began to listen. data: listen",
    "instance.started": "The node started a process. data: instance, pid",
    "instance.ready": "The instance answers. data: instance",
    "instance.died": "The instance ended. data: instance, code, signal",
    "instance.restarting": "The instance will be started again. data: instance, delay_ms, restarts",
    "instance.healed": "Something was done to heal it. data: instance, rung, action, outcome",
    "instance.known_good": "It was well for a while; that snapshot of its home is known-good. data: instance, number",
    "config.broken": "An agent's configuration was changed into one that it cannot use. data: instance, agent, why",
    "config.mended": "It can be used again. data: instance, agent",
    "instance.adopted": "A restarted node found the instance alive and took it over. data: instance, pid",
    "instance.stopped": "The instance was stopped on purpose. data: instance",
    "instance.waiting": "The instance is not started until there is room for it. data: instance, reason",
    "instance.paged": "What it does not use was moved into swap: memory is short, and nobody could be parked. "
    "data: instance, held (bytes), holds (afterwards), capacity, free, rate, burst, full_s",
    "instance.parked": "The instance makes room for others. data: instance, deed (freeze, stop, kill), reason, "
    "held (bytes), capacity, free, rate, burst, full_s",
    "instance.woken": "A message, a person or more room brings a parked instance back. data: instance",
    "node.disk": "The disk of the data folder has ample room, low, or the least; old logs went. data: room, before, "
    "free, total, shed (bytes)",
    "node.pressure": "Memory is green, amber or red. data: level, before, capacity, free, rate, burst, full_s",
    "instance.held": "The instance is not started while something (a restore) holds it. data: instance, reason",
    "incident.opened": "An agent is in trouble. data: incident, title, severity, rung",
    "incident.changed": "The trouble is deeper: a higher rung, or more severe. data: incident, title, severity, rung",
    "incident.resolved": "The trouble is over. data: incident, title, severity, rung",
    "budget.warned": "Most of a budget of today is spent or reserved. data: scope, spent, limit (US dollars)",
    "budget.spent": "A call was refused: its budget of today is spent. data: scope, spent, limit (US dollars)",
    "turn.diverged": "A turn that is replayed asks something new, and goes on live. data: lane, asked, before, number, "
    "differs",
    "api.refused": "Requests came with no good token, or for what it does not allow. data: code, why, count",
    "gateway.refused": "Calls came with no good token, or to where they may not go. data: code, why, count",
    "tool.held": "A call to a tool waits for a person's word: `relit approvals`. data: call, tool",
    "tool.approved": "A person allowed it. data: call, tool, by",
    "tool.denied": "A person, or a policy, did not. data: call, tool, by",
    "tool.expired": "Nobody said a word in time; it was not made. data: call, tool",
    "tool.in_doubt": "Nobody knows whether it happened: `relit effects`. data: call, tool, why",
    "tool.resolved": "A person said whether it happened. data: call, tool, by, done",
    "alert.sent": "A channel took an alert. data: channel, kind, incidents",
    "alert.failed": "A channel did not take an alert; it is tried again. data: channel, kind, incidents, why",
    "snapshot.taken": "A snapshot is on this machine's disk. data: volume, number, reason, files, fresh, freeze_us",
    "snapshot.stored": "A snapshot is in the blob store. data: volume, number",
    "snapshot.failed": "A snapshot could not be taken; the agent goes on. data: volume, error",
    "snapshot.tagged": "A snapshot got a tag, lost one, was pinned or unpinned. data: volume, number, what",
    "volume.made": "An agent got a volume. data: volume, origin",
    "volume.restored": "Files went back to a snapshot. data: volume, number, to, paths, before",
    "volume.pruned": "Old snapshots and unused packs were removed. data: snapshots, packs, bytes",
    "volume.mended": "A volume's manifest was damaged, and was put right out of packs. data: volume",
    "volume.damaged": "A check found damage. data: volume, pack, what",
    "volume.verified": "A random snapshot was test-restored and its databases checked. data: volume, number",
    "journal.rewound": "An agent's journal went back with its files. data: event, runs, messages",
}
