"""The seam between the vault and the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from relit.store.values import Audited, Lock, Secret


class Rows(Protocol):
    """Where secrets lie, sealed. A change and its entry in the audit trail are one commit."""

    async def lock(self) -> Lock | None:
        """What the secrets are sealed under; ``None`` before the first one."""
        ...

    async def begin(self, lock: Lock) -> Lock:
        """Seal under that from now on; answers what another process was first with, if it was."""
        ...

    async def secrets(self) -> list[Secret]:
        """All of them, by name."""
        ...

    async def put(self, lock: Lock, secret: Secret, audited: Audited) -> None:
        """Add it, or put it in place of the version before it. Overtaken: ``lock`` or that version is not the
        newest."""
        ...

    async def remove(self, name: str, audited: Audited) -> None:
        """NotFound when there is none."""
        ...

    async def replace(self, was: Lock, lock: Lock, secrets: Sequence[Secret], audited: Audited) -> None:
        """All of them, sealed anew under ``lock``. Overtaken: something has changed meanwhile; nothing is written."""
        ...

    async def audit(self, entries: Sequence[Audited]) -> None:
        """Write into the audit trail."""
        ...

    async def audited(self, *, name: str = "", before: int | None = None, limit: int = 100) -> list[Audited]:
        """The audit trail, newest first; of one secret; page with ``before`` (an id)."""
        ...
