"""How far a long piece of work is: one moving line at a terminal, else a line for each phase; NDJSON for programs."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from relit.cli.screen import clean
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.durations import human

if TYPE_CHECKING:
    from rich.status import Status

    from relit.agents.runtimes import Progress
    from relit.cli.session import Session


class Steps:
    """Tells about steps while the block runs."""

    def __init__(self, session: Session) -> None:
        self._screen = session.screen
        self._moves = sys.stderr.isatty() and not self._screen.as_json and not self._screen.quiet
        self._status: Status | None = None
        self._began = SYSTEM_CLOCK.monotonic()
        self._last: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        if self._moves:
            from rich.console import Console  # a tenth of a second that other commands need not pay

            self._status = Console(stderr=True, no_color=not self._screen.colour).status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def install(self, now: Progress) -> None:
        """What an installation tells."""
        self._tell((now.kind, now.phase, now.text), f"{now.kind} {now.version}: {now.text}", now.line, now)

    def step(self, text: str, detail: str = "") -> None:
        """What any other work does now."""
        elapsed = round((SYSTEM_CLOCK.monotonic() - self._began) * 1000)
        self._tell((text,), text, detail, {"phase": "step", "text": text, "elapsed_ms": elapsed, "line": detail})

    def _tell(self, phase: tuple[str, ...], text: str, line: str, told: Any) -> None:
        if self._screen.as_json:
            self._screen.row({"event": "progress", **msgspec.to_builtins(told)})
        elif self._status is not None:
            self._status.update(self._moving(text, line))
        elif phase != self._last:
            self._screen.note(text)
        self._last = phase

    def _moving(self, text: str, line: str) -> str:
        from rich.markup import escape

        elapsed = human(round((SYSTEM_CLOCK.monotonic() - self._began) * 1000))
        return f"{escape(text)} [dim]{elapsed}  {escape(clean(line)[:80])}[/dim]"
