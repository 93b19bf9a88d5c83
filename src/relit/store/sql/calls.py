"""Calls to models over a ``Database``: every method as ``relit.store.calls.Calls`` says."""

# An operation's result type is known only to its caller here: mypy sees Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from relit.errors import BudgetSpent
from relit.store.sql import queue
from relit.store.sql.outside import one_by_one
from relit.store.sql.tx import Database, Op, Row, Tx
from relit.store.values import Answer, Budget, ModelCall, Spending, Turn, Usage

USD = 1_000_000_000  # amounts are integers of this part of a dollar
Scope = tuple[str, str]  # and its day


class SqlCalls:
    """Shares the database, its connections and its group commit with the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def turn(self, agent: str) -> Turn:
        [found] = await self._database.read(("turns_of", (agent,)), few=True)
        return Turn(run=found[0][0], life=f"{found[0][1]}.{found[0][2]}") if len(found) == 1 else Turn()

    async def lived(self, turn: Turn) -> bool:
        [found] = await self._database.read(("calls_lived", (turn.run, turn.life)), few=True)
        return bool(found)

    async def before(self, call: ModelCall) -> ModelCall | None:
        key = (call.run, call.life, call.lane, call.key)
        [found] = await self._database.read(("call_before", key), few=True)
        return call_of(found[0]) if found else None

    async def expected(self, call: ModelCall) -> ModelCall | None:
        [found] = await self._database.read(("call_expected", (call.run, call.life, call.lane)), few=True)
        return call_of(found[0]) if found else None

    async def beside(self, call: ModelCall) -> list[ModelCall]:
        [found] = await self._database.read(("calls_beside", (call.run, call.life, call.lane, call.key)), few=True)
        return [call_of(each) for each in found]

    async def replay(self, call: ModelCall) -> ModelCall | None:
        return await self._database.write(Op(_replay, call))

    async def answer(self, id: str) -> Answer | None:
        [found] = await self._database.read(("answer_get", (id,)), few=True)
        return Answer(head=found[0][0], body=found[0][1], blob=found[0][2]) if found else None

    async def open(self, call: ModelCall, budgets: Sequence[Budget]) -> ModelCall:
        done = await self._database.write(Op(_open, (call, budgets)))
        if isinstance(done, Refusal):
            raise done.error()
        return done

    async def more(self, call: ModelCall, budgets: Sequence[Budget], refused: str) -> None:
        done = await self._database.write(Op(_more, (call, budgets, refused)))
        if isinstance(done, Refusal):
            raise done.error()

    async def end(self, call: ModelCall, answer: Answer | None = None) -> bool:
        return await self._database.write(Op(_end, (call, answer)))

    async def open_calls(self) -> list[ModelCall]:
        return await self._calls("calls_open")

    async def call(self, id: str) -> ModelCall | None:
        return next(iter(await self._calls("call_get", id)), None)

    async def of_run(self, run: str) -> list[ModelCall]:
        return await self._calls("calls_of_run", run)

    async def of_agent(self, agent: str, limit: int = 100) -> list[ModelCall]:
        return await self._calls("calls_of_agent", agent, limit)

    async def spending(self, day: str) -> list[Spending]:
        [found] = await self._database.read(("budgets_of_day", (day,)))
        return [Spending(**dict(zip(Spending.__struct_fields__, row, strict=True))) for row in found]

    async def usage(self, since: str) -> list[Usage]:
        [found] = await self._database.read(("usage_since", (since,)))
        return [Usage(**dict(zip(Usage.__struct_fields__, row, strict=True))) for row in found]

    async def _calls(self, name: str, *row: Any) -> list[ModelCall]:
        [found] = await self._database.read((name, row))
        return [call_of(each) for each in found]


def call_of(row: Row) -> ModelCall:
    """A row with all columns."""
    known = dict(zip(ModelCall.__struct_fields__, row, strict=True))
    return ModelCall(**{**known, "estimated": bool(known["estimated"])})


def day_of(ms: int) -> str:
    """The day of a moment, UTC, ISO 8601."""
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()


class Refusal(msgspec.Struct, frozen=True):
    """A call that was not written down: there is no room in that budget."""

    budget: Budget
    left: int

    def error(self) -> BudgetSpent:
        """The same, raised."""
        return BudgetSpent(
            f"the budget of {self.budget.scope} for today is spent",
            why=f"of {_usd(self.budget.limit)} USD {_usd(max(0, self.left))} are left, and this call may cost more",
            fix="raise the budget in relit.toml, or wait until midnight (UTC)",
        )


class _Purse:
    """The budgets that a batch is about, held until its commit."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._known: dict[Scope, tuple[int, int, int]] = {}

    async def hold(self, scopes: Iterable[Scope]) -> None:
        """In one order, whoever comes: two batches that want the same must not wait for each other."""
        for scope in sorted({*scopes}):
            await self._tx.many("budget_begin", [scope])
            [(_, spent, reserved, told)] = await self._tx.many("budget_hold", [scope])
            self._known[scope] = spent, reserved, told

    def left(self, scope: Scope, limit: int) -> int:
        spent, reserved, _ = self._known[scope]
        return limit - spent - reserved

    async def change(self, scope: Scope, *, spent: int = 0, reserved: int = 0) -> None:
        was = self._known[scope]
        await self._set(scope, was[0] + spent, max(0, was[1] + reserved), was[2])

    async def tell(self, budget: Budget, day: str, level: int) -> None:
        """That it is nearly spent (1), or is (2); once a day each."""
        spent, reserved, told = self._known[budget.scope, day]
        if told >= level:
            return
        await self._set((budget.scope, day), spent, reserved, level)
        data = {"scope": budget.scope, "spent": spent / USD, "limit": budget.limit / USD}
        name = "budget.spent" if level > 1 else "budget.warned"
        await queue.add_events(self._tx, [queue.event(self._tx, name, None, None, **data)])

    async def _set(self, scope: Scope, spent: int, reserved: int, told: int) -> None:
        self._known[scope] = spent, reserved, told
        await self._tx.many("budget_set", [(*scope, spent, reserved, told)])


