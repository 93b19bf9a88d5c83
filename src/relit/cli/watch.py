"""Looks at everything again and again, in threads of its own, so that a server that hangs does not stop the screen."""

from __future__ import annotations

import os
import threading
from collections import deque

import msgspec

from relit import documents
from relit.cli.http import Api
from relit.cli.survey import Found, Survey
from relit.errors import RelitError
from relit.events import Event

EVENTS = 5
_EVERY_S = 1.0
_INCIDENTS_EVERY = 5  # looks


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """How busy this machine is. Memory in bytes."""

    load: tuple[float, float, float] = (0.0, 0.0, 0.0)
    cores: int = 1
    used: int = 0
    total: int = 0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen last. ``error``: why there is nothing, or nothing newer; ``silent``: why no events come."""

    found: Found | None = None
    machine: Machine = Machine()
    incidents: list[documents.Incident] = []
    events: list[Event] = []
    silent: RelitError | None = None
    error: RelitError | None = None


class Watch:
    """``latest`` is replaced once a second between ``start`` and ``stop``."""

    def __init__(self, survey: Survey, api: Api) -> None:
        self._survey = survey
        self._api = api
        self._events: deque[Event] = deque(maxlen=EVENTS)
        self._ended = threading.Event()
        self._looks = 0
        self._thread = threading.Thread(target=self._run, name="relit-watch", daemon=True)
        self._ticker = threading.Thread(target=self._follow, name="relit-events", daemon=True)
        self.latest = Seen()
        self._silent: RelitError | None = None

    def start(self) -> None:
        """Look once, then in the background."""
        self.latest = self.look()
        self._thread.start()
        self._ticker.start()

    def stop(self) -> None:
        """Safe twice. The threads end with the process if the server holds them up."""
        self._ended.set()

    def look(self) -> Seen:
        """Everything as it is now."""
        before, self._looks = self.latest, self._looks + 1
        try:
            found = self._survey.look()
            incidents = before.incidents if (self._looks - 1) % _INCIDENTS_EVERY else self._incidents(found)
        except RelitError as error:
            return msgspec.structs.replace(before, machine=machine(), error=error)
        return Seen(found=found, machine=machine(), incidents=incidents, events=list(self._events), silent=self._silent)

    def _incidents(self, found: Found) -> list[documents.Incident]:
        if found.away is not None:
            return self.latest.incidents
        return self._api.get("/v1/incidents", documents.Incidents, open=True, limit=100).incidents

    def _run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self.latest = self.look()

    def _follow(self) -> None:
        """The server's events; a server that is away is asked again."""
        at, pause = "", 0.0
        while not self._ended.wait(pause):
            pause = _EVERY_S
            try:
                for frame in self._api.stream("/v1/events", after=at):
                    at, self._silent = frame.id, None
                    self._events.append(msgspec.json.decode(frame.data, type=Event))
                    if self._ended.is_set():
                        return
            except RelitError as error:
                self._silent = error


def machine() -> Machine:
    """This machine now."""
    found = {}
    with open("/proc/meminfo", "rb") as file:
        for line in file:
            name, _, rest = line.partition(b":")
            if name in (b"MemTotal", b"MemAvailable"):
                found[name] = int(rest.split()[0]) << 10
    total = found.get(b"MemTotal", 0)
    return Machine(
        load=os.getloadavg(), cores=os.cpu_count() or 1, total=total, used=total - found.get(b"MemAvailable", total)
    )
