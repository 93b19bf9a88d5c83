"""``incidents`` and ``why``: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from relit import documents
from relit.cli import troubles
from relit.cli.commands.overview import state_of
from relit.cli.exits import DEGRADED
from relit.cli.http import Api, segment
from relit.cli.screen import Screen, ago, brief, clean, short, when
from relit.cli.session import Session, pass_session
from relit.documents import Incident, IncidentDetail
from relit.documents.postmortem import postmortem
from relit.errors import NotFound, ServerUnreachable
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.durations import human

MARKS = {"critical": "▲ critical", "warning": "△ warning", "info": "· info"}
_MOST = 1000


@click.command()
@click.option("--agent", help="Of this agent only.")
@click.option("--all", "everything", is_flag=True, help="Those that are over, too.")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, _MOST), help="At most so many.")
@pass_session
def incidents(session: Session, agent: str | None, everything: bool, limit: int) -> int:
    """Troubles of agents: those that go on, newest first, then with --all those that are over.

    Exit code 3 when one goes on that is a warning or critical. `relit why` takes the ID as shown.
    """
    api, screen = session.api(), session.screen
    going = api.get("/v1/incidents", documents.Incidents, open=True, limit=_MOST, agent=agent).incidents
    found = going[:limit]
    if everything and len(found) < limit:
        latest = api.get("/v1/incidents", documents.Incidents, limit=_MOST, agent=agent).incidents
        found += [each for each in latest if not each.open][: limit - len(found)]
    if screen.as_json:
        screen.json(documents.Incidents(incidents=found))
    else:
        _list(screen, found, len(going) - len(found), everything)
    return DEGRADED if any(each.grave for each in going) else 0


def _list(screen: Screen, found: Sequence[Incident], more: int, everything: bool) -> None:
    rows = [
        [short(each.id), each.agent, MARKS[each.severity], _going(each), f"{each.rung} of 4", ago(each.opened_at),
         _lasted(each), brief(each.title)]
        for each in found
    ]  # fmt: skip
    none = "no incidents" if everything else "no agent is in trouble; past troubles: relit incidents --all"
    screen.table(["ID", "AGENT", "SEVERITY", "STATE", "RUNG", "BEGAN", "LASTED", "WHAT"], rows, none)
    if more > 0:
        screen.note(screen.dim(f"and {more} more that go on: -n {len(found) + more}"))
    if found:
        screen.hint(f"relit why {found[0].agent}", f"relit why {short(found[0].id)}")


def _going(incident: Incident) -> str:
    return "● open" if incident.open else "○ resolved"


def _lasted(incident: Incident) -> str:
    return "" if incident.resolved_at is None else human(max(0, incident.resolved_at - incident.opened_at))


@click.command()
@click.argument("agent")
@pass_session
def why(session: Session, agent: str) -> int:
    """What is wrong with an AGENT, what relit did, and the command to run now: the post-mortem of its newest trouble.

    The ID of an incident instead of an agent tells of that one. Exit code 3 when the trouble goes on and is a warning
    or critical. Without a server it tells what this machine's node wrote down.
    """
    names, running = troubles.names_of(session, agent), troubles.here(session)
    known = Known(troubles.status_of(running, names))
    try:
        known.ask(session.api(), agent, names)
    except ServerUnreachable as error:
        if session.flags.get("server") or session.environment.server:
            raise
        known.read(troubles.written(session.data, names))
        if known.incident is None and known.status is None:
            raise
        session.screen.note(
            session.screen.style(f"{error.what}; this is what the node of this machine knows", fg="yellow")
        )
    return _tell(session.screen, agent, known)


class Known:
    """What is known of an agent: its newest trouble, if there ever was one, and how it is now."""

    def __init__(self, status: Any) -> None:
        self.status = status
        self.source = "server"
        self.incident: IncidentDetail | None = None
        self.state: str = status.state if status is not None else ""
        self.since: int | None = (status.since_ms or None) if status is not None else None
        self.exact = False  # this incident was asked for, whichever is the newest

    def ask(self, api: Api, agent: str, names: Sequence[str]) -> None:
        """The server. Raises ``NotFound`` for what is neither an agent nor an incident."""
        newest = [each for name in names for each in _newest(api, name)]
        if newest:
            first = max(newest, key=lambda each: (each.open, each.opened_at))
            self.incident = api.get(f"/v1/incidents/{segment(first.id)}", IncidentDetail)
        if self.state:
            return
        try:
            self.state = state_of(api.get(f"/v1/agents/{segment(agent)}", documents.Agent))
        except NotFound:
            if self.incident is None:
                self.incident, self.exact = _named(api, agent), True

    def read(self, written: Sequence[IncidentDetail]) -> None:
        """What its node wrote down."""
        self.source = "node"
        self.incident = max(written, key=lambda each: (each.open, each.opened_at), default=None)


def _newest(api: Api, agent: str) -> list[Incident]:
    """The newest trouble that goes on, else the newest one."""
    for going in (True, False):
        if found := api.get("/v1/incidents", documents.Incidents, agent=agent, open=going, limit=1).incidents:
            return found
    return []


def _named(api: Api, id: str) -> IncidentDetail:
    try:
        return api.get(f"/v1/incidents/{segment(id)}", IncidentDetail)
    except NotFound as error:
        raise NotFound(f"there is no agent and no incident {id!r}", fix="relit ps, or relit incidents --all") from error


def _tell(screen: Screen, agent: str, known: Known) -> int:
    incident = known.incident
    ill = known.state in troubles.ILL
    if screen.as_json:
        state = {
            "agent": incident.agent if incident and known.exact else agent,
            "state": known.state,
            "since": known.since,
        }
        screen.json(state | {"source": known.source, "incident": incident})
    else:
        if not known.exact and (incident is None or not incident.open):
            screen.line(_how(screen, agent, known, ill))
        if incident is not None:
            _page(screen, incident)
    return DEGRADED if ill or (incident is not None and incident.grave) else 0


def _how(screen: Screen, agent: str, known: Known, ill: bool) -> str:
    """How an agent is that is in no trouble, in a sentence."""
    since = f" since {when(known.since)} ({ago(known.since)})" if known.since else ""
    reason = f": {clean(known.status.last_exit or known.status.reason)}" if ill else ""
    past = "No trouble of it is known." if known.incident is None else "Its last trouble is over:"
    how = "is not well" if ill else "is well"
    return f"{agent} {how}: it is {screen.state(known.state or 'away')}{since}{reason}. {past}"


def _page(screen: Screen, incident: IncidentDetail) -> None:
    now = SYSTEM_CLOCK.now_ms()
    zone = datetime.fromtimestamp(now / 1000).astimezone().tzinfo
    page = postmortem(incident, now, zone) if zone is not None else postmortem(incident, now)
    for line in page.rstrip("\n").split("\n"):
        screen.line(screen.style(line, bold=True) if line.startswith(("# ", "## ", "**")) else line)