async def _open(tx: Tx, args: Sequence[tuple[ModelCall, Sequence[Budget]]]) -> list[Any]:
    """Reserve what each may cost, where there is room for it, and write it down."""
    day, purse = day_of(tx.now), _Purse(tx)
    await purse.hold((each.scope, day) for _, budgets in args for each in budgets)
    return [await _opened(tx, purse, day, call, budgets) for call, budgets in args]


async def _opened(tx: Tx, purse: _Purse, day: str, call: ModelCall, budgets: Sequence[Budget]) -> ModelCall | Refusal:
    for each in budgets:
        if (left := purse.left((each.scope, day), each.limit)) < max(1, call.reserved):
            await purse.tell(each, day, 2)
            await _refused(tx, call, each, day)
            return Refusal(each, left)
    for each in budgets:
        await _reserve(purse, each, day, call.reserved)
    [(_, number)] = await tx.many("call_number", [(call.run,)])
    counted = " ".join([day, *sorted(each.scope for each in budgets)])
    made = msgspec.structs.replace(
        call, number=number if call.run else 0, started_at=tx.now, budgets=counted, state="open"
    )
    await tx.many("call_add", [_row(made)])
    return made


async def _more(tx: Tx, args: Sequence[tuple[ModelCall, Sequence[Budget], str]]) -> list[Any]:
    """Reserve what each may cost by now, where there is room for it."""
    found = await _locked(tx, [call for call, *_ in args])
    purse = _Purse(tx)
    await purse.hold(scope for each in found.values() for scope in _scopes(each))
    return [await _raised(tx, purse, found, *each) for each in args]


async def _raised(
    tx: Tx, purse: _Purse, found: dict[str, ModelCall], call: ModelCall, budgets: Sequence[Budget], refused: str
) -> Refusal | None:
    if (was := found.get(call.id)) is None:
        return None
    limits = {each.scope: each for each in budgets}
    more, known = call.reserved - was.reserved, [(limits[scope], day) for scope, day in _scopes(was)]
    for each, day in known:
        if (left := purse.left((each.scope, day), each.limit)) < more:
            await purse.tell(each, day, 2)
            await _refused(tx, msgspec.structs.replace(call, id=refused), each, day)
            return Refusal(each, left)
    for each, day in known:
        await _reserve(purse, each, day, more)
    found[call.id] = msgspec.structs.replace(was, reserved=call.reserved)
    await tx.many("call_more", [(call.id, call.reserved)])
    return None


