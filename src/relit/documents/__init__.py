"""What the HTTP API says: the shapes that server and client share.

Times are ms since 1970. A payload's field is absent when it was not asked for; a large one that was not asked for in
full is ``{"$blob": hash, "size": bytes}``. Readers ignore fields they do not know, so a newer server may add some.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from relit.documents.incidents import (
    Incident,
    IncidentDetail,
    IncidentEffect,
    IncidentEntry,
    IncidentRun,
    Incidents,
)
from relit.documents.tools import ToolCall, ToolCalls, TurnCalls
from relit.documents.usage import BudgetState, ModelCall, ModelCalls, UsageReport, UsageSum
from relit.documents.volumes import (
    Change,
    Damage,
    Diff,
    Dropped,
    File,
    Files,
    Mark,
    Messages,
    Pruned,
    Rebuilt,
    Removed,
    Restored,
    SinceEffect,
    SinceMessage,
    Skipped,
    Snapshot,
    Snapshots,
    Taken,
    Verified,
    Volume,
    Volumes,
    VolumeStats,
)
from relit.events import Event
from relit.store.values import FINAL, Doubt, EffectState, Outcome, Request, RunKind, RunState, WaitKind

__all__ = [
    "Accepted",
    "Agent",
    "Agents",
    "BudgetState",
    "Change",
    "Damage",
    "Delivered",
    "Diff",
    "Dropped",
    "Effect",
    "Effects",
    "Events",
    "Failure",
    "File",
    "Files",
    "Firing",
    "Firings",
    "Health",
    "Incident",
    "IncidentDetail",
    "IncidentEffect",
    "IncidentEntry",
    "IncidentRun",
    "Incidents",
    "Item",
    "Mailbox",
    "Mailboxes",
    "Mark",
    "Messages",
    "ModelCall",
    "ModelCalls",
    "Node",
    "Nodes",
    "Problem",
    "Pruned",
    "Rebuilt",
    "Removed",
    "Restored",
    "Run",
    "Runs",
    "Schedule",
    "Schedules",
    "SinceEffect",
    "SinceMessage",
    "Skipped",
    "Snapshot",
    "Snapshots",
    "Step",
    "Steps",
    "Subscriber",
    "Subscribers",
    "Taken",
    "Token",
    "Tokens",
    "ToolCall",
    "ToolCalls",
    "TurnCalls",
    "UsageReport",
    "UsageSum",
    "Verified",
    "Volume",
    "VolumeStats",
    "Volumes",
    "Wait",
    "Waits",
    "Worker",
    "Workers",
]


class Problem(msgspec.Struct, kw_only=True):
    """An error (RFC 9457). ``code`` is stable, ``fix`` is the next thing to do, ``retry`` whether it can help."""

    type: str
    title: str
    status: int
    detail: str = ""
    code: str = "error"
    fix: str = ""
    retry: bool = False


class Failure(msgspec.Struct, kw_only=True):
    """Why a run or a step failed. ``type`` is the exception's name in the code that raised it."""

    type: str = ""
    message: str = ""
    what: str = ""
    why: str = ""
    fix: str = ""
    retry: bool | None = None
    traceback: str = ""


class Run(msgspec.Struct, kw_only=True):
    """A run as it stands."""

    id: str
    target: str
    agent: str
    workflow: str
    kind: RunKind
    state: RunState
    reason: str | None = None
    mailbox: str | None = None
    key: str | None = None
    priority: int = 50
    wake_at: int | None = None
    expires_at: int | None = None
    deadline_at: int | None = None
    epoch: int = 0
    worker: str | None = None
    attempt: int = 0
    max_attempts: int = 1
    crashes: int = 0
    request: Request | None = None
    input: Any | UnsetType = UNSET
    output: Any | UnsetType = UNSET
    error: Failure | None = None
    failed_pos: str | None = None
    parent: str | None = None
    parent_pos: str | None = None
    continued_to: str | None = None
    forked_from: str | None = None
    schedule: str | None = None
    created_at: int = 0
    started_at: int | None = None
    finished_at: int | None = None
    taken_over: str | None = None
    beat: Any | UnsetType = UNSET
    beat_at: int | None = None

    @property
    def final(self) -> bool:
        """Whether nothing will happen to it any more by itself."""
        return self.state in FINAL


class Runs(msgspec.Struct, kw_only=True):
    """A page of runs, newest first. ``next``: pass it as ``before`` for the next page; absent on the last."""

    runs: list[Run]
    next: str | None = None


class Accepted(msgspec.Struct, kw_only=True):
    """A run that is on disk. ``created`` is false when an idempotency key matched an earlier run: this is that one."""

    id: str
    created: bool
    note: str = ""


class Step(msgspec.Struct, kw_only=True):
    """One recorded action of a run."""

    seq: int
    pos: str
    kind: str
    name: str
    result: Any | UnsetType = UNSET
    error: Failure | None = None
    started_at: int = 0
    finished_at: int = 0
    attempts: int = 1


