"""What relit.toml allows agents to spend, and which turns wait until there is more."""

from __future__ import annotations

from relit.settings import Settings
from relit.settings.model import Budget as Allowance
from relit.store.base import Store
from relit.store.sql.calls import USD, day_of
from relit.store.values import Budget
from relit.turns.money import Shortage, shortage


def of_agents(settings: Settings) -> dict[str, Budget]:
    """By agent."""
    found = {name: _budget(f"agent:{name}", agent.budget) for name, agent in settings.agents.items()}
    return {name: each for name, each in found.items() if each is not None}


def of_models(settings: Settings) -> dict[str, Budget]:
    """By route."""
    found = {name: _budget(f"model:{name}", model.budget) for name, model in settings.models.items()}
    return {name: each for name, each in found.items() if each is not None}


class Purse:
    """What is left for the turns of these settings' agents."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._limits = limits(settings)
        self._store = store

    async def shortage(self, run: str) -> Shortage | None:
        """See ``relit.turns.money``."""
        calls, now_ms = await self._store.calls.of_run(run), await self._store.now_ms()
        return shortage(calls, self._limits, await self._store.calls.spending(day_of(now_ms)), now_ms)


def limits(settings: Settings) -> dict[str, int]:
    """By scope, in billionths of a US dollar a day."""
    return {each.scope: each.limit for each in (*of_agents(settings).values(), *of_models(settings).values())}


def _budget(scope: str, table: Allowance) -> Budget | None:
    if table.day is None:
        return None
    limit = round(float(table.day.removesuffix("USD")) * USD)
    return Budget(scope=scope, limit=limit, warn=limit * table.warn // 100)
