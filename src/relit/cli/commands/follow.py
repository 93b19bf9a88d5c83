"""``tail`` and ``wait``: as it happens."""

from __future__ import annotations

import time
from typing import Any

import click
import msgspec

from relit import documents
from relit.cli.commands.overview import told
from relit.cli.exits import FAILED, OK
from relit.cli.http import Api, Frame, segment
from relit.cli.screen import Screen, brief, short, when
from relit.cli.session import Session, pass_session
from relit.errors import RelitError, WaitTimeout
from relit.events import Event
from relit.lib import durations
from relit.lib.durations import human

LOOK_S = 2.0  # the server answers when the run ends; that it was parked instead is seen after this long


class DurationType(click.ParamType[int]):
    """``90s``, ``10m``, ``2h``, in milliseconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return durations.to_ms(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = DurationType()


@click.command()
@click.argument("run", required=False)
@click.option("--name", "names", multiple=True, help="Only these events: run.failed, run.*; may be repeated.")
@click.option("--agent", help="Only events of this agent.")
@click.option("--from-start", is_flag=True, help="Begin with the oldest event that is kept.")
@click.option("--no-follow", is_flag=True, help="Stop at what there is now.")
@pass_session
def tail(
    session: Session, run: str | None, names: tuple[str, ...], agent: str | None, from_start: bool, no_follow: bool
) -> int:
    """Follow a run until it ends, or, without RUN, everything that happens."""
    api = session.patient_api()
    if run is not None and not no_follow:
        return follow_run(session, api, run)
    query: dict[str, Any] = {"names": list(names) or None, "agent": agent}
    if run is not None:
        query["run"] = api.get(f"/v1/runs/{segment(run)}", documents.Run).id
    if no_follow:
        _page(api, session.screen, query)
        return OK
    session.screen.note(session.screen.dim("following; Ctrl-C ends it"))
    for frame in api.stream("/v1/events", after="" if not from_start else "start", **query):
        _event(session.screen, msgspec.json.decode(frame.data, type=Event))
    return OK


def _page(api: Api, screen: Screen, query: dict[str, Any]) -> None:
    after = "start"
    while True:
        page = api.get("/v1/events", documents.Events, after=after, **query)
        for event in page.events:
            _event(screen, event)
        if page.next in (after, ""):
            return
        after = page.next


def _event(screen: Screen, event: Event) -> None:
    if screen.as_json:
        screen.row(event)
        return
    about = " ".join(part for part in (event.agent or "", short(event.run) if event.run else "") if part)
    details = " ".join(f"{key}={brief(value, 40)}" for key, value in event.data.items() if value not in (None, ""))
    screen.line(f"{screen.dim(when(event.at))}  {event.name:<20}  {about:<28}  {screen.dim(details)}".rstrip())


def follow_run(session: Session, api: Api, run: str) -> int:
    """Draw a run's stream until its end; the exit code says how it ended."""
    drawn = Drawn(session.screen)
    for frame in api.stream(f"/v1/runs/{segment(run)}/stream", until=lambda frame: frame.event == "end"):
        drawn.frame(frame)
    return drawn.code


class Drawn:
    """One run's stream on the screen."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.code = OK

    def frame(self, frame: Frame) -> None:
        if self._screen.as_json:
            self._screen.row({"event": frame.event, "id": frame.id, "data": msgspec.json.decode(frame.data)})
        match frame.event:
            case "step":
                self._step(msgspec.json.decode(frame.data, type=documents.Step))
            case "item":
                self._item(msgspec.json.decode(frame.data, type=documents.Item))
            case "state" | "continued":
                self._state(msgspec.json.decode(frame.data, type=documents.Run))
            case "end":
                self._end(msgspec.json.decode(frame.data, type=documents.Run))

    def _line(self, text: str) -> None:
        if not self._screen.as_json:
            self._screen.line(text)

    def _step(self, step: documents.Step) -> None:
        said = f"failed: {told(step.error)}" if step.error else brief(step.result)
        span = human(max(0, step.finished_at - step.started_at))
        self._line(f"{self._screen.dim(when(step.finished_at))}  {step.kind:<7} {step.name:<24} {span:>7}  {said}")

    def _item(self, item: documents.Item) -> None:
        self._line(f"{self._screen.dim(when(item.at))}  {brief(item.data, 100)}")

    def _state(self, run: documents.Run) -> None:
        self._line(f"{self._screen.state(run.state)}" + (f" ({run.reason})" if run.reason else ""))
        if run.state == "parked":
            self._screen.note(f"it waits for a person: relit show {short(run.id)} says for what")

    def _end(self, run: documents.Run) -> None:
        self.code = OK if run.state == "completed" else FAILED
        if not self._screen.as_json:
            outcome(self._screen, run)


def outcome(screen: Screen, run: documents.Run) -> int:
    """How a run ended, and the exit code for it."""
    if screen.as_json:
        screen.json(run)
    elif run.state == "completed":
        screen.line(f"{screen.state('completed')}  {brief(run.output, 2000)}".rstrip())
    else:
        said = told(run.error) if run.error else run.reason or ""
        screen.line(f"{screen.state(run.state)}  {said}".rstrip())
        screen.note(f"fix: relit show {short(run.id)}")
    return OK if run.state == "completed" else FAILED


@click.command()
@click.argument("run")
@click.option("--timeout", type=DURATION, help="Give up after this long (exit code 5).")
@pass_session
def wait(session: Session, run: str, timeout: int | None) -> int:
    """Wait until a run has ended; print its result. Exit code 1 when it failed."""
    found = wait_for(session.patient_api(), run, timeout)
    return outcome(session.screen, found)


def wait_for(api: Api, run: str, timeout_ms: int | None) -> documents.Run:
    """The run once it is final. Raises ``WaitTimeout``."""
    until = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
    while True:
        left = LOOK_S if until is None else max(0.0, min(LOOK_S, until - time.monotonic()))
        found = api.get(f"/v1/runs/{segment(run)}/wait", documents.Run, wait=f"{left:.3f}s", payloads="full")
        if found.final:
            return found
        if found.state == "parked":
            raise _parked(found)
        if until is not None and time.monotonic() >= until:
            raise WaitTimeout(
                f"run {found.id} has not ended after {human(timeout_ms or 0)}",
                why=f"it is {found.state}" + (f" ({found.reason})" if found.reason else ""),
                fix=f"relit wait {found.id}",
            )


def _parked(run: documents.Run) -> RelitError:
    return RelitError(
        f"run {run.id} is parked: it waits for a person", why=run.reason or "", fix=f"relit show {short(run.id)}"
    )
