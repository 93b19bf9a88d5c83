"""``incidents`` and ``why``: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

import click

from relit import documents
from relit.cli import troubles
from relit.cli.commands.ps import speaks_utf8
from relit.cli.exits import DEGRADED
from relit.cli.http import Api, segment
from relit.cli.roster import ILL, Row
from relit.cli.screen import SHAPES, Screen, ago, brief, clean, short, when
from relit.cli.session import Session, pass_session
from relit.cli.survey import Survey
from relit.documents import Incident, IncidentDetail
from relit.documents.postmortem import postmortem
from relit.errors import NotFound, ServerUnreachable
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.durations import human
from relit.settings.noted import noted_start

T = TypeVar("T", bound=Incident)

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
        [short(each.id), each.agent, _shaped(each.severity), _going(each), f"{each.rung} of 4", ago(each.opened_at),
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
    return _shaped("open" if incident.open else "resolved")


def _shaped(word: str) -> str:
    return f"{SHAPES[word][0 if speaks_utf8() else 1]} {word}"


def _lasted(incident: Incident) -> str:
    return "" if incident.resolved_at is None else human(max(0, incident.resolved_at - incident.opened_at))


@click.command()
@click.argument("agent")
@pass_session
def why(session: Session, agent: str) -> int:
    """What is wrong with an AGENT, what relit did, and the command to run now: the post-mortem of its newest trouble.

    The ID of an incident instead of an agent tells of that one. Exit code 3 when the trouble goes on and is a warning
    or critical. Without a server it tells what the node of this machine wrote down.
    """
    api, row, away = session.api(), None, None
    try:
        found = Survey(session, api, noted_start(session.data)).look()
        away = found.away
        row = next((each for each in found.rows if agent in (each.agent, *each.instances)), None)
    except ServerUnreachable as error:  # and nothing else runs here
        away = error
    names = troubles.names_of(session.data, agent, row.instances if row else ())
    if away is None:
        return _tell(session.screen, agent, row, _asked(api, agent, names, row is not None), "server")
    if session.flags.get("server") or session.environment.server:
        raise away
    noted = _first(troubles.written(session.data, names))
    if row is None and noted is None:
        raise away
    session.screen.note(session.screen.style(f"{away.what}; this is what the node of this machine knows", fg="yellow"))
    return _tell(session.screen, agent, row, noted, "node")


def _first(found: Sequence[T]) -> T | None:
    """The newest trouble that goes on, else the newest one."""
    return max(found, key=lambda each: (each.open, each.opened_at, each.id), default=None)


def _asked(api: Api, agent: str, names: Sequence[str], known: bool) -> IncidentDetail | None:
    """Its newest trouble; of a name that no agent has, the incident that is called so. Raises ``NotFound``."""
    newest = _first([each for name in names for going in (True, False) for each in _newest(api, name, going)])
    if newest is None and known:
        return None
    id = agent if newest is None else newest.id
    try:
        return api.get(f"/v1/incidents/{segment(id)}", IncidentDetail)
    except NotFound as error:
        raise NotFound(
            f"there is no agent and no incident {agent!r}", fix="relit ps, or relit incidents --all"
        ) from error


def _newest(api: Api, agent: str, going: bool) -> list[Incident]:
    return api.get("/v1/incidents", documents.Incidents, agent=agent, open=going, limit=1).incidents


def _tell(screen: Screen, agent: str, row: Row | None, incident: IncidentDetail | None, source: str) -> int:
    ill = row is not None and row.state in ILL
    if screen.as_json:
        state = {"agent": row.agent, "state": row.state, "since": row.since, "reason": row.reason} if row else None
        screen.json({"agent": agent, "now": state, "incident": incident, "source": source})
    else:
        if row is not None and (incident is None or not incident.open):
            screen.line(_how(screen, row, ill, incident is not None))
        if incident is not None:
            _page(screen, incident)
    return DEGRADED if ill or (incident is not None and incident.grave) else 0


def _how(screen: Screen, row: Row, ill: bool, past: bool) -> str:
    """How an agent is that is in no trouble, in a sentence."""
    since = f" since {when(row.since)} ({ago(row.since)})" if row.since else ""
    reason = f": {clean(row.reason or row.last_exit)}" if row.reason or (ill and row.last_exit) else ""
    how = "is not well" if ill else "is well"
    told = "Its last trouble is over:\n" if past else "No trouble of it is known."
    return f"{row.agent} {how}: it is {screen.state(row.state)}{since}{reason}. {told}"


def _page(screen: Screen, incident: IncidentDetail) -> None:
    now = SYSTEM_CLOCK.now_ms()
    zone = datetime.fromtimestamp(now / 1000).astimezone().tzinfo
    page = postmortem(incident, now, zone) if zone is not None else postmortem(incident, now)
    for line in page.rstrip("\n").split("\n"):
        screen.line(screen.style(line, bold=True) if line.startswith(("# ", "## ", "**")) else line)
