"""The seam to the calls that agents make to models: what they cost, and what may still be spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from relit.store.values import Answer, Budget, ModelCall, Spending, Turn, Usage


class Calls(Protocol):
    """Durable, as all of a store."""

    async def turn(self, agent: str) -> Turn:
        """What an agent works on."""
        ...

    async def lived(self, turn: Turn) -> bool:
        """Whether another life of that turn has made calls."""
        ...

    async def before(self, call: ModelCall) -> ModelCall | None:
        """The one that ``replay`` would answer it from; nothing is written."""
        ...

    async def expected(self, call: ModelCall) -> ModelCall | None:
        """What an earlier life of the turn asked at this place of that conversation, when this life has not gone
        another way in it yet."""
        ...

    async def beside(self, call: ModelCall) -> list[ModelCall]:
        """Where no earlier life of the turn knows that conversation and this call, and it is the first of its life that
        is not replayed: a few of those that were asked in conversations that this life has not held."""
        ...

    async def replay(self, call: ModelCall) -> ModelCall | None:
        """The call of an earlier life of the same turn whose answer this one is given; it is written down as replayed.
        ``None``, and nothing written: there is none, or this life has gone another way in that conversation."""
        ...

    async def answer(self, id: str) -> Answer | None:
        """What was answered; ``None``: it was not kept."""
        ...

    async def open(self, call: ModelCall, budgets: Sequence[Budget]) -> ModelCall:
        """Write it down, and reserve ``call.reserved`` in each of these budgets: what concurrent calls reserve and have
        spent never exceeds a limit. BudgetSpent: in one there is no room; nothing was reserved, and a turn has it on
        record as ``refused``."""
        ...

    async def more(self, call: ModelCall, budgets: Sequence[Budget], refused: str) -> None:
        """It may cost more than was thought: reserve ``call.reserved`` in all. BudgetSpent: in one of these budgets
        there is no room for that; what was reserved stays, and a turn has it on record as ``refused``, with that id.
        Of one that has ended nothing is changed."""
        ...

    async def end(self, call: ModelCall, answer: Answer | None = None) -> bool:
        """How it ended, and what was answered, where that is to be kept. What it cost takes the place of what was
        reserved. False: it was ended before."""
        ...

    async def open_calls(self) -> list[ModelCall]:
        """Those that have not ended."""
        ...

    async def call(self, id: str) -> ModelCall | None:
        """One of them; ``None``: it is not on record."""
        ...

    async def of_run(self, run: str) -> list[ModelCall]:
        """In their order."""
        ...

    async def of_agent(self, agent: str, limit: int = 100) -> list[ModelCall]:
        """Newest first."""
        ...

    async def spending(self, day: str) -> list[Spending]:
        """Of each scope that has a budget, on that day (UTC, ISO 8601)."""
        ...

    async def usage(self, since: str) -> list[Usage]:
        """Sums by day, agent, route and model, from that day on."""
        ...
