"""The client of relit's HTTP API.

    async with relit.Client(url, token) as client:
        sent = await client.send("auditor", {"look": "here"})
        print(await client.result(sent.id))

Everything survives the server's restarts: requests are sent again while it is away (each carries a key, so nothing is
done twice), waits and streams go on where they were. A server that stays away for ``patience`` seconds raises
``ServerUnreachable``. Errors are those of ``relit.errors``, whichever side found them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec

from relit import documents
from relit.client.tools import Tools
from relit.client.volumes import Volumes, When
from relit.errors import RunCancelled, RunFailed, RunTimeout, Unserialisable, WaitTimeout
from relit.events import Event
from relit.lib.durations import Duration, to_ms
from relit.lib.ids import new_id
from relit.lib.plain import from_plain, to_plain
from relit.link import Link, Notice

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:7717"
_POLL = 30.0  # seconds of one long poll
_SLACK = 15.0  # and what its answer may take besides

Told = documents.Step | documents.Item | documents.Run
_TOLD: dict[str, type[Told]] = {
    "step": documents.Step,
    "item": documents.Item,
    "state": documents.Run,
    "continued": documents.Run,
    "end": documents.Run,
}


class StreamEvent(msgspec.Struct, frozen=True):
    """One thing that a followed run did. ``event``: step, item, state, continued or end; ``id`` resumes after it."""

    event: str
    id: str
    data: Told


def _segment(name: str) -> str:
    return quote(name, safe="")


def _plain(value: object) -> Any:
    try:
        return to_plain(value)
    except (TypeError, ValueError) as error:
        raise Unserialisable("this cannot be sent", why=str(error), fix="send plain data") from error


def _typed(value: Any, type: Any) -> Any:
    try:
        return value if type is Any else msgspec.convert(value, type, strict=False)
    except msgspec.ValidationError as error:
        raise Unserialisable(f"the result does not fit {type}", why=str(error), fix="ask for another type") from error


def _failure(run: documents.Run) -> RunFailed | RunCancelled | RunTimeout:
    fix = f"relit show {run.id}"
    if run.state == "cancelled":
        return RunCancelled(f"run {run.id} was cancelled", why=run.reason or "", fix=fix)
    if run.error is None:
        return RunFailed(f"run {run.id} ({run.target}) is {run.state}", why=run.reason or "", fix=fix)
    if run.error.type == RunTimeout.__name__:
        return RunTimeout(f"run {run.id} ran out of time", why=run.error.why, fix=fix)
    why = f"{run.error.type}: {run.error.message or run.error.what}"
    return RunFailed(f"run {run.id} ({run.target}) is {run.state}", why=why, fix=fix)


def _span(value: Duration | None) -> str | None:
    return None if value is None else f"{to_ms(value)}ms"


def _moment(value: datetime | int | str | None) -> int | str | None:
    return value.isoformat() if isinstance(value, datetime) else value


def _filled(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


class Client:
    """A relit server, from afar. Use it in one event loop; ``aclose`` it, or use it as a context manager."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: str = "",
        *,
        patience: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
        notice: Notice | None = None,
    ) -> None:
        self._link = Link(url, token, patience, transport, notice)
        self.tools = Tools(self._link)
        self.volumes = Volumes(self._link)

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._link.url

    async def aclose(self) -> None:
        """Close the connections. Safe twice."""
        await self._link.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- making runs -------------------------------------------------------------------------------------------

    async def send(
        self,
        agent: str,
        message: object,
        *,
        priority: int | None = None,
        delay: Duration | None = None,
        at: datetime | int | str | None = None,
        key: str | None = None,
        dedup: str | None = None,
        expire: Duration | None = None,
        timeout: Duration | None = None,
        force: bool = False,
    ) -> documents.Accepted:
        """Put a message into an agent's mailbox. Back when it is on disk."""
        body = _filled(
            priority=priority,
            delay=_span(delay),
            at=_moment(at),
            key=key,
            dedup=dedup,
            expire=_span(expire),
            timeout=_span(timeout),
        )
        body |= {"message": _plain(message), "force": force}
        return await self._post(f"/v1/agents/{_segment(agent)}/messages", body, documents.Accepted, key=new_id())

    async def send_many(self, agent: str, messages: Sequence[object], **options: Any) -> list[documents.Accepted]:
        """Put messages into a mailbox in order, all in one commit or none. ``options``: fields of the HTTP body."""
        body = [{"message": _plain(message), **options} for message in messages]
        path = f"/v1/agents/{_segment(agent)}/messages"
        return await self._post(path, body, list[documents.Accepted], key=new_id())

    async def start(
        self,
        target: str,
        args: Sequence[object] = (),
        kwargs: dict[str, object] | None = None,
        *,
        priority: int | None = None,
        delay: Duration | None = None,
        at: datetime | int | str | None = None,
        dedup: str | None = None,
        timeout: Duration | None = None,
        force: bool = False,
    ) -> documents.Accepted:
        """Start a workflow (``agent/workflow``). Back when the run is on disk."""
        body = _filled(
            priority=priority, delay=_span(delay), at=_moment(at), dedup=dedup, timeout=_span(timeout), force=force
        )
        body |= {"target": target, "args": _plain(list(args)), "kwargs": _plain(kwargs or {})}
        return await self._post("/v1/runs", body, documents.Accepted, key=new_id())

    async def fork(self, run: str, seq: int | None = None, **change: Any) -> documents.Run:
        """A new run with the first ``seq`` steps of ``run``; ``input=``, or ``args=``, ``kwargs=`` change its input."""
        body = _filled(seq=seq) | {name: _plain(value) for name, value in change.items()}
        return await self._post(f"/v1/runs/{_segment(run)}/fork", body, documents.Run, key=new_id())

    # --- looking at runs ---------------------------------------------------------------------------------------

    async def run(self, run: str, *, payloads: str = "short") -> documents.Run:
        """A run, by its id or the beginning or end of it."""
        return await self._get(f"/v1/runs/{_segment(run)}", documents.Run, payloads=payloads)

    async def page_of_runs(self, **filters: Any) -> documents.Runs:
        """A page of runs, newest first. Filters: agent, workflow, state, schedule, parent, before, limit, payloads."""
        return await self._get("/v1/runs", documents.Runs, **filters)

    async def runs(self, *, limit: int = 50, **filters: Any) -> list[documents.Run]:
        """The newest ``limit`` runs that fit ``filters`` (see ``page_of_runs``)."""
        found: list[documents.Run] = []
        while len(found) < limit:
            page = await self.page_of_runs(limit=min(limit - len(found), 1000), **filters)
            found += page.runs
            if page.next is None:
                break
            filters["before"] = page.next
        return found

    async def journal(
        self, run: str, *, after: int = 0, payloads: str = "short"
    ) -> AsyncGenerator[documents.Step, None]:
        """A run's steps after number ``after``, in order."""
        while True:
            path = f"/v1/runs/{_segment(run)}/journal"
            page = await self._get(path, documents.Steps, after=after, limit=500, payloads=payloads)
            for step in page.steps:
                yield step
            if page.next is None:
                return
            after = page.next

    async def waits(self, run: str) -> list[documents.Wait]:
        """What a run waits for."""
        return (await self._get(f"/v1/runs/{_segment(run)}/waits", documents.Waits)).waits

    async def wait(self, run: str, timeout: Duration | None = None, *, payloads: str = "short") -> documents.Run:
        """The run once it is final. Raises ``WaitTimeout``, and ``ServerUnreachable`` when the server stays away
        (until ``timeout`` when there is one). A run that was continued is followed to its end.
        """
        loop = asyncio.get_running_loop()
        until = None if timeout is None else loop.time() + to_ms(timeout) / 1000
        while True:
            left = None if until is None else max(0.0, until - loop.time())
            poll = _POLL if left is None else min(_POLL, left)
            found = await self._long_poll(run, poll, left, payloads)
            if found.final:
                return found
            if until is not None and loop.time() >= until:
                raise WaitTimeout(
                    f"run {run} is not finished: it is {found.state}",
                    why=found.reason or "the wait's time is up",
                    fix=f"relit show {run}",
                )

    async def _long_poll(self, run: str, poll: float, patience: float | None, payloads: str) -> documents.Run:
        data = await self._link.request(
            "GET",
            f"/v1/runs/{_segment(run)}/wait",
            query={"wait": f"{poll:.3f}s", "payloads": payloads},
            patience=patience,
            read=poll + _SLACK,
        )
        return msgspec.json.decode(data, type=documents.Run)

    async def result(self, run: str, timeout: Duration | None = None, type: type[T] | Any = Any) -> Any:
        """What a run returned, as ``type``. Raises RunFailed, RunCancelled, RunTimeout, and what ``wait`` raises."""
        found = await self.wait(run, timeout, payloads="full")
        if found.state == "completed":
            return _typed(from_plain(found.output), type)
        raise _failure(found)

    async def stream(self, run: str, *, after: str = "", payloads: str = "short") -> AsyncGenerator[StreamEvent, None]:
        """Follow a run from its beginning (or after the id of an earlier event) to its end, over restarts."""
        path = f"/v1/runs/{_segment(run)}/stream"
        async with aclosing(self._link.follow(path, {"payloads": payloads}, after)) as frames:
            async for frame in frames:
                if (shape := _TOLD.get(frame.event)) is not None:
                    yield StreamEvent(frame.event, frame.id, msgspec.json.decode(frame.data, type=shape))
                if frame.event == "end":
                    return

    # --- changing runs -----------------------------------------------------------------------------------------

    async def signal(self, run: str, name: str, payload: object = None, *, id: str | None = None) -> bool:
        """Deliver a signal. False: one with that ``id`` was there already."""
        body = {"name": name, "payload": _plain(payload), "id": id or new_id()}
        path = f"/v1/runs/{_segment(run)}/signal"
        return (await self._post(path, body, documents.Delivered, repeatable=True)).created

    async def cancel(self, run: str, reason: str = "cancelled by a person") -> documents.Run:
        """Cancel a run and its children."""
        return await self._change(run, "cancel", {"reason": reason})

    async def pause(self, run: str) -> documents.Run:
        """Park a run until it is resumed."""
        return await self._change(run, "pause")

    async def resume(self, run: str) -> documents.Run:
        """Let a parked run go on."""
        return await self._change(run, "resume")

    async def retry(self, run: str) -> documents.Run:
        """Go on from the step that failed."""
        return await self._change(run, "retry")

    async def requeue(self, run: str) -> documents.Run:
        """Put a dead letter back into its mailbox."""
        return await self._change(run, "requeue")

    async def _change(self, run: str, verb: str, body: object = None) -> documents.Run:
        return await self._post(f"/v1/runs/{_segment(run)}/{verb}", body, documents.Run)

    async def effects(self, run: str | None = None, state: Sequence[str] = ()) -> list[documents.Effect]:
        """Effects that are open or in doubt, or those asked for."""
        return (await self._get("/v1/effects", documents.Effects, run=run, state=list(state))).effects

    async def resolve(self, run: str, pos: str, *, done: bool, result: object = None) -> documents.Run:
        """Say whether an effect in doubt happened. Its run goes on."""
        body = {"run": run, "pos": pos, "done": done, "result": _plain(result)}
        return await self._post("/v1/effects/resolve", body, documents.Run)

    # --- incidents ---------------------------------------------------------------------------------------------

    async def incidents(
        self, agent: str | None = None, *, open: bool = False, limit: int = 50, before: str | None = None
    ) -> list[documents.Incident]:
        """Agents' troubles, newest first. ``open``: only those that go on; ``before``: older than that one."""
        query = {"agent": agent, "open": open, "limit": limit, "before": before}
        return (await self._get("/v1/incidents", documents.Incidents, **query)).incidents

    async def incident(self, id: str) -> documents.IncidentDetail:
        """A trouble, whole, by its id or the beginning or end of it."""
        return await self._get(f"/v1/incidents/{_segment(id)}", documents.IncidentDetail)

    # --- what models cost ----------------------------------------------------------------------------------------

    async def usage(self, *, days: int = 7, agent: str | None = None) -> documents.UsageReport:
        """What agents have used of models in the last days (UTC; today is one), and today's budgets."""
        return await self._get("/v1/usage", documents.UsageReport, days=days, agent=agent)

    async def run_calls(self, run: str) -> list[documents.ModelCall]:
        """The calls to models that a run has made, in their order."""
        return (await self._get(f"/v1/runs/{_segment(run)}/calls", documents.ModelCalls)).calls

    async def agent_calls(self, agent: str, *, limit: int = 100) -> list[documents.ModelCall]:
        """An agent's calls to models, newest first."""
        path = f"/v1/agents/{_segment(agent)}/calls"
        return (await self._get(path, documents.ModelCalls, limit=limit)).calls

    # --- agents, mailboxes, schedules --------------------------------------------------------------------------

    async def agents(self) -> list[documents.Agent]:
        """All agents."""
        return (await self._get("/v1/agents", documents.Agents)).agents

    async def mailboxes(self) -> list[documents.Mailbox]:
        """All mailboxes."""
        return (await self._get("/v1/mailboxes", documents.Mailboxes)).mailboxes

    async def configure_mailbox(self, name: str, **limits: Any) -> documents.Mailbox:
        """Change limits: concurrency, key_concurrency, depth, rate, burst; ``None`` takes one away."""
        return await self._send("PATCH", f"/v1/mailboxes/{_segment(name)}", limits, documents.Mailbox)

    async def pause_mailbox(self, name: str) -> documents.Mailbox:
        """Start no more of its messages."""
        return await self._post(f"/v1/mailboxes/{_segment(name)}/pause", None, documents.Mailbox, repeatable=True)

    async def resume_mailbox(self, name: str) -> documents.Mailbox:
        """Go on with its messages."""
        return await self._post(f"/v1/mailboxes/{_segment(name)}/resume", None, documents.Mailbox, repeatable=True)

    async def schedules(self) -> list[documents.Schedule]:
        """All schedules."""
        return (await self._get("/v1/schedules", documents.Schedules)).schedules

    async def schedule(self, name: str) -> documents.Schedule:
        """A schedule."""
        return await self._get(f"/v1/schedules/{_segment(name)}", documents.Schedule)

    async def put_schedule(self, name: str, **fields: Any) -> documents.Schedule:
        """Add or replace a schedule. ``fields`` are those of the HTTP body: agent, message, every, cron, zone…"""
        path = f"/v1/schedules/{_segment(name)}"
        return await self._send("PUT", path, _plain(fields), documents.Schedule)

    async def remove_schedule(self, name: str) -> None:
        """Remove a schedule; runs that it made stay."""
        await self._link.request("DELETE", f"/v1/schedules/{_segment(name)}")

    async def pause_schedule(self, name: str) -> documents.Schedule:
        """Let it fire no more."""
        return await self._post(f"/v1/schedules/{_segment(name)}/pause", None, documents.Schedule, repeatable=True)

    async def resume_schedule(self, name: str) -> documents.Schedule:
        """Let it fire again."""
        return await self._post(f"/v1/schedules/{_segment(name)}/resume", None, documents.Schedule, repeatable=True)

    async def trigger_schedule(self, name: str) -> documents.Accepted:
        """Fire it now, besides its plan."""
        return await self._post(f"/v1/schedules/{_segment(name)}/trigger", None, documents.Accepted, key=new_id())

    async def firings(self, name: str, limit: int = 50) -> list[documents.Firing]:
        """A schedule's last firings, newest first, the missed ones too."""
        path = f"/v1/schedules/{_segment(name)}/firings"
        return (await self._get(path, documents.Firings, limit=limit)).firings

    # --- homes (the rest is ``client.volumes``) ----------------------------------------------------------------

    async def snapshots(self, agent: str, *, limit: int = 100) -> list[documents.Snapshot]:
        """The newest versions of an agent's home."""
        return (await self.volumes.log(agent, limit=limit)).snapshots

    async def snapshot(self, agent: str, **options: Any) -> documents.Taken:
        """Take a snapshot now (see ``Volumes.snapshot``)."""
        return await self.volumes.snapshot(agent, **options)

    async def restore(self, agent: str, when: When, **options: Any) -> documents.Restored:
        """Put an agent's home back as it was (see ``Volumes.restore``)."""
        return await self.volumes.restore(agent, when, **options)

    # --- the system --------------------------------------------------------------------------------------------

    async def workers(self, all: bool = False) -> list[documents.Worker]:
        """Live workers, or all that are remembered."""
        return (await self._get("/v1/workers", documents.Workers, all=all)).workers

    async def nodes(self) -> list[documents.Node]:
        """Machines that have a live worker."""
        return (await self._get("/v1/nodes", documents.Nodes)).nodes

    async def events(
        self, names: Sequence[str] = (), *, agent: str | None = None, run: str | None = None, after: str = ""
    ) -> AsyncGenerator[Event, None]:
        """Events as they happen, over restarts: from now, after an event's id, or from the ``start``."""
        query = {"names": list(names), "agent": agent, "run": run, "after": after or None}
        async with aclosing(self._link.follow("/v1/events", query)) as frames:
            async for frame in frames:
                yield msgspec.json.decode(frame.data, type=Event)

    async def tokens(self) -> list[documents.Token]:
        """All tokens, without their secrets."""
        return (await self._get("/v1/tokens", documents.Tokens)).tokens

    async def new_token(self, name: str, scopes: Sequence[str] = ("write",)) -> documents.Token:
        """Make a token; its secret is in this answer only."""
        return await self._post("/v1/tokens", {"name": name, "scopes": list(scopes)}, documents.Token)

    async def remove_token(self, name: str) -> None:
        """Remove a token."""
        await self._link.request("DELETE", f"/v1/tokens/{_segment(name)}")

    async def subscribers(self) -> list[documents.Subscriber]:
        """Outgoing webhooks."""
        return (await self._get("/v1/subscribers", documents.Subscribers)).subscribers

    async def put_subscriber(
        self, name: str, url: str, events: Sequence[str] = ("*",), secret: str | None = None
    ) -> documents.Subscriber:
        """Add or change an outgoing webhook. Without ``secret`` one is made; it is in the first answer only."""
        body = _filled(url=url, events=list(events), secret=secret)
        return await self._send("PUT", f"/v1/subscribers/{_segment(name)}", body, documents.Subscriber)

    async def remove_subscriber(self, name: str) -> None:
        """Remove an outgoing webhook."""
        await self._link.request("DELETE", f"/v1/subscribers/{_segment(name)}")

    async def ready(self, *, patience: float | None = None) -> documents.Health:
        """The server's word that it can work; waits for a server that is still starting."""
        data = await self._link.request("GET", "/readyz", patience=patience)
        return msgspec.json.decode(data, type=documents.Health)

    # --- plumbing ----------------------------------------------------------------------------------------------

    async def _get(self, path: str, shape: type[T], **query: Any) -> T:
        return msgspec.json.decode(await self._link.request("GET", path, query=query), type=shape)

    async def _send(self, method: str, path: str, body: object, shape: type[T], **options: Any) -> T:
        return msgspec.json.decode(await self._link.request(method, path, body=body, **options), type=shape)

    async def _post(self, path: str, body: object, shape: type[T], **options: Any) -> T:
        return await self._send("POST", path, body, shape, **options)
