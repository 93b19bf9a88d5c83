"""Store values as documents. Payloads are decoded for people: none, short (large ones as a reference) or full."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from relit import documents
from relit.durable.payload import BLOB, SEALED, Payloads, Reference, Sealed
from relit.errors import BlobMissing, PayloadError, StoreUnavailable
from relit.lib.plain import to_plain
from relit.store import values

Shown = Literal["none", "short", "full"]

_RUN_FIELDS = (
    "id", "target", "agent", "workflow", "kind", "state", "reason", "mailbox", "key", "priority", "wake_at",
    "expires_at", "deadline_at", "epoch", "worker", "attempt", "max_attempts", "crashes", "request", "failed_pos",
    "parent", "parent_pos", "continued_to", "forked_from", "schedule", "created_at", "started_at", "finished_at",
    "taken_over", "beat_at",
)  # fmt: skip


class Renderer:
    """Makes documents. ``preview`` is the size from which a payload is shown as a reference, unless in full."""

    def __init__(self, payloads: Payloads, preview: int) -> None:
        self._payloads = payloads
        self._preview = preview

    async def payload(self, data: bytes | None, shown: Shown) -> Any | UnsetType:
        """A payload's value as JSON can carry it; what cannot be read is said in its place."""
        if shown == "none":
            return UNSET
        if data is None:
            return None
        try:
            return await self._value(data, shown)
        except (PayloadError, StoreUnavailable, TypeError, ValueError) as error:
            return await self._unreadable(data, error)

    async def _value(self, data: bytes, shown: Shown) -> Any:
        if shown == "short" and data[0] == BLOB:
            reference = msgspec.msgpack.decode(memoryview(data)[1:], type=Reference)
            return {"$blob": reference.hash, "size": reference.size}
        if shown == "short" and len(data) > self._preview:
            return {"$blob": None, "size": len(data) - 1}
        return to_plain(await self._payloads.decode(data))

    async def _unreadable(self, data: bytes, error: Exception) -> dict[str, Any]:
        why = error.what if isinstance(error, PayloadError) else str(error)
        if isinstance(error, BlobMissing):
            return {"$missing": why}
        if data[0] == SEALED:
            return {"$sealed": msgspec.msgpack.decode(memoryview(data)[1:], type=Sealed).codec, "why": why}
        return {"$unreadable": why, "size": len(data)}

    async def failure(self, data: bytes | None) -> documents.Failure | None:
        """An error payload as a document."""
        if data is None:
            return None
        found = await self.payload(data, "full")
        try:
            return msgspec.convert(found, documents.Failure, strict=False)
        except msgspec.ValidationError:
            return documents.Failure(type="Unreadable", message=str(found))

    async def run(self, run: values.Run, shown: Shown = "short") -> documents.Run:
        """A run."""
        fields = {name: getattr(run, name) for name in _RUN_FIELDS}
        return documents.Run(
            **fields,
            input=await self.payload(run.input, shown),
            output=await self.payload(run.output, shown) if run.output is not None or run.final else UNSET,
            error=await self.failure(run.error),
            beat=await self.payload(run.beat, shown) if run.beat else UNSET,
        )

    async def step(self, step: values.Step, shown: Shown = "short") -> documents.Step:
        """A step of a journal."""
        return documents.Step(
            seq=step.seq,
            pos=step.pos,
            kind=step.kind,
            name=step.name,
            result=await self.payload(step.result, shown) if step.error is None else UNSET,
            error=await self.failure(step.error),
            started_at=step.started_at,
            finished_at=step.finished_at,
            attempts=step.attempts,
        )

    async def item(self, item: values.StreamItem) -> documents.Item:
        """An emitted item, always in full: it is what somebody follows."""
        data = await self.payload(item.data, "full")
        return documents.Item(idx=item.idx, pos=item.pos, attempt=item.attempt, data=data, at=item.at)

    async def effect(self, effect: values.Effect, shown: Shown = "short") -> documents.Effect:
        """An effect."""
        return documents.Effect(
            run=effect.run,
            pos=effect.pos,
            name=effect.name,
            doubt=effect.doubt,
            key=effect.key,
            state=effect.state,
            request=await self.payload(effect.request, shown),
            result=await self.payload(effect.result, shown),
            intent_at=effect.intent_at,
            deadline_at=effect.deadline_at,
        )

    async def schedule(self, schedule: values.Schedule) -> documents.Schedule:
        """A schedule."""
        return documents.Schedule(
            name=schedule.name,
            target=f"{schedule.agent}/{schedule.workflow}",
            agent=schedule.agent,
            workflow=schedule.workflow,
            spec=msgspec.json.decode(schedule.spec),
            input=await self.payload(schedule.input, "short"),
            paused=schedule.paused,
            next_at=schedule.next_at,
            last_at=schedule.last_at,
        )


def mailbox(stats: values.MailboxStats) -> documents.Mailbox:
    """A mailbox with its counts."""
    box = stats.mailbox
    return documents.Mailbox(
        name=box.name,
        concurrency=box.concurrency,
        key_concurrency=box.key_concurrency,
        depth=box.depth,
        rate=box.rate,
        burst=box.burst,
        paused=box.paused,
        queued=stats.queued,
        active=stats.active,
        parked=stats.parked,
        dead=stats.dead,
        oldest_at=stats.oldest_at,
    )
