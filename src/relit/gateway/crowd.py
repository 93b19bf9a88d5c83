"""How many calls each agent has under way: one that asks for too many at once must not take the room of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from relit.gateway.refusal import Refused

AT_ONCE = 64
BYTES_MOST = 256 << 20  # of one agent's requests that are in memory


class Crowd:
    """``most`` calls of one agent at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    @contextmanager
    def place(self, agent: str) -> Iterator[bool]:
        """A place for a call of that agent's, as long as it takes; ``False``: there is none."""
        if self._inside[agent] >= self._most:
            yield False
            return
        self._inside[agent] += 1
        try:
            yield True
        finally:
            self._inside[agent] -= 1
            if not self._inside[agent]:
                del self._inside[agent]

    @contextmanager
    def room(self, agent: str) -> Iterator[Callable[[int], None]]:
        """For a request of that agent's: told how many bytes more are read of it, it may raise ``Refused``."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if self._bytes[agent] + size > BYTES_MOST:
                why = f"the calls of this agent that are under way have {BYTES_MOST >> 20} MB in all"
                raise Refused(429, "too-many-calls", why, retry=True)
            self._bytes[agent] += size
            taken += size

        try:
            yield take
        finally:
            self._bytes[agent] -= taken
            if not self._bytes[agent]:
                del self._bytes[agent]

    def full(self) -> Refused:
        """What an agent is told that has none."""
        why = f"as many calls as this agent may have at once are under way (gateway.concurrency = {self._most})"
        return Refused(429, "too-many-calls", why, retry=True)
