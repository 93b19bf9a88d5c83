"""What goes into a store and comes out of it. Times are ms since 1970, payloads are encoded bytes.

Positions: a step's ``pos`` is its place in the workflow's code, e.g. ``3`` or ``2/0.1`` (branch 0 of the gather at
2, its second call): the same on every replay, however parallel branches interleave. ``seq`` is the order in which
steps were recorded (from 1).
"""

from __future__ import annotations

from typing import Literal

import msgspec

RunState = Literal[
    "available", "scheduled", "running", "waiting", "parked", "completed", "failed", "cancelled", "discarded"
]
FINAL: frozenset[str] = frozenset({"completed", "failed", "cancelled", "discarded"})
CallState = Literal["open", "done", "failed", "cancelled", "cut", "replayed", "refused"]
RunKind = Literal["message", "schedule", "call"]
WaitKind = Literal["timer", "signal", "child", "retry"]
Doubt = Literal["key", "lookup", "ask"]
EffectState = Literal["open", "done", "failed", "in_doubt", "kept"]  # kept: done, its step superseded; see Effect.pos
Messages = Literal["keep", "redeliver", "drop"]
Request = Literal["cancel", "pause"]
Outcome = Literal["fired", "skipped", "missed", "queued", "replaced"]
Severity = Literal["info", "warning", "critical"]
AlertKind = Literal["opened", "worse", "again", "resolved"]
AlertState = Literal["waiting", "sending", "sent", "withdrawn"]  # sending: on its way, or nobody knows whether it came


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be made. ``mailbox=None``: not limited (called workflows)."""

    id: str
    agent: str
    workflow: str  # "message" for an agent's message handler
    input: bytes
    kind: RunKind = "call"
    mailbox: str | None = None
    key: str | None = None  # per-key concurrency inside the mailbox
    priority: int = 50
    delay_ms: int = 0
    at: int | None = None  # start not before this moment; wins over delay_ms
    expire_ms: int | None = None  # not started by then: recorded as missed
    timeout_ms: int | None = None  # the run's own time limit, from creation
    max_attempts: int = 1  # 0: as many as the workflow's definition says
    dedup: str | None = None  # with dedup_ms: the same key inside the window returns the first run
    dedup_ms: int = 86_400_000
    parent: str | None = None
    parent_pos: str | None = None
    schedule: str | None = None

    @property
    def target(self) -> str:
        return f"{self.agent}/{self.workflow}"


class Enqueued(msgspec.Struct, frozen=True):
    """``created`` is false when a dedup key (or the same id) matched an earlier run."""

    id: str
    created: bool


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it stands."""

    id: str
    agent: str
    workflow: str
    kind: RunKind
    state: RunState
    reason: str | None
    mailbox: str | None
    key: str | None
    priority: int
    wake_at: int | None
    expires_at: int | None
    deadline_at: int | None
    epoch: int
    worker: str | None
    attempt: int
    max_attempts: int
    crashes: int
    request: Request | None
    input: bytes
    output: bytes | None
    error: bytes | None
    failed_pos: str | None  # several with spaces between: branches that failed together
    parent: str | None
    parent_pos: str | None
    continued_to: str | None
    forked_from: str | None
    schedule: str | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    taken_over: str | None  # how the last worker lost it: "death" (proven), "expiry", or None
    beat: bytes | None = None  # a long step's last heartbeat, and when
    beat_at: int | None = None
    recovered_at: int | None = None  # it came back from a copy of the store: later effects of it are in doubt

    @property
    def target(self) -> str:
        return f"{self.agent}/{self.workflow}"

    @property
    def final(self) -> bool:
        return self.state in FINAL


