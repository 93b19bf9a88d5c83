"""Whose a blob store's prefix is: the object ``store.json`` names one store, for ever.

Two stores on one prefix would delete each other's packs. Only a conditional put can decide between two that come at
once, and some servers accept the condition and ignore it: hence the probe.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from relit.errors import BlobMissing, ConfigError, Conflict, StoreCorrupt, WrongStore
from relit.lib.clock import SYSTEM_CLOCK, Clock, iso
from relit.store.objects import Objects

CLAIM = "store.json"


async def claim_prefix(
    objects: Objects, store_id: str, extra: dict[str, Any], *, clock: Clock = SYSTEM_CLOCK
) -> dict[str, Any]:
    """Make the prefix this store's, or see that it is. Answers what ``store.json`` says (the first claim's ``extra``).

    WrongStore when it is another's (nothing is written then); ConfigError when the server ignores conditions.
    """
    found = await read_claim(objects)
    if found is None:
        from importlib.metadata import version  # once for each store: no command waits for it otherwise

        await probe(objects)
        claim = {"store": store_id, "made_at": iso(clock.now_ms()), "relit": version("relit"), "extra": extra}
        try:
            await objects.put(CLAIM, json.dumps(claim, indent=1).encode(), absent=True)
        except Conflict:  # another was faster, or this is our own put, repeated after a lost answer
            pass
        return _ours(objects.url, await read_claim(objects), store_id)
    found = _ours(objects.url, found, store_id)
    await probe(objects)
    return found


async def read_claim(objects: Objects) -> dict[str, Any] | None:
    """What ``store.json`` says, or None. StoreCorrupt when it is no such thing."""
    try:
        found = json.loads(await objects.get(CLAIM))
    except BlobMissing:
        return None
    except ValueError as error:
        raise _unreadable(objects.url, str(error)) from error
    if not isinstance(found, dict) or not isinstance(found.get("store"), str):
        raise _unreadable(objects.url, "it names no store")
    return found


async def probe(objects: Objects) -> None:
    """ConfigError unless the server refuses a second conditional put of the same object."""
    key = f"probe/{secrets.token_hex(8)}"
    try:
        try:
            await objects.put(key, b"1", absent=True)
            await objects.put(key, b"2", absent=True)
        except Conflict:
            return
    finally:
        await objects.delete(key)
    raise ConfigError(
        f"cannot use {objects.url} as a blob store",
        why="it overwrites an object that was to be stored only if absent (it ignores If-None-Match)",
        fix="use a server that honours conditional puts, or a folder (volumes.store in relit.toml, or server.blobs)",
    )


def _ours(url: str, found: dict[str, Any] | None, store_id: str) -> dict[str, Any]:
    if found is None:
        raise _unreadable(url, "it is gone right after it was written")
    if found["store"] != store_id:
        raise WrongStore(
            f"{url} belongs to another relit store",
            why=f"its {CLAIM} names store {found['store']}, made {found.get('made_at', 'at an unknown time')}; "
            f"this one is {store_id}",
            fix="choose another prefix (volumes.store in relit.toml, or server.blobs; s3://BUCKET/ANOTHER-PREFIX or "
            "another folder); to take over a lost server's, relit recover; if only relit.db was lost, relit down, then "
            "relit volume rebuild",
        )
    return found


def _unreadable(url: str, why: str) -> StoreCorrupt:
    return StoreCorrupt(f"cannot read {CLAIM} in {url}", why=why, fix="put it back from a backup, or choose a prefix")
