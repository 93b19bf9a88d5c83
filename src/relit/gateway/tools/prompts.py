"""What stands in agents' prompts now: so that a call whose result an agent has is not answered from the record."""

from __future__ import annotations

from relit.gateway.tools import counting
from relit.gateway.tools.counting import Counts
from relit.store.values import Turn


class Prompts:
    """Of each agent's newest life, by conversation. A gateway that has just started knows none."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Turn, dict[str, Counts]]] = {}

    def saw(self, agent: str, turn: Turn, lane: str, body: bytes) -> None:
        """A call to a model passes."""
        if not turn.run or (counts := counting.done(body)) is None:
            return
        known = self._known.get(agent)
        lanes = known[1] if known is not None and known[0] == turn else {}
        self._known[agent] = turn, {**lanes, lane: counts}

    def count(self, agent: str, turn: Turn, tool: str, hash: str) -> int | None:
        """How often a call stands with its result in the prompt; where there are several, in that in which it stands
        least often. ``None``: nobody knows."""
        known = self._known.get(agent)
        if known is None or known[0] != turn or not known[1]:
            return None
        return min(counting.count(counts, tool, hash) for counts in known[1].values())
