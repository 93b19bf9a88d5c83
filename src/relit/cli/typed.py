"""Messages as a person types them, or a script writes them: one a line; ``\\`` at its end goes on in the next."""

from __future__ import annotations

import contextlib
import select
import sys

from relit.cli.screen import Screen

_PASTED_S = 0.03  # what is there so soon after a line was not typed


class Typed:
    """Standard input. ``live``: it is a terminal, with a prompt, and with editing where Python has readline."""

    def __init__(self, screen: Screen) -> None:
        self.live = sys.stdin.isatty() and sys.stdout.isatty() and not screen.as_json
        self._colour = screen.colour
        if self.live:
            with contextlib.suppress(ImportError):  # then a line is edited as the terminal does it
                import readline  # noqa: F401 - it takes the place of what ``input`` does

    def message(self, prompt: str) -> str | None:
        """The next message; ``None`` at the end. Raises ``KeyboardInterrupt``."""
        line = self._line(prompt)
        if line is None:
            return None
        lines = [line]
        while (more := self._more(lines)) is not None:
            lines.append(more)
        return "\n".join(lines).strip()

    def _more(self, lines: list[str]) -> str | None:
        """What belongs to the same message."""
        if lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            return self._line("… ")
        if self.live and select.select([sys.stdin], [], [], _PASTED_S)[0]:
            return self._line("")
        return None

    def _line(self, prompt: str) -> str | None:
        if not self.live:
            line = sys.stdin.readline()
            return line.removesuffix("\n") if line else None
        try:
            return input(self._painted(prompt))
        except EOFError:
            return None

    def _painted(self, prompt: str) -> str:
        """Readline must know what takes no room."""
        return f"\x01\x1b[1m\x02{prompt}\x01\x1b[0m\x02" if self._colour and prompt else prompt
