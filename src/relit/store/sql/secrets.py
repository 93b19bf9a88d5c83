"""The vault's rows over a ``Database``: every method as ``relit.vault.base.Rows`` says."""

# An operation's result type is known only to its caller here: mypy sees Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence

from relit.errors import NotFound, Overtaken
from relit.store.sql.outside import one_by_one
from relit.store.sql.tx import Database, Op, Row, Tx
from relit.store.values import Audited, Lock, Secret

_LAST = 2**62


class SqlSecrets:
    """Shares the database, its connections and its group commit with the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lock(self) -> Lock | None:
        [found] = await self._database.read(("vault_get", ()), few=True)
        return _lock(found[0]) if found else None

    async def begin(self, lock: Lock) -> Lock:
        return await self._database.write(Op(_begin, lock))

    async def secrets(self) -> list[Secret]:
        [found] = await self._database.read(("secrets_all", ()), few=True)
        return [Secret(**dict(zip(Secret.__struct_fields__, row, strict=True))) for row in found]

    async def put(self, lock: Lock, secret: Secret, audited: Audited) -> None:
        await self._database.write(Op(_put, (lock, secret, audited)))

    async def remove(self, name: str, audited: Audited) -> None:
        await self._database.write(Op(_remove, (name, audited)))

    async def replace(self, was: Lock, lock: Lock, secrets: Sequence[Secret], audited: Audited) -> None:
        await self._database.write(Op(_replace, (was, lock, secrets, audited)))

    async def audit(self, entries: Sequence[Audited]) -> None:
        await self._database.write(Op(_audit, entries))

    async def audited(self, *, name: str = "", before: int | None = None, limit: int = 100) -> list[Audited]:
        asked = ("audit_list", (_LAST if before is None else before, name, limit))
        [found] = await self._database.read(asked)
        return [Audited(**dict(zip(Audited.__struct_fields__, row, strict=True))) for row in found]


def _lock(row: Row) -> Lock:
    return Lock(**dict(zip(Lock.__struct_fields__, row, strict=True)))


def _row(secret: Secret, now: int) -> Row:
    return (secret.name, secret.version, secret.wrapped, secret.sealed, secret.set_at or now, secret.sealed_at or now)


async def _known(tx: Tx) -> Lock | None:
    found = await tx.many("vault_lock", [()])
    return _lock(found[0][1:]) if found else None


async def _note(tx: Tx, entries: Sequence[Audited]) -> None:
    await tx.many("audit_add", [(tx.now, each.what, each.name, each.who, each.whom) for each in entries])


async def _see(tx: Tx, lock: Lock) -> list[Secret]:
    """The secrets, if they are sealed under that key. Conflict: another key came in between."""
    if await _known(tx) != lock:
        raise Overtaken("the vault was sealed under another key meanwhile", fix="do it again")
    found = await tx.many("secrets_all", [()])
    return [Secret(**dict(zip(Secret.__struct_fields__, row[1:], strict=True))) for row in found]


@one_by_one
async def _begin(tx: Tx, lock: Lock) -> Lock:
    if await tx.many("vault_begin", [(lock.kind, lock.key, lock.salt, lock.cost)]):
        return lock
    known = await _known(tx)
    assert known is not None, "it is there, or was made"
    return known


@one_by_one
async def _put(tx: Tx, args: tuple[Lock, Secret, Audited]) -> None:
    lock, secret, audited = args
    known = {each.name: each.version for each in await _see(tx, lock)}
    if known.get(secret.name, 0) != secret.version - 1:
        raise Overtaken(f"the secret {secret.name} was changed meanwhile", fix="relit secret ls, then again")
    await tx.many("secret_put", [_row(secret, tx.now)])
    await _note(tx, [audited])


@one_by_one
async def _remove(tx: Tx, args: tuple[str, Audited]) -> None:
    name, audited = args
    await _known(tx)  # whoever seals all of them anew is waited for
    if not await tx.many("secret_remove", [(name,)]):
        raise NotFound(f"there is no secret {name}", fix="relit secret ls")
    await _note(tx, [audited])


@one_by_one
async def _replace(tx: Tx, args: tuple[Lock, Lock, Sequence[Secret], Audited]) -> None:
    was, lock, secrets, audited = args
    known = {each.name: each.version for each in await _see(tx, was)}
    if known != {each.name: each.version for each in secrets}:
        raise Overtaken("a secret was changed meanwhile", fix="do it again")
    await tx.many("vault_change", [(lock.kind, lock.key, lock.salt, lock.cost)])
    await tx.many("secret_put", [_row(each, tx.now) for each in secrets])
    await _note(tx, [audited])


@one_by_one
async def _audit(tx: Tx, entries: Sequence[Audited]) -> None:
    await _note(tx, entries)
