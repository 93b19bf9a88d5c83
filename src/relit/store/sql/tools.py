"""Calls to tools over a ``Database``: every method as ``relit.store.tools.ToolCalls`` says."""

# An operation's result type is known only to its caller here: mypy sees Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from relit.errors import Conflict, NotFound
from relit.lib.ids import derived_id
from relit.store.sql import queue
from relit.store.sql.outside import one_by_one
from relit.store.sql.tx import Database, Op, Row, Tx
from relit.store.tools import EARLIER, HEARD, UNHEARD_MS, Note, ToolCall, ToolEnd, ToolState

_FIELDS = ToolCall.__struct_fields__
_FLAGS = ("failed", "owed")
_RECOVERED = "the server came back from a copy that may be older than this call"


class SqlTools:
    """Shares the database, its connections and its group commit with the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, call: ToolCall, seen: int, *, relives: bool = True) -> tuple[ToolCall, ToolCall | None]:
        return await self._database.write(Op(_begin, (call, seen, relives)))

    async def send(self, seen: ToolCall, gateway: str, deadline_at: int) -> ToolCall | None:
        return await self._database.write(Op(_send, (seen, gateway, deadline_at)))

    async def again(self, id: str, deadline_at: int) -> None:
        await self._database.write(Op(_again, (id, deadline_at)))

    async def end(self, end: ToolEnd) -> ToolCall:
        return await self._database.write(Op(_end, end))

    async def hear(self, id: str, heard: int, *, owed: bool = False) -> None:
        await self._database.write(Op(_hear, (id, heard, owed)))

    async def gateways(self) -> list[str]:
        [found] = await self._database.read(("tools_gateways", ()))
        return [row[0] for row in found]

    async def abandon(self, gateway: str) -> None:
        await self._database.write(Op(_abandon, gateway))

    async def decide(self, id: str, approve: bool, by: str, why: str = "") -> ToolCall:
        return await self._database.write(Op(_decide, (id, approve, by, why)))

    async def resolve(self, id: str, by: str, result: bytes | None) -> ToolCall:
        return await self._database.write(Op(_resolve, (id, by, result)))

    async def expire(self) -> list[ToolCall]:
        return await self._database.write(Op(_expire, None))

    async def get(self, id: str) -> ToolCall:
        [found] = await self._database.read(("tool_get", (id,)), few=True)
        if not found:
            raise _unknown(id)
        return tool_of(found[0])

    async def find(self, prefix: str, limit: int = 5) -> list[str]:
        [found] = await self._database.read(("tools_find", (prefix, limit)))
        return [row[0] for row in found]

    async def waiting(self, states: Sequence[ToolState] = ("held", "in_doubt")) -> list[ToolCall]:
        found = await self._database.read(*(("tools_in", (state,)) for state in states))
        return sorted((tool_of(row) for rows in found for row in rows), key=lambda each: (each.started_at, each.id))

    async def owing(self) -> list[ToolCall]:
        return await self._calls("tools_owing")

    async def of_run(self, run: str) -> list[ToolCall]:
        return await self._calls("tools_of_run", run)

    async def note(self, agent: str, name: str, words: str) -> None:
        await self._database.write(Op(_note, (agent, name, words)))

    async def notes(self, agent: str) -> list[Note]:
        [found] = await self._database.read(("notes_of", (agent,)))
        return [Note(*row) for row in found]

    async def of_agent(self, agent: str, limit: int = 100) -> list[ToolCall]:
        return await self._calls("tools_of_agent", agent, limit)

    async def _calls(self, name: str, *row: Any) -> list[ToolCall]:
        [found] = await self._database.read((name, row))
        return [tool_of(each) for each in found]


def tool_of(row: Row) -> ToolCall:
    """A row with all columns."""
    known = dict(zip(_FIELDS, row, strict=True))
    return ToolCall(**{**known, **{name: bool(known[name]) for name in _FLAGS}})


def _row(call: ToolCall) -> Row:
    return tuple(int(value) if isinstance(value, bool) else value for value in msgspec.structs.astuple(call))


def _unknown(id: str) -> NotFound:
    return NotFound(f"there is no call {id!r} to a tool", fix="relit approvals; relit effects")


async def _held(tx: Tx, id: str) -> ToolCall | None:
    """The call, held until the commit."""
    found = await tx.many("tool_lock", [(id,)])
    return tool_of(found[0][1:]) if found else None


async def _told(tx: Tx, name: str, call: ToolCall, **data: Any) -> None:
    event = queue.event(tx, name, call.agent, call.run or None, call=call.id, tool=call.tool, **data)
    await queue.add_events(tx, [event])


async def _kept(tx: Tx, call: ToolCall) -> ToolCall:
    row = (
        call.id, call.state, call.result, call.blob, int(call.failed), call.why[:8000], call.gateway, call.heard,
        int(call.owed), call.sent_at, call.deadline_at, call.ended_at, call.expires_at, call.decided_by,
    )  # fmt: skip
    await tx.many("tool_set", [row])
    if call.owed or call.decided_by or call.state == "expired":  # what a gateway waits for
        tx.topics.add("tools")
    return call


@one_by_one
async def _begin(tx: Tx, args: tuple[ToolCall, int, bool]) -> tuple[ToolCall, ToolCall | None]:
    call, seen, relives = args
    found, since = [], tx.now - UNHEARD_MS
    if call.state != "denied" and call.run:
        asked = (call.run, call.agent, call.tool, call.hash, call.same, call.life, seen, int(relives), since)
        found = await tx.many("tool_before", [asked])
    elif call.state != "denied":
        found = await tx.many("tool_unheard", [(call.agent, call.tool, call.hash, since)])
    source = tool_of(found[0][1:]) if found else None
    [(_, number)] = await tx.many("tool_number", [(call.run,)])
    call = msgspec.structs.replace(call, number=number if call.run else 0, started_at=tx.now)
    if call.state == "denied":
        call = msgspec.structs.replace(call, ended_at=tx.now)
    if source is not None:
        why = await _noted(tx, call, source, relives)
        call = msgspec.structs.replace(call, state="replayed", source=source.id, why=why, ended_at=tx.now)
    elif call.run:
        call = await _of_its_turn(tx, call)
    await tx.many("tool_add", [_row(call)])
    if call.state == "in_doubt":
        await _told(tx, "tool.in_doubt", call, why=call.why)
    if call.state == "held":
        await _told(tx, "tool.held", call)
    if call.state == "denied":
        await _told(tx, "tool.denied", call, by="policy")
    return call, source


async def _noted(tx: Tx, call: ToolCall, source: ToolCall, relives: bool) -> str:
    """``EARLIER`` where the agent is told that the result is an earlier call's. One that lives its turn again is told
    what it was told then."""
    if relives:
        found = await tx.many("tool_noted", [(source.id,)])
        return EARLIER if found and found[0][1] == EARLIER else ""
    return EARLIER if source.life != call.life and source.state == "done" else ""


async def _of_its_turn(tx: Tx, call: ToolCall) -> ToolCall:
    """With a key that the same call of the same turn had in a history that was lost, and in doubt where only a look or
    a person can tell whether it was made there."""
    [(_, before, recovered_at)] = await tx.many("tool_before_it", [(call.run, call.agent, call.tool, call.hash)])
    call = msgspec.structs.replace(call, key=f"relit-{derived_id(call.run, call.tool, call.hash, str(before))}")
    if recovered_at is None or call.state != "open" or call.effect not in ("ask", "lookup"):
        return call
    return msgspec.structs.replace(call, state="in_doubt", why=_RECOVERED)


@one_by_one
async def _send(tx: Tx, args: tuple[ToolCall, str, int]) -> ToolCall | None:
    seen, gateway, deadline_at = args
    call = await _held(tx, seen.id)
    if call is None or call.state not in ("approved", "in_doubt", "open"):
        return None
    if (call.state, call.gateway, call.sent_at) != (seen.state, seen.gateway, seen.sent_at):
        return None
    if call.state == "open" and call.gateway == gateway:
        return None
    return await _kept(
        tx, msgspec.structs.replace(call, state="open", gateway=gateway, sent_at=tx.now, deadline_at=deadline_at)
    )


@one_by_one
async def _again(tx: Tx, args: tuple[str, int]) -> None:
    id, deadline_at = args
    call = await _held(tx, id)
    if call is not None and call.state == "open":
        await _kept(tx, msgspec.structs.replace(call, sent_at=tx.now, deadline_at=deadline_at))


@one_by_one
async def _end(tx: Tx, end: ToolEnd) -> ToolCall:
    call = await _held(tx, end.id)
    if call is None:
        raise _unknown(end.id)
    if call.state != "open":
        return call
    ended = msgspec.structs.replace(
        call, state=end.state, result=end.result, blob=end.blob, failed=end.failed, why=end.why,
        ended_at=None if end.state == "in_doubt" else tx.now,
    )  # fmt: skip
    if end.state == "in_doubt":
        await _told(tx, "tool.in_doubt", ended, why=end.why[:200])
    return await _kept(tx, ended)


@one_by_one
async def _hear(tx: Tx, args: tuple[str, int, bool]) -> None:
    id, heard, owed = args
    call = await _held(tx, id)
    if call is not None:
        owed = (call.owed or owed) and heard != HEARD
        await _kept(tx, msgspec.structs.replace(call, heard=heard, owed=owed))


@one_by_one
async def _note(tx: Tx, args: tuple[str, str, str]) -> None:
    agent, name, words = args
    if words:
        await tx.many("note_put", [(agent, name, words, tx.now)])
    else:
        await tx.many("note_drop", [(agent, name)])


@one_by_one
async def _abandon(tx: Tx, gateway: str) -> None:
    await tx.many("tools_abandon", [(gateway,)])


@one_by_one
async def _decide(tx: Tx, args: tuple[str, bool, str, str]) -> ToolCall:
    id, approve, by, why = args
    call = await _held(tx, id)
    if call is None:
        raise _unknown(id)
    if call.state != "held":
        raise Conflict(f"the call {id} waits for nobody's word", why=f"it is {call.state}", fix="relit approvals")
    if call.expires_at is not None and call.expires_at <= tx.now:
        raise Conflict(f"the call {id} was held for too long", why="its time is over", fix="relit approvals")
    await _told(tx, "tool.approved" if approve else "tool.denied", call, by=by)
    if approve:
        return await _kept(tx, msgspec.structs.replace(call, state="approved", decided_by=by, why=why))
    denied = msgspec.structs.replace(call, state="denied", decided_by=by, why=why, failed=True, ended_at=tx.now)
    return await _kept(tx, denied)


@one_by_one
async def _resolve(tx: Tx, args: tuple[str, str, bytes | None]) -> ToolCall:
    id, by, result = args
    call = await _held(tx, id)
    if call is None:
        raise _unknown(id)
    if call.state != "in_doubt":
        raise Conflict(f"the call {id} is not in doubt", why=f"it is {call.state}", fix="relit effects")
    await _told(tx, "tool.resolved", call, by=by, done=result is not None)
    if result is None:
        return await _kept(tx, msgspec.structs.replace(call, state="approved", decided_by=by))
    done = msgspec.structs.replace(call, state="done", result=result, decided_by=by, failed=False, ended_at=tx.now)
    return await _kept(tx, done)


@one_by_one
async def _expire(tx: Tx, _: None) -> list[ToolCall]:
    found = [tool_of(row[1:]) for row in await tx.many("tools_expired", [(tx.now,)])]
    made = []
    for each in sorted(found, key=lambda call: call.id):
        await _told(tx, "tool.expired", each)
        made.append(await _kept(tx, msgspec.structs.replace(each, state="expired", failed=True, ended_at=tx.now)))
    return made
