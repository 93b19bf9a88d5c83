"""What answers to probes mean, and how long a start may take. Pure."""

from __future__ import annotations

from typing import NamedTuple, Self

RETRY = 0.4  # of a probe's span, until the next question after one that was not answered
PATIENCE = 3  # times the time that a start should need, at most, for one that goes on
STALLED = 3  # a start without progress for this part of that time does not go on


class Misses(NamedTuple):
    """Questions in a row that were not answered. ``most``: so many mean that nobody will."""

    most: int
    row: int = 0

    def heard(self, *, answered: bool) -> Self:
        """After one more question."""
        return self._replace(row=0 if answered else self.row + 1)

    @property
    def silent(self) -> bool:
        return self.row >= self.most

    def wait(self, span: float) -> float:
        """Until the next question, which comes sooner when there was no answer."""
        return span * RETRY if self.row else span


class Start(NamedTuple):
    """A start that began at ``began``; ``moved``: when it was last seen to get on, by the ``mark`` of how far it is."""

    began: float
    moved: float
    mark: tuple[int, int]

    def seen(self, mark: tuple[int, int], now: float) -> Self:
        """After one more look."""
        return self if mark == self.mark else self._replace(moved=now, mark=mark)

    def too_slow(self, now: float, most_s: float) -> bool:
        """Whether it is given up: it should have needed ``most_s``, and either stands still or has had three times
        that."""
        took, stood = now - self.began, now - self.moved
        return took > most_s and (stood > most_s / STALLED or took > most_s * PATIENCE)
