"""What the service of homes is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from relit.events import Event
from relit.lib.clock import Clock
from relit.volumes.base import Catalog, Watcher
from relit.volumes.capture import Spooling
from relit.volumes.restore import Restorer
from relit.volumes.syncing import settle


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """``waiting``: bytes in the spool; with ``most_waiting`` there snapshots pause. ``sync`` waits until the disk has a
    home that was laid."""

    catalog: Catalog
    spool: Spooling
    restorer: Callable[[Path], Restorer]
    watcher: Watcher
    id_of: Callable[[memoryview], bytes]
    clock: Clock
    new_id: Callable[[], str]
    report: Callable[[Sequence[Event]], Awaitable[None]]
    waiting: Callable[[], int] = lambda: 0
    most_waiting: int = 2**63
    sync: Callable[[str], None] = settle
    node: str = "local"