class Steps(msgspec.Struct, kw_only=True):
    """A page of a journal. ``next``: pass it as ``after`` for the next page; absent on the last."""

    steps: list[Step]
    next: int | None = None


class Wait(msgspec.Struct, kw_only=True):
    """Something a run waits for. ``name``: the signal's name, or the child's run id."""

    pos: str
    kind: WaitKind
    name: str = ""
    wake_at: int | None = None


class Waits(msgspec.Struct, kw_only=True):
    """All that a run waits for."""

    waits: list[Wait]


class Item(msgspec.Struct, kw_only=True):
    """One item that a run emitted. When ``attempt`` grows, its step started over."""

    idx: int
    pos: str
    attempt: int
    data: Any = None
    at: int = 0


class Delivered(msgspec.Struct, kw_only=True):
    """A signal that is on disk. ``created`` is false when a signal with that id was there already."""

    id: str
    created: bool


class Effect(msgspec.Struct, kw_only=True):
    """An effect: its intent, and what became of it."""

    run: str
    pos: str
    name: str
    doubt: Doubt
    key: str
    state: EffectState
    request: Any | UnsetType = UNSET
    result: Any | UnsetType = UNSET
    intent_at: int = 0
    deadline_at: int = 0


class Effects(msgspec.Struct, kw_only=True):
    """Effects that are open or in doubt, or those asked for. ``tools``: calls to tools that are; they are the effects
    of agents without an SDK."""

    effects: list[Effect]
    tools: list[ToolCall] = []


class Agent(msgspec.Struct, kw_only=True):
    """An agent as the store knows it: what of it runs, and its mailbox."""

    name: str
    targets: list[str]
    workers: int
    runs: dict[str, int]
    mailbox: Mailbox | None = None


class Agents(msgspec.Struct, kw_only=True):
    """All agents."""

    agents: list[Agent]


class Mailbox(msgspec.Struct, kw_only=True):
    """A mailbox: its limits (``null``: none) and how full it is."""

    name: str
    concurrency: int | None
    key_concurrency: int | None
    depth: int | None
    rate: float | None
    burst: int
    paused: bool
    queued: int = 0
    active: int = 0
    parked: int = 0
    dead: int = 0
    oldest_at: int | None = None


class Mailboxes(msgspec.Struct, kw_only=True):
    """All mailboxes."""

    mailboxes: list[Mailbox]


class Schedule(msgspec.Struct, kw_only=True):
    """A schedule. ``spec`` holds what it was made with: ``every`` or ``cron``, ``zone``, ``missed``, ``overlap``…"""

    name: str
    target: str
    agent: str
    workflow: str
    spec: dict[str, Any]
    input: Any | UnsetType = UNSET
    paused: bool = False
    next_at: int | None = None
    last_at: int | None = None


class Schedules(msgspec.Struct, kw_only=True):
    """All schedules."""

    schedules: list[Schedule]


class Firing(msgspec.Struct, kw_only=True):
    """What became of one due moment of a schedule."""

    schedule: str
    due_at: int
    outcome: Outcome
    run: str | None = None
    reason: str | None = None
    at: int = 0


class Firings(msgspec.Struct, kw_only=True):
    """A schedule's last firings, newest first."""

    firings: list[Firing]


class Worker(msgspec.Struct, kw_only=True):
    """A worker process."""

    id: str
    host: str
    pid: int
    targets: list[str]
    state: str
    joined_at: int = 0
    lease_left_ms: int = 0


class Workers(msgspec.Struct, kw_only=True):
    """Worker processes."""

    workers: list[Worker]


class Node(msgspec.Struct, kw_only=True):
    """A machine on which workers live."""

    host: str
    boot: str
    workers: int
    targets: list[str]


class Nodes(msgspec.Struct, kw_only=True):
    """All machines that have a live worker."""

    nodes: list[Node]


class Events(msgspec.Struct, kw_only=True):
    """A page of events. ``next``: pass it as ``after`` to go on, now or later."""

    events: list[Event]
    next: str


class Subscriber(msgspec.Struct, kw_only=True):
    """An outgoing webhook. ``secret`` is shown once, in the answer that made it."""

    name: str
    url: str
    events: list[str]
    cursor: str = ""
    failures: int = 0
    retry_at: int | None = None
    secret: str | UnsetType = UNSET


class Subscribers(msgspec.Struct, kw_only=True):
    """All outgoing webhooks."""

    subscribers: list[Subscriber]


class Token(msgspec.Struct, kw_only=True):
    """An API token. ``token`` itself is shown once, in the answer that made it."""

    name: str
    scopes: list[str]
    created_at: int
    token: str | UnsetType = UNSET


class Tokens(msgspec.Struct, kw_only=True):
    """All API tokens, without their secrets."""

    tokens: list[Token]


class Health(msgspec.Struct, kw_only=True):
    """The answer of ``/healthz`` and ``/readyz``."""

    status: str
    version: str