class Fence(msgspec.Struct, frozen=True):
    """A claim: writes of a run carry it, and are refused (``Fenced``) when a newer claim exists."""

    run: str
    epoch: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded action. Exactly one of ``result`` and ``error`` is set."""

    seq: int
    pos: str
    kind: str  # step | effect | sleep | signal | child | send | value | patch | forgotten | superseded
    name: str
    hash: bytes  # of the input, b"" when there is none
    result: bytes | None = None
    error: bytes | None = None
    started_at: int = 0
    finished_at: int = 0
    attempts: int = 1


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """What a waiting run waits for. ``name``: the signal's name, or the child's run id."""

    pos: str
    kind: WaitKind
    name: str = ""
    wake_at: int | None = None  # a timer, a signal's timeout, the moment of the next try
    data: bytes | None = None  # kind retry: attempt and last error


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """A signal that no ``ctx.signal`` has consumed yet. Same ``id``: same signal, delivered once."""

    id: str
    run: str
    name: str
    payload: bytes
    at: int


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """An effect's intent and what became of it.

    ``pos`` with an ``@``: the journal went back to before it, so it is adrift: nobody has come to it again yet.
    """

    run: str
    pos: str
    name: str
    doubt: Doubt
    key: str
    state: EffectState
    hash: bytes
    request: bytes | None = None  # the arguments, for a person's eye
    intent_at: int = 0
    deadline_at: int = 0  # after this the call cannot succeed any more (intent + timeout)
    result: bytes | None = None


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a replay needs, read once at claim."""

    steps: list[Step] = []
    waits: list[Wait] = []
    effects: list[Effect] = []  # those still open or in doubt, and those kept
    signals: list[Signal] = []
    children: dict[str, Run] = {}  # finished children named by ``waits``
    streamed: int = 0  # emitted stream items so far


class Rewind(msgspec.Struct, frozen=True, kw_only=True):
    """Where an agent's journal shall go back to. ``runs``: id → seq of the newest step that still counts, of the runs
    that were unfinished then. ``messages``: what becomes of those that were finished, or came, since."""

    agent: str
    at_ms: int
    event: str
    runs: dict[str, int]
    messages: Messages


class Since(msgspec.Struct, frozen=True, kw_only=True):
    """What happened after a moment. ``steps``: of each run, those that a rewind would supersede."""

    runs: list[Run]
    effects: list[Effect]
    steps: dict[str, int]


class StreamItem(msgspec.Struct, frozen=True, kw_only=True):
    """One emitted item: ``idx`` from 0 within the run. ``attempt`` grows when a step starts over."""

    idx: int
    pos: str
    attempt: int
    data: bytes
    at: int = 0


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """How a claim ends. ``state``: a final state, ``parked``, or ``scheduled`` (a retry, at ``wake_at``).

    ``forget`` lists positions whose recorded failures are dropped so that the retry does them again.
    ``next_run`` continues a completed run as a new one: it takes over mailbox slot, signals, parent and followers.
    """

    state: RunState
    reason: str | None = None
    output: bytes | None = None
    error: bytes | None = None
    failed_pos: str | None = None
    wake_at: int | None = None
    forget: tuple[str, ...] = ()
    next_run: NewRun | None = None


class Mailbox(msgspec.Struct, frozen=True, kw_only=True):
    """A mailbox's limits. ``rate`` per second with a bucket of ``burst``; ``None`` means no limit."""

    name: str
    concurrency: int | None = 1
    key_concurrency: int | None = None
    depth: int | None = 1000
    rate: float | None = None
    burst: int = 1
    paused: bool = False


class MailboxStats(msgspec.Struct, frozen=True, kw_only=True):
    mailbox: Mailbox
    queued: int  # available or scheduled, not started
    active: int  # hold a place: running, waiting, or about to start
    parked: int
    dead: int
    oldest_at: int | None


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule row. ``spec`` is the JSON of ``relit.durable.schedule.Spec``; ``rev`` guards changes."""

    name: str
    agent: str
    workflow: str
    input: bytes
    spec: bytes
    paused: bool = False
    next_at: int | None = None
    last_at: int | None = None
    rev: int = 0


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one due moment of a schedule."""

    schedule: str
    due_at: int
    outcome: Outcome
    run: str | None = None
    reason: str | None = None
    at: int = 0


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """``steady``: it executes nothing of others in its process, so that a run is hardly what kills it."""

    id: str
    host: str
    pid: int
    start: int
    boot: str
    namespace: str
    targets: list[str]
    steady: bool = False
    state: Literal["live", "left", "dead"] = "live"
    joined_at: int = 0
    lease_left_ms: int = 0


class Reaped(msgspec.Struct, frozen=True):
    """Runs taken from a dead worker."""

    worker: str
    runs: int
    poisoned: list[str]


