"""The seam: what every store does, whichever database is below.

Every write returns only when it is on disk, whole or not at all, and raises ``StoreFull``/``StoreUnavailable``
(retry helps) when it is not. A write whose commit's answer was lost is resolved, never reported as failed. All
methods may be called concurrently; writes of one process share commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from relit.events import Event
from relit.store.calls import Calls
from relit.store.tools import ToolCalls
from relit.store.values import (
    Alert,
    Effect,
    Enqueued,
    Fence,
    Finish,
    Firing,
    Footprint,
    Incident,
    Journal,
    Mailbox,
    MailboxStats,
    NewRun,
    Reaped,
    Rewind,
    Run,
    RunState,
    Schedule,
    Signal,
    Since,
    Step,
    StreamItem,
    Subscriber,
    Token,
    Wait,
    WorkerInfo,
)


class Subscription(Protocol):
    """Wakes its holder when a topic is announced. Announcements while nobody waits are kept."""

    async def wait(self, timeout: float | None = None) -> bool:
        """True when a topic was announced since the last wait, false on timeout (seconds)."""
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """Durable rows. Topics of ``subscribe``:

    ``ready`` a run may be claimable · ``timers`` the next due moment may have moved · ``requests`` a running run was
    asked to cancel or pause · ``run:ID`` that run changed its state, got a signal, or a child of it ended ·
    ``steps:ID`` that run got a step, a stream item or a heartbeat · ``end:ID`` it
    ended, or went on as another · ``events`` ·
    ``workers`` a worker joined, left or died · ``incidents`` one changed · ``alerts`` there is one to be sent ·
    ``tools`` a call to a tool is decided, or has ended.
    """

    async def start(self) -> None:
        """Open, migrate, and be ready. Raises SchemaTooNew, StoreCorrupt, StoreUnavailable, ConfigError."""
        ...

    async def stop(self) -> None: ...

    def subscribe(self, *topics: str) -> Subscription: ...

    @property
    def calls(self) -> Calls:
        """Calls to models."""
        ...

    @property
    def tools(self) -> ToolCalls:
        """Calls to tools."""
        ...

    async def now_ms(self) -> int:
        """The store's wall clock."""
        ...

    # --- queue -------------------------------------------------------------------------------------------------

    async def enqueue(self, runs: Sequence[NewRun]) -> list[Enqueued]:
        """Make runs, all or none, in one commit. A known id or live dedup key answers the earlier run.

        Mailboxes that do not exist are made with defaults. Raises ``MailboxFull``.
        """
        ...

    async def claim(
        self,
        worker: str,
        targets: Sequence[str],
        limit: int,
        suspects: int = 1,
        timeouts: Mapping[str, int] = ...,
    ) -> list[Run]:
        """Take up to ``limit`` available runs for ``targets``, best rank first; each gets a new epoch.

        At most ``suspects`` of them may have lost a worker at the same step before (poison guard). A worker whose
        lease is gone gets ``Fenced``. ``timeouts`` (ms by target) limit runs that start now and were made without a
        limit: the definition of a workflow is known where it is executed.
        """
        ...

    async def journal(self, run: str) -> Journal:
        """What a replay needs."""
        ...

    async def arrivals(self, run: str) -> Journal:
        """Only what came from outside since: ``signals`` and finished ``children``."""
        ...

    # --- a claimed run's writes: Fenced when the claim is no longer the newest -----------------------------------

    async def append(
        self,
        fence: Fence,
        steps: Sequence[Step],
        *,
        sends: Sequence[NewRun] = (),
        consume: Sequence[str] = (),
        adopts: str | None = None,
    ) -> None:
        """Record steps in order; in the same commit make the runs in ``sends``, delete consumed signals (ids).

        Waits and open effects at the steps' positions are settled by it (an effect step's receipt closes its intent).
        ``adopts``: the effect adrift (its ``pos``) whose result the last step records.
        """
        ...

    async def intend(self, fence: Fence, effect: Effect, *, adopts: str | None = None) -> None:
        """Write an effect's intent (before acting). Idempotent for the same position.
        ``adopts``: the ``pos`` under which it was adrift."""
        ...

    async def doubt(self, fence: Fence, pos: str) -> None:
        """Mark an open effect ``in_doubt`` (a person decides). The caller then finishes the claim as ``parked``."""
        ...

    async def emit(self, fence: Fence, items: Sequence[StreamItem]) -> None:
        """Append stream items. Items whose ``idx`` exists are left as they are."""
        ...

    async def suspend(self, fence: Fence, waits: Sequence[Wait], reason: str) -> bool:
        """Let go of the run until something in ``waits`` comes. False (nothing let go): something is there already
        (a matching signal, a finished child, a passed ``wake_at``) or a request is pending; see ``arrivals``/``run``.
        ``wake_at`` of a wait already recorded at that position wins over the new one.
        """
        ...

    async def finish(self, fence: Fence, finish: Finish) -> None:
        """End the claim."""
        ...

    async def release(self, fences: Sequence[Fence]) -> None:
        """Give claims back in good order (a worker that stops): available again, no crash counted. Never raises
        Fenced: what is not ours any more is left alone."""
        ...

    async def beat(self, fence: Fence, detail: bytes) -> None:
        """Record a long step's heartbeat (shown by ``show``)."""
        ...

    # --- from outside ------------------------------------------------------------------------------------------

    async def signal(self, signal: Signal) -> bool:
        """Deliver. False: a signal with that id was there already. NotFound, Conflict (run is final)."""
        ...

    async def cancel(self, run: str, reason: str) -> Run:
        """Cancel now, or ask its worker to; children too. Final runs: Conflict."""
        ...

    async def pause(self, run: str) -> Run: ...

    async def resume(self, run: str) -> Run:
        """A parked run becomes available. Conflict when it is not parked, or an effect of it is in doubt."""
        ...

    async def retry(self, run: str) -> Run:
        """A failed, cancelled, discarded or parked run goes on from the step that failed: finished steps stay."""
        ...

    async def requeue(self, run: str) -> Run:
        """A dead letter goes back into its mailbox with its attempts reset."""
        ...

    async def fork(self, run: str, seq: int | None, new_id: str, input: bytes | None = None) -> Run:
        """A new run with the first ``seq`` journal steps of ``run`` (all when None); then it goes its own way."""
        ...

    async def resolve(self, run: str, pos: str, result: bytes | None) -> Run:
        """A person's word on an effect in doubt: ``result`` = it happened; None = it did not, do it again.
        The run becomes available."""
        ...

    # --- time --------------------------------------------------------------------------------------------------

    async def promote(self) -> int | None:
        """Do all that is due: timers, retries, expiries, deadlines of runs that nobody runs, rate buckets.
        Answers ms until the next due moment, or None."""
        ...

    # --- workers -----------------------------------------------------------------------------------------------

    async def join(self, worker: WorkerInfo, lease_ms: int) -> None: ...

    async def renew(self, worker: str, lease_ms: int) -> bool:
        """False: the lease was lost (declared dead): drop every run and join under a new id."""
        ...

    async def leave(self, worker: str) -> None: ...

    async def workers(self, live: bool = True) -> list[WorkerInfo]: ...

    async def reap(self, worker: str, proven: bool, poison_after: int) -> Reaped | None:
        """Take the runs from a worker that is dead (``proven``) or whose lease has expired (else None, nothing done).
        Runs that lost ``poison_after`` workers in a row at the same step are parked."""
        ...

    async def expired_workers(self) -> list[str]: ...

    async def requests(self, worker: str) -> list[Run]:
        """This worker's running runs that were asked to cancel or pause."""
        ...

    # --- mailboxes ---------------------------------------------------------------------------------------------

    async def configure_mailbox(self, mailbox: Mailbox) -> None: ...

    async def mailboxes(self) -> list[MailboxStats]: ...

    async def pause_mailbox(self, name: str, paused: bool) -> None: ...

    # --- schedules ---------------------------------------------------------------------------------------------

    async def put_schedule(self, schedule: Schedule) -> None:
        """Add or replace (pause state and ``last_at`` of an existing one stay)."""
        ...

    async def remove_schedule(self, name: str) -> None: ...

    async def schedules(self) -> list[Schedule]: ...

    async def fire(
        self,
        name: str,
        rev: int,
        next_at: int | None,
        firings: Sequence[Firing],
        runs: Sequence[NewRun],
        cancel: Sequence[str] = (),
    ) -> bool:
        """Record firings, make their runs, cancel replaced ones and move on, in one commit. False: somebody else
        did (``rev`` has changed)."""
        ...

    async def pause_schedule(self, name: str, paused: bool, next_at: int | None) -> None: ...

    async def firings(self, name: str, limit: int = 50) -> list[Firing]: ...

    # --- reading -----------------------------------------------------------------------------------------------

    async def run(self, run: str) -> Run:
        """NotFound when there is none."""
        ...

    async def runs(
        self,
        *,
        agent: str | None = None,
        workflow: str | None = None,
        states: Sequence[RunState] = (),
        schedule: str | None = None,
        parent: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """Newest first; page with ``before`` (a run id)."""
        ...

    async def find_runs(self, prefix: str, limit: int = 5) -> list[str]:
        """Ids that begin or end with ``prefix`` (for people's short ids)."""
        ...

    async def steps(self, run: str, after: int = 0, limit: int = 1000) -> list[Step]: ...

    async def last_steps(self, run: str, limit: int = 1) -> list[Step]:
        """Its newest ones, in order."""
        ...

    async def stream(self, run: str, after: int = -1, limit: int = 1000) -> list[StreamItem]: ...

    async def waits(self, run: str) -> list[Wait]: ...

    async def effects(
        self, *, run: str | None = None, agent: str | None = None, states: Sequence[str] = ("open", "in_doubt")
    ) -> list[Effect]:
        """Of a run, of an agent, or of all; without ``run`` only those that are open or in doubt."""
        ...

    async def counts(self) -> dict[tuple[str, str], int]:
        """Runs by (target, state)."""
        ...

    async def to_do(self) -> dict[str, tuple[int, int]]:
        """Of each target with a run that is worked on, or could be: runs that a worker could begin now, and those that
        are worked on, a thousand at most. Cheap, however many runs there were."""
        ...

    # --- going back --------------------------------------------------------------------------------------------

    async def since(self, agent: str, at_ms: int, runs: Mapping[str, int]) -> Since:
        """Runs of the agent that came, or were unfinished, after that moment, and effects that were sent since.
        ``runs``: id → seq of the newest step that counted then."""
        ...

    async def rewind(self, wanted: Rewind) -> list[str]:
        """Bring an agent's journal back; answers the runs that it changed. The agent stands still meanwhile.

        Unfinished runs: steps after the moment are superseded and are done again; effects stay done, and are found
        again by name and input, each once; signals are there again. Runs that ended since stay as they are;
        ``redeliver`` makes them available again. ``drop`` cancels those that began since and have not ended.
        """
        ...

    async def recovered(self) -> int:
        """This store came back from a copy: mark its unfinished runs, whose later effects nobody knows of."""
        ...

    # --- events, tokens, webhooks --------------------------------------------------------------------------------

    async def record(self, events: Sequence[Event]) -> None:
        """Write events of the node or server (their ``id`` is ignored, ``at`` 0 means now)."""
        ...

    async def events(self, after: str = "", limit: int = 500, names: Sequence[str] = ()) -> list[Event]:
        """Events after the id ``after`` in order; none is ever skipped by a reader that pages on."""
        ...

    async def last_event(self) -> str: ...

    async def put_token(self, token: Token) -> None: ...

    async def tokens(self) -> list[Token]: ...

    async def remove_token(self, name: str) -> None: ...

    async def put_subscriber(self, subscriber: Subscriber) -> None:
        """Add or replace, cursor and failures included."""
        ...

    async def move_subscriber(self, before: Subscriber, after: Subscriber) -> bool:
        """Set cursor, failures and ``retry_at`` if the row still is as in ``before``. False: it is not, or is gone."""
        ...

    async def subscribers(self) -> list[Subscriber]: ...

    async def remove_subscriber(self, name: str) -> None: ...

    async def put_footprints(self, footprints: Sequence[Footprint]) -> None:
        """What nodes measured. What was learnt from more starts is left as it is."""
        ...

    async def footprints(self) -> list[Footprint]: ...

    # --- incidents, alerts -------------------------------------------------------------------------------------

    async def put_incident(self, incident: Incident) -> bool:
        """Write down what a node tells of a trouble. False, and nothing written: it is older than what is known, or
        would open again what is resolved."""
        ...

    async def incident(self, id: str) -> Incident:
        """NotFound when there is none."""
        ...

    async def incidents(
        self, *, agent: str | None = None, open_only: bool = False, limit: int = 50, before: str | None = None
    ) -> list[Incident]:
        """Newest first, without their documents; page with ``before`` (an incident's id)."""
        ...

    async def find_incidents(self, prefix: str, limit: int = 5) -> list[str]:
        """Ids that begin or end with ``prefix`` (for people's short ids)."""
        ...

    async def put_alerts(self, alerts: Sequence[Alert]) -> None:
        """Make alerts. One whose id is known is left as it is."""
        ...

    async def move_alert(self, before: Alert, after: Alert) -> bool:
        """Set members, severity, state, tries, ``retry_at``, ``sent_at`` and ``why`` if state, tries and ``retry_at``
        still are as in ``before``; with ``after.closed`` all alerts of that incident on that channel are closed.
        False: they are not."""
        ...

    async def alerts(self) -> list[Alert]:
        """Those that are not closed, oldest first."""
        ...

    # --- upkeep ------------------------------------------------------------------------------------------------

    async def forget(self, older_than_ms: int, limit: int = 1000) -> int:
        """Retention: delete final runs (and their journals, streams, firings, events) that ended longer ago, and
        incidents that were resolved longer ago. Answers how many runs went; call again while it answers ``limit``."""
        ...

    async def check(self) -> list[str]:
        """Integrity of the database and of relit's own invariants; one line for each fault found."""
        ...
