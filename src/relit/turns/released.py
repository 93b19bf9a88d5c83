"""What followers have of an answer, and what they are told when the answer comes again.

Text that was released stays: of an answer that begins with it only the rest is told. One that does not is told whole,
after ``{"restarted": N}``: what came before it counts no more. Whoever puts the pieces together, from nothing at each
``restarted`` on, has exactly the answer at its end.
"""

from __future__ import annotations

from typing import Any

Item = dict[str, Any]


class Assembled:
    """What a follower has after the items that it saw. ``restarts``: how often the answer began anew."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.restarts = 0

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._pieces)

    def see(self, item: Any) -> None:
        """An item of the run; those of other kinds change nothing."""
        match item:
            case {"text": str(piece), **rest} if not rest:
                self._pieces.append(piece)
            case {"restarted": _, **rest} if not rest:
                self._pieces.clear()
                self.restarts += 1


class Telling:
    """One delivery's answer, told to those who have something of it already."""

    def __init__(self, had: Assembled) -> None:
        self._had = had.text
        self._restarts = had.restarts
        self._at = 0  # how much of that has come again

    def piece(self, text: str) -> list[Item]:
        """The answer goes on with ``text``: what is told of it."""
        left = len(self._had) - self._at
        if not left:
            return [{"text": text}] if text else []
        if self._had.startswith(text[:left], self._at):
            self._at += min(left, len(text))
            return [{"text": text[left:]}] if text[left:] else []
        return self._anew(text)

    def end(self) -> list[Item]:
        """The answer is whole; one that is less than what was told of it has to be told anew."""
        return self._anew("") if self._at < len(self._had) else []

    def _anew(self, text: str) -> list[Item]:
        whole = self._had[: self._at] + text
        self._had, self._at, self._restarts = "", 0, self._restarts + 1
        return [{"restarted": self._restarts}, *([{"text": whole}] if whole else [])]
