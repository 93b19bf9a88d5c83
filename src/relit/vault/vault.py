"""Secrets by name: set, handed out, listed, removed, sealed anew."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from relit.errors import Invalid, NotFound, WrongKey
from relit.store.values import Audited, Lock, Secret
from relit.vault import sealing
from relit.vault.base import Rows
from relit.vault.sealing import Master

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
VALUE_MOST = 64 << 10  # bytes


@dataclass(frozen=True)
class Revealed:
    """A secret's value, and since when it is this one (ms)."""

    value: str = field(repr=False)
    set_at: int


class Vault:
    """``who`` is who works with it, for the audit trail. WrongKey: the master key is not the one it is sealed under."""

    def __init__(self, rows: Rows, master: Master, who: str) -> None:
        self._rows = rows
        self._master = master
        self._who = who

    async def set(self, name: str, value: str) -> int:
        """A new secret, or another value of one; answers its version. Invalid; Overtaken: somebody was first."""
        _check(name, value)
        await self._see(await self._rows.begin(self._master.lock))
        known = await self._known()
        version = known[name].version + 1 if name in known else 1
        sealed = sealing.seal(self._master, name, version, value)
        await self._rows.put(self._master.lock, sealed, self._audited("set", name))
        return version

    async def reveal(self, names: Collection[str], whom: Mapping[str, str]) -> dict[str, Revealed]:
        """The values of those that there are; each is written down, with whom it is for (by name)."""
        known = await self._known()
        found = [known[name] for name in sorted({*names}) if name in known]
        if not found:
            return {}
        await self._see(await self._rows.lock())
        opened = {each.name: Revealed(sealing.open(self._master, each), each.set_at) for each in found}
        await self._rows.audit([self._audited("read", name, whom.get(name, "")) for name in opened])
        return opened

    async def remove(self, name: str) -> None:
        """NotFound when there is none."""
        await self._rows.remove(name, self._audited("removed", name))

    async def rotate(self, master: Master) -> int:
        """Seal all of them anew, with data keys of now, under ``master``; answers how many there are. Overtaken."""
        was = await self._rows.lock()
        if was is None:
            raise NotFound("there is no secret yet", fix="relit secret set NAME")
        await self._see(was)
        secrets = (await self._known()).values()
        sealed = [self._anew(each, master) for each in secrets]
        await self._rows.replace(was, master.lock, sealed, self._audited("rotated", "", f"{len(sealed)} secrets"))
        self._master = master
        return len(sealed)

    def _anew(self, secret: Secret, master: Master) -> Secret:
        made = sealing.seal(master, secret.name, secret.version, sealing.open(self._master, secret))
        return Secret(
            name=made.name, version=made.version, wrapped=made.wrapped, sealed=made.sealed, set_at=secret.set_at
        )

    async def _known(self) -> dict[str, Secret]:
        return {each.name: each for each in await self._rows.secrets()}

    def _audited(self, what: str, name: str, whom: str = "") -> Audited:
        return Audited(what=what, name=name, who=self._who, whom=whom)

    async def _see(self, lock: Lock | None) -> None:
        if lock is not None and lock != self._master.lock:
            raise WrongKey(
                "this key does not open the vault",
                why=f"its secrets are sealed under {_told(lock)}, this is {_told(self._master.lock)}",
                fix="relit key import FILE, or mend vault.passphrase; relit secret rotate goes from one to the other",
            )


def _told(lock: Lock) -> str:
    return f"{'the key' if lock.kind == 'key' else 'a passphrase'} {lock.key[:8]}"


def _check(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} is no name for a secret",
            why="letters, digits, dots, dashes and underscores, 128 at most, and a letter or digit first",
            fix="relit secret set NAME",
        )
    if not value:
        raise Invalid(f"{name} has no value", why="nothing was given", fix=f"relit secret set {name}")
    if len(value.encode("utf-8", "surrogateescape")) > VALUE_MOST:
        raise Invalid(
            f"{name} is too large", why=f"a secret may have {VALUE_MOST >> 10} KiB", fix="keep a file instead"
        )
