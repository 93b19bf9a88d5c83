"""The seam to the calls that agents make to tools: what was asked, allowed, sent, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

ToolState = Literal["held", "approved", "denied", "expired", "open", "done", "failed", "in_doubt", "replayed"]
Effect = Literal["read", "natural-key", "native-key", "lookup", "ask"]
WAITS, HEARD, GAVE_UP = 0, 1, 2
"""Of a caller: it waits for the result, it has it, it went away without."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of an agent to a tool.

    ``run``, ``life``: the turn that it belongs to, and which life of it that was; empty: none was under way.
    ``hash`` is equal for calls with the same arguments, ``same`` for those that mean the same (empty: only equal
    arguments do). ``seen``: how many such calls stood with their results in the agent's prompt when it was made;
    ``None``: nobody knows. ``key``: the idempotency key. ``arguments`` are JSON; so is ``result`` (or ``blob``, where
    it lies), MCP's content. ``failed``: the result is an error. ``heard``: of the caller. ``owed``: its agent is told
    of the end by a message. ``sent_at``, ``deadline_at``: of the newest attempt. ``replayed``: it got the result of
    ``source``.
    """

    id: str
    agent: str
    run: str = ""
    life: str = ""
    number: int = 0
    tool: str
    effect: Effect
    state: ToolState = "open"
    hash: str
    same: str = ""
    seen: int | None = None
    key: str = ""
    arguments: bytes = b"{}"
    result: bytes | None = None
    blob: str | None = None
    failed: bool = False
    why: str = ""
    gateway: str = ""
    heard: int = WAITS
    owed: bool = False
    started_at: int = 0
    sent_at: int | None = None
    deadline_at: int | None = None
    ended_at: int | None = None
    expires_at: int | None = None
    decided_by: str = ""
    source: str = ""

    @property
    def final(self) -> bool:
        """Whether nothing more becomes of it."""
        return self.state in ("denied", "expired", "done", "failed", "replayed")


class ToolEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended. ``failed``: certainly nothing happened, and it may be made again."""

    id: str
    state: Literal["done", "failed", "in_doubt"]
    result: bytes | None = None
    blob: str | None = None
    failed: bool = False
    why: str = ""


class Note(msgspec.Struct, frozen=True):
    """What an agent wants to remember, whatever becomes of its home."""

    name: str
    text: str
    at: int


UNHEARD_MS = 600_000  # so long a result that nobody heard is kept for whoever makes the same call
EARLIER = "an earlier life's"  # why a call that was replayed is told so


class ToolCalls(Protocol):
    """Durable, as all of a store. Topic ``tools``: something was decided."""

    async def begin(self, call: ToolCall, seen: int, *, relives: bool = True) -> tuple[ToolCall, ToolCall | None]:
        """Write it down, as ``open`` or ``held``; with the earlier call whose result it gets, if there is one (it is
        written down as ``replayed`` then). ``seen``: so many such calls stand in the agent's prompt with their results.
        An earlier call answers when it was another life's and its result does not stand there, when its caller went
        away without, or when it is undecided; each once. ``relives``: what the agent does is what an earlier life of
        the turn did. Where it does something else, what only reads, or may be done twice, is done anew (but for what
        nobody heard, no longer ago than ``UNHEARD_MS``; of reads only this life's), and ``why`` of what is answered by
        another life's call is ``EARLIER``: the agent is to be told. (Outside of turns: when its caller went away
        without no longer ago than ``UNHEARD_MS``, and it must not be made twice; or when it is undecided.) A new call
        of a turn gets a key that is the same whenever the turn is lived again; when the turn came back from a copy of
        the store, and its effect is ``ask`` or ``lookup``, it is ``in_doubt`` from the start."""
        ...

    async def send(self, seen: ToolCall, gateway: str, deadline_at: int) -> ToolCall | None:
        """Take it: approved, in doubt, or left open by another gateway, which is dead. ``None``: it is not any more as
        whoever takes it saw it: somebody else has taken it, or it has ended."""
        ...

    async def again(self, id: str, deadline_at: int) -> None:
        """A further attempt begins, and can have no effect after that. Of one that has ended nothing is changed."""
        ...

    async def end(self, end: ToolEnd) -> ToolCall:
        """An attempt has ended; the call as it is then."""
        ...

    async def hear(self, id: str, heard: int, *, owed: bool = False) -> None:
        """What became of its caller."""
        ...

    async def gateways(self) -> list[str]:
        """Those whose callers wait."""
        ...

    async def abandon(self, gateway: str) -> None:
        """That gateway is dead: whoever waited there waits no more."""
        ...

    async def decide(self, id: str, approve: bool, by: str, why: str = "") -> ToolCall:
        """A person's word on a call that is held. NotFound, Conflict."""
        ...

    async def resolve(self, id: str, by: str, result: bytes | None) -> ToolCall:
        """A person's word on a call in doubt: ``result``: it happened. ``None``: it did not, and is sent again.
        NotFound, Conflict."""
        ...

    async def expire(self) -> list[ToolCall]:
        """End what was held for too long."""
        ...

    async def get(self, id: str) -> ToolCall:
        """NotFound."""
        ...

    async def find(self, prefix: str, limit: int = 5) -> list[str]:
        """Ids that begin or end so."""
        ...

    async def waiting(self, states: Sequence[ToolState] = ("held", "in_doubt")) -> list[ToolCall]:
        """In these states, oldest first."""
        ...

    async def owing(self) -> list[ToolCall]:
        """Ended, and their agents are still to be told."""
        ...

    async def of_run(self, run: str) -> list[ToolCall]:
        """In their order."""
        ...

    async def note(self, agent: str, name: str, words: str) -> None:
        """Keep a note of an agent's, in the place of one of that name; without words: keep none."""
        ...

    async def notes(self, agent: str) -> list[Note]:
        """An agent's notes, by name."""
        ...

    async def of_agent(self, agent: str, limit: int = 100) -> list[ToolCall]:
        """Newest first."""
        ...
