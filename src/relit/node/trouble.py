"""One trouble of one instance, written down while it goes on: what the incident of it says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from relit.control.care import Entry, Incident, KnownGood, Severity
from relit.control.values import InstanceSpec
from relit.errors import RelitError
from relit.lib.clock import Clock
from relit.lib.durations import human
from relit.lib.ids import new_id
from relit.lib.space import full
from relit.node.ladder import Action, Ending, Verdict
from relit.node.redact import Redactor, telling

MEMORY_MOST = 60  # values of the memory curve
KEPT = 50  # incidents of one instance on its node's disk
UNWANTED = "it is wanted no more"
ENTRIES_MOST = 200  # of a timeline: the first ones and the newest stay
_FIRST = 50

DOES: dict[Action, str] = {
    "restart": "started again",
    "recreate": "cleared away what its dead processes left",
    "config": "put its configuration back",
    "repair": "ran the agent's own repair",
    "volume": "put its whole home back",
    "bisect": "looked for an older home that works",
}


class Trouble:
    """``tell`` is given the incident whenever it changes."""

    def __init__(
        self, spec: InstanceSpec, clock: Clock, tell: Callable[[Incident], None], incident: Incident | None = None
    ) -> None:
        self._spec = spec
        self._redactor = Redactor({*spec.secrets, *telling(spec.env)})
        self._memory: deque[tuple[int, int]] = deque(maxlen=MEMORY_MOST)
        self._clock = clock
        self._tell = tell
        self._incident = incident
        self._down_at: int | None = None  # since when it is, for all that we know
        self._down_ms = 0  # in this incident, before that

    @property
    def open(self) -> bool:
        return self._incident is not None

    def ended(self, verdict: Verdict, ending: Ending, end: str, why: str) -> None:
        """A life ended, and that is what will be done about it."""
        why = self.without_secrets(why)
        if (home := _on_full_disk(self._spec)) is not None:
            why = "; ".join(filter(None, [why, f"the disk of {home} is full"]))
        said = cause = f"{end}: {why}" if why and end else why or end
        self._down_at = self._down_at or self._clock.now_ms()
        incident = self._incident
        if incident is None or verdict.first:
            incident = self._open(verdict, end)
        if ending == "blocked" and incident.cause:
            cause = incident.cause  # what it waits for is not what made it die
        severity: Severity = "critical" if verdict.rung == 4 else "warning" if self._is_serious(verdict) else "info"
        self._change(
            f"{verdict.reason} ({said})" if said else verdict.reason,
            rung=verdict.rung,
            severity=severity,
            cause=cause,
            exit=end,
            title=f"{self._spec.name}: {verdict.reason}" if verdict.rung > incident.rung else incident.title,
            next=_next(self._spec, ending) if self._is_serious(verdict) else "",
        )

    def does(self, verdict: Verdict) -> None:
        """It begins to. Told of what may take minutes."""
        if verdict.action == "bisect":
            self._note(Entry(at_ms=self._clock.now_ms(), what="looks for an older home that works, in clones"))

    def did(self, verdict: Verdict, outcome: str, began_ms: int) -> None:
        """Something was done about it, since ``began_ms``."""
        text = DOES[verdict.action] + (f": snapshot {verdict.to}" if verdict.to else "")
        self._note(
            Entry(
                at_ms=began_ms,
                what=text,
                outcome=self.without_secrets(outcome),
                took_ms=self._clock.now_ms() - began_ms,
            )
        )

    def knows(self, known: KnownGood) -> None:
        """How its configuration differs from known-good, and what could not be found out."""
        if self._incident is not None and known.config:
            told = {path: self.without_secrets(text) for path, text in known.config.items()}
            self._incident = msgspec.structs.replace(self._incident, config=told)
        if known.why:
            self._note(Entry(at_ms=self._clock.now_ms(), what="looked for what was good", outcome=known.why))

    def without_secrets(self, text: str) -> str:
        """As it may be told."""
        return self._redactor.redact(text.encode(errors="replace"))[0].decode(errors="replace")

    def weighs(self, size: int) -> None:
        """How much memory its main process has now. Kept for the incident that may come."""
        self._memory.append((self._clock.now_ms(), size))

    def ready(self) -> None:
        """It answers again. That is not the end yet."""
        if self._incident is None:
            self._down_at = None
            return
        if self._down_at is None:  # it lived on while its node did not
            self._change("ready again")
            return
        self._down_ms += self._clock.now_ms() - self._down_at
        self._down_at = None
        self._change("ready again", impact=f"did not answer for {human(self._down_ms)}")

    def over(self, why: str = "it is over") -> None:
        """It has been well for a while, or is wanted no more."""
        if self._incident is not None:
            self._change(why, resolved_ms=self._clock.now_ms(), next="")
            self._incident = None

    # --- changes -----------------------------------------------------------------------------------------------

    def _open(self, verdict: Verdict, end: str) -> Incident:
        now = self._clock.now_ms()
        if self._incident is not None:
            self._change("another trouble begins", resolved_ms=now)
        care = self._spec.care
        self._down_ms = 0
        self._incident = Incident(
            id=new_id(),
            agent=care.agent if care else self._spec.name,
            instance=self._spec.name,
            opened_ms=now,
            title=f"{self._spec.name}: {verdict.reason}",
            impact="does not answer",
            memory=list(self._memory),
        )
        return self._incident

    def _is_serious(self, verdict: Verdict) -> bool:
        return verdict.rung > 1 or verdict.flapping

    def _change(self, what: str, **fields: object) -> None:
        assert self._incident is not None, "only called while there is one"
        self._incident = msgspec.structs.replace(self._incident, **fields)
        self._note(Entry(at_ms=self._clock.now_ms(), what=what))

    def _note(self, entry: Entry) -> None:
        if self._incident is not None:
            timeline = [*self._incident.timeline, entry]
            if len(timeline) > ENTRIES_MOST:
                timeline = timeline[:_FIRST] + timeline[_FIRST + 1 :]
            self._incident = msgspec.structs.replace(self._incident, timeline=timeline)
            self._tell(self._incident)


def _next(spec: InstanceSpec, ending: Ending) -> str:
    """The command that a person would run first."""
    if (home := _on_full_disk(spec)) is not None:
        return f"df -h {home}"
    if ending == "faulty":
        return "relit config check"
    if spec.care is not None and (ending == "not-started" or (ending == "config" and spec.care.config)):
        return f"relit agent edit {spec.care.agent}"
    return f"relit logs {spec.name} -n 100"


def _on_full_disk(spec: InstanceSpec) -> str | None:
    """Its home, when nothing can be written there."""
    home = spec.care.home if spec.care is not None else ""
    return home if home and full(home) else None


# --- on disk ------------------------------------------------------------------------------------------------------


def save(folder: Path, incident: Incident) -> None:
    """Write it down, whole or not at all; the oldest go. Raises ``OSError``."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{incident.id}.new"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(incident)))
    draft.replace(folder / f"{incident.id}.json")
    for old in sorted(folder.glob("*.json"))[:-KEPT]:  # ids grow with time
        old.unlink(missing_ok=True)


def left_open(folder: Path) -> Incident | None:
    """The newest one, if it can be read and is not over."""
    found = sorted(folder.glob("*.json"))
    try:
        newest = msgspec.json.decode(found[-1].read_bytes(), type=Incident) if found else None
    except (OSError, msgspec.MsgspecError):
        return None
    return newest if newest is not None and newest.resolved_ms is None else None


def forsaken(folder: Path, now_ms: int) -> Incident | None:
    """The one that is open there, ended: nobody will any more, since its instance is not wanted."""
    left = left_open(folder)
    if left is None:
        return None
    entry = Entry(at_ms=now_ms, what=UNWANTED)
    return msgspec.structs.replace(left, resolved_ms=now_ms, next="", timeline=[*left.timeline, entry])


def told(error: RelitError) -> str:
    """An action's failure in one line."""
    return f"failed: {error.what}" + (f" ({error.why})" if error.why else "")