class Subscriber(msgspec.Struct, frozen=True, kw_only=True):
    """An outgoing webhook: events whose name matches one of ``events`` (``run.*``) are posted to ``url``."""

    name: str
    url: str
    events: list[str]
    secret: str  # name of a secret, or the sealed secret itself; never shown
    cursor: str = ""  # the last event delivered
    failures: int = 0
    retry_at: int | None = None


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's trouble, as its node told it last. ``document``: all of it, as JSON; lists come without.

    ``rev`` grows with the reports, and two with the same one hold in the order in which they come. ``group`` is equal
    for troubles of one cause outside of the agents. ``seen_at`` (first) and ``updated_at`` (last) are the store's.
    """

    id: str
    agent: str
    instance: str
    opened_at: int
    resolved_at: int | None = None
    severity: Severity = "info"
    rung: int = 1
    group: str = ""
    title: str = ""
    rev: int = 0
    seen_at: int = 0
    updated_at: int = 0
    document: bytes = b"{}"

    @property
    def open(self) -> bool:
        return self.resolved_at is None


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of incidents (``members``) on one channel. Receivers know it by ``incident``, the first of them.

    ``retry_at``: not to be touched before; while it is sent, until when its sender must have said something.
    ``closed``: nothing more will be told of its incident there.
    """

    id: str
    channel: str
    kind: AlertKind
    incident: str
    members: list[str]
    severity: Severity
    state: AlertState = "waiting"
    made_at: int = 0
    tries: int = 0
    retry_at: int | None = None
    sent_at: int | None = None
    why: str = ""
    closed: bool = False


class ModelCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of an agent to a model. ``run``: the turn that it belongs to; empty: none was under way. Tokens:
    ``input`` is all that was read, ``cached`` and ``written`` are what of it came from, or went into, the
    provider's cache. ``cost`` and ``reserved`` (while it is open) in billionths of a US dollar. ``budgets``: the
    scopes that it is counted in, and the day (UTC). ``life`` is the turn's: another one after each redelivery;
    ``lane`` the conversation in it; ``key`` equal for calls that ask the same, ``outline`` what it asks, in
    digests of parts. ``replayed``: it got the answer of ``source``, which had cost ``saved``. ``refused``: the
    budget that is named in ``budgets`` had no room for what it would have ``reserved``."""

    id: str
    agent: str
    run: str = ""
    number: int = 0
    route: str
    protocol: str = ""
    model: str = ""
    gateway: str
    state: CallState = "open"
    status: int = 0
    why: str = ""
    started_at: int = 0
    ended_at: int | None = None
    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    estimated: bool = False
    cost: int = 0
    reserved: int = 0
    budgets: str = ""
    life: str = ""
    lane: str = ""
    key: str = ""
    source: str = ""
    saved: int = 0
    outline: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a model answered: ``head`` is JSON (status, headers); ``body`` compressed, or ``blob``, where it lies."""

    head: bytes
    body: bytes | None = None
    blob: str | None = None


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """The run that an agent works on, and which life of it that is; both empty when it is none, or not the only one."""

    run: str = ""
    life: str = ""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent on ``scope`` in one day, and from when on that is told, in billionths of a US dollar."""

    scope: str
    limit: int
    warn: int = 0


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent on ``scope`` on ``day`` (UTC), and is reserved by calls under way."""

    scope: str
    day: str
    spent: int = 0
    reserved: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent has used of a model on one day (UTC)."""

    day: str
    agent: str
    route: str
    model: str
    calls: int = 0
    failed: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    cost: int = 0


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """What the vault's secrets are sealed under: the id of a master key, and (``passphrase``) how it is derived."""

    key: str
    kind: Literal["key", "passphrase"] = "key"
    salt: bytes = b""
    cost: str = ""  # scrypt's n, r, p


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret at rest. ``sealed`` with a data key of its own, which is ``wrapped`` with the master key."""

    name: str
    version: int = 1
    wrapped: bytes
    sealed: bytes
    set_at: int = 0
    sealed_at: int = 0


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the audit trail, which only grows. ``what`` was done, to ``name``, by ``who``, for ``whom``."""

    id: int = 0
    at: int = 0
    what: str
    name: str
    who: str
    whom: str = ""


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """What starts of something took: bytes at the peak and once settled, CPU seconds; learnt from so many."""

    what: str
    peak: int
    settled: int
    cpu_s: float
    seen: int


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """An API token at rest: only its SHA-256 is kept."""

    name: str
    hash: str
    scopes: list[str]
    created_at: int
    last_used_at: int | None = None
