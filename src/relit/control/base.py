"""The seam between a node and the server: what a node may ask and tell, wherever the server is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from relit.control.care import ConfigFile, Incident, KnownGood, Tried, Went
from relit.control.values import Activity, Death, Desired, Measured, NodeInfo
from relit.events import Event


class ControlBackend(Protocol):
    """What the server does with a node's words. ``app`` binds it to the store.

    Every call may come twice (a lost answer is asked again) and must then do no harm.
    """

    async def hello(self, node: NodeInfo) -> None:
        """A node lives: it started, or it found the server again."""
        ...

    async def report(self, events: Sequence[Event]) -> None:
        """What happened on the node, in order."""
        ...

    async def desired(self, version: int, wait_s: float) -> Desired:
        """The wanted instances, as soon as their version is not ``version``, at the latest after ``wait_s``."""
        ...

    async def worker_died(self, death: Death) -> None:
        """Take that process's runs back now. A process that is no worker is fine."""
        ...

    async def incident(self, incident: Incident) -> None:
        """A trouble as it is now. Reported again whenever it changes; the last word holds."""
        ...

    async def known_good(
        self, agent: str, files: Sequence[ConfigFile] = (), *, broken: bool = False, before: Sequence[str] = ()
    ) -> KnownGood:
        """What an agent can go back to, and how these files of its home differ from that. ``broken``: they are wrong,
        for sure, so that any which were others will do; ``before``: what was, in this trouble (``KnownGood.broken``).
        Takes a snapshot of the home as it is first. Raises what volumes raise."""
        ...

    async def go_back(self, agent: str, number: int, files: Sequence[str] = ()) -> Went:
        """Put ``files`` (none: the whole home) back as they were in that snapshot; what is replaced is kept. The agent
        is held meanwhile. Raises what volumes raise."""
        ...

    async def try_home(self, agent: str, number: int, within_ms: int) -> Tried:
        """Start a clone of the agent on its home as in that snapshot, silent towards the world, and say within that
        time, after it was laid, how it did. Nothing of the clone stays. Raises what volumes raise; Conflict when no
        clone can be made."""
        ...

    async def mark_good(self, agent: str) -> int:
        """Take a snapshot, and tag it known-good. Answers its number; 0 when it was taken between a run's beginning
        and its end, and is not tagged."""
        ...

    async def activity(self) -> Activity:
        """Who has something to do."""
        ...

    async def footprints(self, learnt: Sequence[Measured]) -> list[Measured]:
        """What this node measured, for what all nodes did."""
        ...


class Control(ControlBackend, Protocol):
    """The node's side. Every call raises ``ServerUnreachable`` when no answer comes in time."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
