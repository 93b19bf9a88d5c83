"""An agent's configuration while it lives. Whoever ruins it is told so at once, and no home with a ruined one is taken
for good: most agents go on with what they have read, and die of an edit only at their next start."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from relit.control.care import Care
from relit.control.values import InstanceSpec
from relit.node.race import beat
from relit.node.redact import Redactor, telling

LOOK_S = 5.0  # between looks; what is the same at two of them is no longer being written
FRESH_MS = 2000  # a life that is younger has begun with the configuration as it is
ASK_S = 60.0  # between questions to the agent's own check, which costs as much as a start of it
Mark = tuple[tuple[int, int, int] | None, ...]


class Checks(Protocol):
    """Who knows what is wrong with it."""

    async def check(self, care: Care) -> str:
        """By the rules of its kind; empty for nothing."""
        ...

    async def validate(self, spec: InstanceSpec, care: Care) -> str | None:
        """By the agent's own check; ``None``: it said nothing."""
        ...

    @property
    def busy(self) -> bool:
        """Whether that can wait."""
        ...


class Edits:
    """Of one life. ``fresh``: it starts just now, with the configuration as it is."""

    def __init__(self, spec: InstanceSpec, checks: Checks, note: Callable[..., None], *, fresh: bool) -> None:
        self._spec = spec
        self._checks = checks
        self._note = note
        self._seen: Mark | None = None
        self._wrong = ""
        self._told = ""
        self._good = self._mark() if fresh else None  # with what it was it has started
        self._asked = self._time()  # amid starts, and when a node begins, nobody is asked
        self._turn = asyncio.Lock()

    async def look(self) -> str:
        """What is wrong with it now; empty for nothing that is known."""
        async with self._turn:
            now, settled = await asyncio.to_thread(self._mark), True
            if now != self._seen:
                self._seen, settled = now, False
                self._wrong = await self._by_rules()
            due = settled and not self._wrong and now != self._good and self._time() - self._asked >= ASK_S
            if due and not self._checks.busy:  # else at another look: the rules do not wait
                await self._ask(now)
            self._tell()
            return self._wrong

    async def good(self) -> bool:
        """Whether the next start would take it: what the agent has not started with is shown to its own check."""
        while self._checks.busy and await asyncio.to_thread(self._mark) != self._good:
            await beat(LOOK_S)
        async with self._turn:
            now = await asyncio.to_thread(self._mark)
            self._seen, self._wrong = now, await self._by_rules()
            if not self._wrong and now != self._good:
                await self._ask(now)
            self._tell()
            return not self._wrong and now == self._good == await asyncio.to_thread(self._mark)

    async def _by_rules(self) -> str:
        return "" if self._spec.care is None else await self._checks.check(self._spec.care)

    async def _ask(self, now: Mark) -> None:
        care = self._spec.care
        self._asked = self._time()
        said = await self._checks.validate(self._spec, care) if care is not None else ""
        if said:
            self._wrong = said
        elif said is not None:
            self._good = now

    def _tell(self) -> None:
        care = self._spec.care
        if care is None or self._wrong == self._told:
            return
        if self._wrong:
            known = Redactor(
                {*self._spec.secrets, *telling(self._spec.env)}
            )  # a parser shows the line that it fails at
            why = known.redact(self._wrong.encode(errors="replace"))[0].decode(errors="replace")
            self._note("config.broken", agent=care.agent, why=why)
        else:
            self._note("config.mended", agent=care.agent)
        self._told = self._wrong

    def _mark(self) -> Mark:
        care = self._spec.care
        return tuple(_stamp(Path(care.home) / each.path) for each in care.config) if care is not None else ()

    def _time(self) -> float:
        return asyncio.get_running_loop().time()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_mtime_ns, found.st_size, found.st_ino
    return None
