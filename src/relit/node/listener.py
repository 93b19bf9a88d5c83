"""Who hears what becomes of an instance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from relit.control.care import Incident
from relit.control.values import Death


class Listener:
    """What an instance tells its node."""

    def __init__(
        self,
        note: Callable[[str, dict[str, Any]], None],
        died: Callable[[Death], None],
        changed: Callable[[], None],
        incident: Callable[[Incident], None],
        drained: Callable[[], Awaitable[None]],
    ) -> None:
        self.note, self.died, self.changed, self.incident, self.drained = note, died, changed, incident, drained
