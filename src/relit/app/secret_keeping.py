"""``relit secret``: what a person does with the vault. It works on the store itself: secrets pass through no server."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence

import msgspec

from relit.app import node_word, parts
from relit.app.folder import run_dir
from relit.app.vaulted import master, needed_first, of_file, passphrase, rows, users, vault
from relit.errors import Conflict, NotFound
from relit.settings import Settings
from relit.store.base import Store
from relit.store.values import Audited, Lock
from relit.vault.sealing import Master
from relit.vault.vault import Vault

WHO = "relit secret"


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A secret, without its value. ``place``: ``vault``, ``secrets.toml``, or ``missing``; ``users``: what relit.toml
    wants it for."""

    name: str
    place: str
    version: int | None = None
    set_at: int | None = None
    users: str = ""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What was done. ``node``: one runs, and was told; what reads its secrets once is started again."""

    name: str
    version: int = 0
    node: bool = False


async def put(settings: Settings, name: str, value: str) -> Told:
    """Set a secret. Invalid, WrongKey; Conflict: it is what opens the vault."""
    if name in needed_first(settings):
        raise Conflict(
            f"{name} cannot lie in the vault", why="it is what opens the vault, or the packs",
            fix=f"write it into {settings.data / 'secrets.toml'}",
        )  # fmt: skip
    async with parts.store(settings) as store:
        version = await (await vault(settings, store, WHO, make=True)).set(name, value)
    return Told(name=name, version=version, node=await node_word.reread(run_dir(settings)))


async def listed(settings: Settings) -> list[Listed]:
    """Those of the vault, those of secrets.toml that it does not have, and those that are missing."""
    wanted = users(settings)
    async with parts.store(settings) as store:
        sealed = await rows(store).secrets()
    found = {name: Listed(name=name, place="missing") for name in wanted}
    found |= {name: Listed(name=name, place="secrets.toml") for name in settings.secrets.names()}
    found |= {
        each.name: Listed(name=each.name, place="vault", version=each.version, set_at=each.set_at) for each in sealed
    }
    return [msgspec.structs.replace(found[name], users=wanted.get(name, "")) for name in sorted(found)]


async def remove(settings: Settings, name: str, *, force: bool = False) -> Told:
    """NotFound; Conflict: relit.toml wants it, and it lies nowhere else (unless ``force``)."""
    wanted = users(settings).get(name)
    if wanted and not force and name not in settings.secrets.names():
        raise Conflict(f"{name} is in use", why=f"relit.toml: {wanted}", fix=f"relit secret rm {name} --force")
    async with parts.store(settings) as store:
        await rows(store).remove(name, Audited(what="removed", name=name, who=WHO))
    return Told(name=name, node=await node_word.reread(run_dir(settings)))


async def rotate(settings: Settings, was: str = "") -> int:
    """Seal all of them anew, under the key file or passphrase that relit.toml names now; answers how many. ``was``: the
    passphrase of before, where that was another. WrongKey, NotFound, Overtaken."""
    async with parts.store(settings) as store:
        lock = await rows(store).lock()
        if lock is None:
            raise NotFound("there is no secret yet", fix="relit secret set NAME")
        before = Vault(rows(store), _before(settings, lock, was), WHO)
        return await before.rotate(master(settings, None, make=True))


def _before(settings: Settings, lock: Lock, was: str) -> Master:
    if lock.kind == "key":
        return of_file(settings)
    return passphrase(was, lock) if was else master(settings, lock)


async def take_in(settings: Settings) -> list[str]:
    """Put what is in secrets.toml into the vault; answers the names. The file keeps what opens the vault, and what it
    had is gone from it once it is sealed. A name that the vault has already stays there as it is."""
    stay = needed_first(settings)
    names = [name for name in settings.secrets.names() if name not in stay]
    if names:
        async with parts.store(settings) as store:
            await _take_in(settings, store, names)
        await asyncio.to_thread(_leave, settings, sorted(stay & {*settings.secrets.names()}))
        await node_word.reread(run_dir(settings))
    return names


async def _take_in(settings: Settings, store: Store, names: Sequence[str]) -> None:
    open = await vault(settings, store, WHO, make=True)
    known = {each.name for each in await rows(store).secrets()}
    for name in names:
        if name not in known:
            await open.set(name, settings.secrets.reveal(f"secret:{name}"))


def _leave(settings: Settings, names: Sequence[str]) -> None:
    """Only these in the file; no file without any."""
    place = settings.data / "secrets.toml"
    if not names:
        place.unlink()
        return
    text = "".join(f"{_toml(each)} = {_toml(settings.secrets.reveal(f'secret:{each}'))}\n" for each in names)
    draft = place.with_name(f".secrets.toml.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(place)


def _toml(text: str) -> str:
    """A basic string: as JSON writes it, but for what TOML does not want."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


async def trail(settings: Settings, *, name: str = "", before: int | None = None, limit: int = 100) -> list[Audited]:
    """The audit trail, newest first."""
    async with parts.store(settings) as store:
        return await rows(store).audited(name=name, before=before, limit=limit)
