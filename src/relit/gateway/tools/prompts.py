"""What stands in agents' prompts now: so that a call whose result an agent has is not answered from the record."""

from __future__ import annotations

from relit.gateway.tools import counting
from relit.gateway.tools.counting import Counts
from relit.store.values import Turn

LANES = 64  # conversations of a turn whose prompts are kept apart


class _Seen:
    """Of one life of a turn: the newest prompt of each conversation, what stood in all that are not kept apart any
    more, and the ``most`` that stood in any. ``relives``: the newest answer was another life's, too."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.relives = False
        self.most: Counts = Counts()
        self._lanes: dict[str, Counts] = {}
        self._others: Counts | None = None

    def saw(self, lane: str, counts: Counts) -> None:
        self.most |= counts
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

    def saw(self, agent: str, turn: Turn, lane: str, body: bytes) -> bool:
        """A call to a model passes. Whether it offers tools, in a turn."""
        if not turn.run or (counts := counting.done(body)) is None:
            return False
        known = self._known.get(agent)
        if known is None or known.turn != turn:
            known = self._known[agent] = _Seen(turn)
        known.saw(lane, counts)
        return True

    def answered(self, agent: str, turn: Turn, *, replayed: bool) -> None:
        """Such a call is answered, ``replayed`` from the record of an earlier life."""
        if (known := self._of(agent, turn)) is not None:
            known.relives = replayed

    def relives(self, agent: str, turn: Turn) -> bool:
        """Whether the agent was last told what an earlier life of its turn was told, so that it does the same."""
        known = self._of(agent, turn)
        return known is not None and known.relives

    def count(self, agent: str, turn: Turn, tool: str, hash: str) -> int | None:
        """How often a call stands with its result in the prompt. Where there are several: in that in which it stands
        least often, as long as the agent lives its turn again, since it may be that one's; then as often as it ever
        stood in one, since what is asked for by a new one, or after a summary, is meant. ``None``: nobody knows."""
        known = self._of(agent, turn)
        if known is None:
            return None
        return known.least(tool, hash) if known.relives else counting.count(known.most, tool, hash)

    def _of(self, agent: str, turn: Turn) -> _Seen | None:
        known = self._known.get(agent)
        return known if known is not None and known.turn == turn else None