async def _reserve(purse: _Purse, budget: Budget, day: str, more: int) -> None:
    await purse.change((budget.scope, day), reserved=more)
    if budget.warn and purse.left((budget.scope, day), budget.warn) <= 0:
        await purse.tell(budget, day, 1)


async def _locked(tx: Tx, calls: Iterable[ModelCall]) -> dict[str, ModelCall]:
    """As they are, those of them that are open."""
    found = {}
    for id in sorted({each.id for each in calls}):
        if rows := await tx.many("calls_lock", [(id,)]):
            found[id] = call_of(rows[0][1:])
    return found


async def _refused(tx: Tx, call: ModelCall, budget: Budget, day: str) -> None:
    """On record once in a life of a turn: the message waits for the money. One of no turn is only told."""
    counted = f"{day} {budget.scope}"
    if not call.run or await tx.many("call_refused", [(call.run, call.life, counted)]):
        return
    [(_, number)] = await tx.many("call_number", [(call.run,)])
    made = msgspec.structs.replace(
        call, number=number, state="refused", status=402, why=f"the budget of {budget.scope} had no room for it",
        started_at=tx.now, ended_at=tx.now, budgets=counted,
    )  # fmt: skip
    await tx.many("call_add", [_row(made)])


def _usd(amount: int) -> str:
    return f"{amount / USD:.4f}".rstrip("0").rstrip(".")


async def _end(tx: Tx, ended: Sequence[tuple[ModelCall, Answer | None]]) -> list[Any]:
    """What it cost takes the place of what was reserved. False: it was ended before."""
    found = await _locked(tx, [call for call, _ in ended])
    purse = _Purse(tx)
    await purse.hold(scope for each in found.values() for scope in _scopes(each))
    return [await _ended(tx, purse, found.pop(call.id, None), call, answer) for call, answer in ended]


async def _ended(tx: Tx, purse: _Purse, was: ModelCall | None, call: ModelCall, answer: Answer | None) -> bool:
    if was is None:
        return False
    for scope in _scopes(was):
        await purse.change(scope, spent=call.cost, reserved=-was.reserved)
    row = (
        call.id, call.state, call.status, call.why, tx.now, call.model, call.input, call.output, call.cached,
        call.written, int(call.estimated), call.cost,
    )  # fmt: skip
    await tx.many("call_end", [row])
    if answer is not None:
        await tx.many("answer_add", [(call.id, answer.head, answer.body, answer.blob)])
    failed = int(call.state in ("failed", "cut"))
    counts = (1, failed, call.input, call.output, call.cached, call.written, call.cost)
    await tx.many("usage_add", [(day_of(was.started_at), was.agent, was.route, call.model, *counts)])
    return True


@one_by_one
async def _replay(tx: Tx, call: ModelCall) -> ModelCall | None:
    found = await tx.many("call_before", [(call.run, call.life, call.lane, call.key)])
    if not found:
        return None
    source = call_of(found[0][1:])
    [(_, number)] = await tx.many("call_number", [(call.run,)])
    made = msgspec.structs.replace(
        source, id=call.id, number=number, gateway=call.gateway, state="replayed", started_at=tx.now, ended_at=tx.now,
        cost=0, reserved=0, budgets=day_of(tx.now), life=call.life, source=source.id, saved=source.cost,
    )  # fmt: skip
    await tx.many("call_add", [_row(made)])
    return source


def _scopes(call: ModelCall) -> list[Scope]:
    day, *scopes = call.budgets.split(" ")
    return [(scope, day) for scope in scopes]


def _row(call: ModelCall) -> Row:
    return tuple(int(value) if isinstance(value, bool) else value for value in msgspec.structs.astuple(call))
