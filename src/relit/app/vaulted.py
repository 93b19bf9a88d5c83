"""The vault of one installation: under which key, and who gets what out of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import msgspec

from relit.app import parts
from relit.errors import SecretDamaged, StoreError, WrongKey
from relit.settings import Settings
from relit.settings.secrets import named
from relit.store.base import Store
from relit.store.sql.store import SqlStore
from relit.store.values import Lock
from relit.vault import sealing
from relit.vault.base import Rows
from relit.vault.sealing import Master
from relit.vault.vault import Vault
from relit.volumes.keys import Keys


def rows(store: Store) -> Rows:
    """The vault's rows that lie in a store."""
    assert isinstance(store, SqlStore)
    return store.secrets


def master(settings: Settings, lock: Lock | None, *, make: bool = False) -> Master:
    """The master key that relit.toml names; ``make``: a key file is made where there is none. WrongKey, ConfigError."""
    if (given := settings.file.vault.passphrase) is not None:
        return passphrase(settings.secrets.reveal(given), lock)
    return of_file(settings, make=make)


def of_file(settings: Settings, *, make: bool = False) -> Master:
    """The master key of the data folder's key file. WrongKey when there is none, unless it is to be made."""
    place = settings.data / "key"
    keys = Keys.create(place) if make and not place.exists() else Keys.load(place)
    return sealing.from_key(keys.vault())


def passphrase(text: str, lock: Lock | None) -> Master:
    """The master key of a passphrase, with the salt that is there, if one is."""
    return sealing.from_passphrase(text, lock if lock is not None and lock.kind == "passphrase" else None)


async def vault(settings: Settings, store: Store, who: str, *, make: bool = False) -> Vault:
    """The vault, open. WrongKey, ConfigError."""
    lying = rows(store)
    return Vault(lying, master(settings, await lying.lock(), make=make), who)


async def hand_out(settings: Settings, names: Collection[str], who: str) -> None:
    """Let ``settings.secrets`` know those of these names that are in the vault. WrongKey, StoreError, SecretDamaged."""
    where = parts.database(settings)
    if not names or (isinstance(where, Path) and not where.exists()):
        return
    try:
        async with parts.store(settings) as store:
            await hold(settings, store, names, who)
    except (StoreError, WrongKey, SecretDamaged):
        if not all(map(settings.secrets.has, names)):
            raise


async def for_agent(settings: Settings, name: str, who: str) -> None:
    """The same for what one agent's environment names."""
    await hand_out(settings, {*named(msgspec.to_builtins(settings.agents[name].env))}, who)


async def hold(settings: Settings, store: Store, names: Collection[str], who: str) -> None:
    """The same with a store that is open."""
    if not names or await rows(store).lock() is None:
        return
    open = await vault(settings, store, who)
    for name, found in (await open.reveal(names, users(settings))).items():
        settings.secrets.hold(name, found.value, found.set_at)


def users(settings: Settings) -> dict[str, str]:
    """For what relit.toml wants each secret: ``agents.scout, models.default``."""
    found = defaultdict(set)
    for table, value in _tables(settings):
        for name in named(msgspec.to_builtins(value)):
            found[name].add(table)
    return {name: ", ".join(sorted(tables)) for name, tables in found.items()}


def needed_first(settings: Settings) -> set[str]:
    """Secrets without which the vault, or a store's key, does not open: they stay in secrets.toml."""
    return {*named(settings.file.vault.passphrase or ""), *named(settings.volumes.passphrase or "")}


def _tables(settings: Settings) -> list[tuple[str, object]]:
    file = settings.file
    each = [(f"{word}.{name}", table) for word in ("agents", "models", "tools", "webhooks", "subscribers")
            for name, table in getattr(file, word).items()]  # fmt: skip
    return [*each, ("alerts", file.alerts), ("volumes", file.volumes), ("vault", file.vault)]
