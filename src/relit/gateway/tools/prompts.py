"""What stands in agents' prompts now: so that a call whose result an agent has is not answered from the record."""

from __future__ import annotations

from relit.gateway.tools import counting
from relit.gateway.tools.counting import Counts
from relit.store.values import Turn

LANES = 64  # conversations of a turn whose prompts are kept apart


class _Seen:
    """Of one turn: the newest prompt of each conversation, and what stood in all that are not kept apart any more."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self._lanes: dict[str, Counts] = {}
        self._others: Counts | None = None

    def saw(self, lane: str, counts: Counts) -> None:
        self._lanes.pop(lane, None)
        self._lanes[lane] = counts
        if len(self._lanes) > LANES:
            oldest = self._lanes.pop(next(iter(self._lanes)))
            self._others = oldest if self._others is None else self._others & oldest

    def least(self, tool: str, hash: str) -> int:
        others = [] if self._others is None else [self._others]
        return min(counting.count(counts, tool, hash) for counts in (*self._lanes.values(), *others))


class Prompts:
    """Of each agent's newest life, by conversation. A gateway that has just started knows none."""

    def __init__(self) -> None:
        self._known: dict[str, _Seen] = {}

    def saw(self, agent: str, turn: Turn, lane: str, body: bytes) -> None:
        """A call to a model passes."""
        if not turn.run or (counts := counting.done(body)) is None:
            return
        known = self._known.get(agent)
        if known is None or known.turn != turn:
            known = self._known[agent] = _Seen(turn)
        known.saw(lane, counts)

    def count(self, agent: str, turn: Turn, tool: str, hash: str) -> int | None:
        """How often a call stands with its result in the prompt; where there are several, in that in which it stands
        least often. ``None``: nobody knows."""
        known = self._known.get(agent)
        return None if known is None or known.turn != turn else known.least(tool, hash)
