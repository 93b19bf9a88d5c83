"""The blob store of the volumes: whose it is, and the key that opens its packs."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import msgspec

from relit.errors import ConfigError, Conflict, StoreUnavailable, WrongKey
from relit.lib.crashpoints import point
from relit.settings import Settings
from relit.store import generation
from relit.store.claim import claim_prefix, read_claim
from relit.volumes.base import Catalog, Objects
from relit.volumes.keys import SCRYPT, Keys

_CACHE = "volumes.json"
POINTS: tuple[str, ...] = ("volumes.unlock.begun", "volumes.unlock.claimed", "volumes.unlock.noted")


class Unlocked(msgspec.Struct, frozen=True):
    """``keys`` is ``None`` when packs are not encrypted; ``key``: the key's id, which does not tell the key."""

    keys: Keys | None
    key: str = ""


async def unlock(settings: Settings, objects: Objects, store_id: str) -> Unlocked:
    """Claim the prefix at the first start, see that it is ours at every further one.

    Without the blob store it goes by what was found the last time. Raises WrongStore, WrongKey, ConfigError,
    StoreUnavailable.
    """
    try:
        claim = await read_claim(objects)
    except StoreUnavailable:
        known = _cached(settings.data, objects.url, store_id)
        if known is None:
            raise
        return _open(settings, known)
    if claim is not None:  # first the key: nothing is said of a store that this key does not open
        claim = await claim_prefix(objects, store_id, {})
        unlocked = _open(settings, claim["extra"])
    else:
        unlocked, extra = _begin(settings)
        point("volumes.unlock.begun")
        claim = await claim_prefix(objects, store_id, extra)
        if claim["extra"] != extra:  # another process was first
            unlocked = _open(settings, claim["extra"])
        point("volumes.unlock.claimed")
    _cache(settings.data, objects.url, store_id, claim["extra"])
    return unlocked


async def adopt(settings: Settings, objects: Objects, catalog: Catalog) -> None:
    """Be the store that the prefix belongs to, if the key opens it and this one has no volumes: its file was lost, its
    packs were not. Raises WrongKey, ConfigError."""
    claim = await read_claim(objects)
    if claim is None or claim["store"] == await catalog.identity() or await catalog.volumes():
        return
    _open(settings, claim["extra"])
    await catalog.clear(claim["store"], await generation.begin(objects, claim["store"]))


def use(settings: Settings, keys: Keys, extra: dict[str, Any]) -> None:
    """Make these this data folder's keys. WrongKey when they do not open what ``extra`` tells of; Conflict when
    others are there."""
    if keys.id != extra.get("key"):
        raise _wrong(extra, keys, "give the file that relit key export wrote for this store")
    place = settings.data / "key"
    if keys.keep(place).id != keys.id:
        raise Conflict(
            f"{place} holds another key",
            why="packs that it sealed could not be read any more",
            fix=f"relit key export KEEP, mv {place} away, then again",
        )


def _begin(settings: Settings) -> tuple[Unlocked, dict[str, Any]]:
    """For a new store: (its key, what the claim shall say of it)."""
    mode = settings.volumes.encryption
    if mode == "off":
        return Unlocked(None), {"encryption": mode}
    if mode == "key":
        keys = Keys.create(settings.data / "key")
        return _unlocked(keys), {"encryption": mode, "key": _unlocked(keys).key}
    salt = secrets.token_bytes(16)
    keys = Keys.from_passphrase(_passphrase(settings), salt)
    return _unlocked(keys), {"encryption": mode, "salt": salt.hex(), "scrypt": list(SCRYPT), "key": _unlocked(keys).key}


def _open(settings: Settings, extra: dict[str, Any]) -> Unlocked:
    """For a store that says what it is sealed with."""
    mode, was = settings.volumes.encryption, extra.get("encryption", "")
    if mode != was:
        raise ConfigError(
            f'volumes.encryption = "{mode}", but this store was begun with "{was}"',
            why="its packs could not be read",
            fix=f'set encryption = "{was}", or another volumes.store',
        )
    if mode == "off":
        return Unlocked(None)
    if mode == "key":
        keys = Keys.load(settings.data / "key")
    else:
        n, r, p = extra["scrypt"]
        keys = Keys.from_passphrase(_passphrase(settings), bytes.fromhex(extra["salt"]), (n, r, p))
    found = _unlocked(keys)
    if found.key != extra["key"]:
        raise _wrong(extra, keys, "relit key import FILE" if mode == "key" else "mend the passphrase")
    return found


def _wrong(extra: dict[str, Any], keys: Keys, fix: str) -> WrongKey:
    sealed = f"sealed with key {extra['key']}" if "key" in extra else "not encrypted"
    return WrongKey("this key does not open the packs", why=f"they are {sealed}, this is {keys.id}", fix=fix)


def _unlocked(keys: Keys) -> Unlocked:
    return Unlocked(keys, keys.id)


def _passphrase(settings: Settings) -> str:
    given = settings.volumes.passphrase
    assert given is not None  # the settings were checked
    return settings.secrets.reveal(given)


def _cached(data: Path, url: str, store_id: str) -> dict[str, Any] | None:
    try:
        found = json.loads((data / _CACHE).read_text())
    except (OSError, ValueError):
        return None
    if found.get("url") != url or found.get("store") != store_id:
        return None
    extra: dict[str, Any] = found["extra"]
    return extra


def _cache(data: Path, url: str, store_id: str, extra: dict[str, Any]) -> None:
    draft = data / f".{_CACHE}"  # one process at a time comes here
    draft.write_text(json.dumps({"url": url, "store": store_id, "extra": extra}))
    point("volumes.unlock.noted")
    draft.replace(data / _CACHE)
