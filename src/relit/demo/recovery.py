"""How relit healed an agent after a blow, read out of the incident that it wrote about it."""

from __future__ import annotations

import asyncio
from itertools import dropwhile

import msgspec

from relit.client import Client
from relit.documents import IncidentDetail, IncidentEntry
from relit.node.ladder import RUNG, Action
from relit.node.trouble import DOES

_LOOK_S = 0.05
_WELL = ("ready again", "it is over")


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """A way back to ready. Times are since the blow; ``did``: (what relit did, outcome)."""

    agent: str
    incident: str
    found_ms: int
    back_ms: int
    did: list[tuple[str, str]] = []

    @property
    def action(self) -> Action:
        """What was done at last."""
        return _action(self.did[-1][0]) if self.did else "restart"

    @property
    def rung(self) -> int:
        """The highest that was needed."""
        return max((RUNG[_action(what)] for what, _ in self.did), default=1)

    @property
    def words(self) -> str:
        """All that was done."""
        return ", then ".join(what for what, _ in self.did) or DOES["restart"]


async def recovered(client: Client, agent: str, struck_ms: int) -> Recovery:
    """Wait until an agent that was struck then (wall clock) is ready again."""
    while True:
        for brief in await client.incidents(agent, limit=1):
            if (found := read(await client.incident(brief.id), struck_ms)) is not None:
                return found
        await asyncio.sleep(_LOOK_S)


def read(incident: IncidentDetail, struck_ms: int) -> Recovery | None:
    """What it tells of what came since; ``None`` while that goes on."""
    later = [entry for entry in incident.timeline if entry.at >= struck_ms]
    since = list(dropwhile(_is_well, later))  # an older trouble may have ended in that moment
    back = next(filter(_is_well, since), None)
    if back is None:
        return None
    return Recovery(
        agent=incident.agent,
        incident=incident.id,
        found_ms=since[0].at - struck_ms,
        back_ms=back.at - struck_ms,
        did=[(each.what, each.outcome) for each in since if each.took_ms is not None],
    )


def _is_well(entry: IncidentEntry) -> bool:
    return entry.what in _WELL


def _action(what: str) -> Action:
    """What an entry's words mean."""
    return next(action for action, words in DOES.items() if what.startswith(words))
