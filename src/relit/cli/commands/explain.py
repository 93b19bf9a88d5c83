"""``explain``: what an error means."""

from __future__ import annotations

import inspect

import click

from relit.cli.exits import code_of
from relit.cli.session import Session, pass_session
from relit.errors import NotFound, by_code

# What to do, where one sentence is not enough.
ADVICE: dict[str, str] = {
    "config": "`relit config check` names every fault with file and line; `relit config show` says where each value "
    "comes from; `relit config schema` is the JSON Schema.",
    "not-found": "`relit runs`, `relit ps`, `relit schedule ls` show what there is. A run's id may be shortened to any "
    "beginning or end that fits one run.",
    "conflict": "`relit show RUN` says in which state it is and what can be done with it then.",
    "mailbox-full": "Senders wait and send again after Retry-After. `relit mailbox ls` shows how full it is; "
    "`depth` in [agents.NAME.mailbox] sets the limit; is a worker running (`relit ps`)?",
    "unauthorized": "On the server's machine commands find the token in the data folder. Elsewhere: "
    "`relit token new NAME` there, RELIT_TOKEN here.",
    "server-unreachable": "`relit up` starts everything here; `--server URL` or RELIT_SERVER names another server. "
    "`relit doctor` checks both.",
    "provider-private": "The name in the route's `url` leads to this machine or its network. If that is meant (a "
    "server of your own, a container), set `private = true` in that table of [models]; else somebody has changed "
    "where it leads.",
    "provider-fault": "The gateway's /healthz tells since when. Is the provider up, is its `url` in relit.toml right? "
    "Agents are not restarted for it; their calls work again when it does.",
    "provider-silent": "As `provider-fault`. For a model that needs longer: `first_byte` and `idle` in [models.NAME].",
    "turn-failed": "`relit why AGENT` says what is wrong with the agent, `relit show RUN` what it answered. When it is "
    "mended: `relit requeue RUN`.",
    "store-full": "Nothing was written, nothing is lost. Make room (`df -h`), or shorten `runs` in [retention]; "
    "work goes on by itself.",
    "store-unavailable": "Nothing is lost. Work goes on by itself when the database answers again.",
    "store-corrupt": "Stop everything (`relit down`), copy the data folder away, then `relit doctor`.",
    "schema-too-new": "The database was written by a newer relit. Install that version again; a downgrade is not done.",
    "fenced": "Another worker has taken the run over since; this one wrote nothing. Nothing to do.",
    "journal-mismatch": "The code of a workflow changed while runs of it were under way. Keep the old path with "
    '`if ctx.patched("name")`, or `relit fork RUN --step N` from before the change.',
    "effect-in-doubt": "Look at the other side whether it happened, then "
    "`relit effects resolve RUN POS --done` or `--not-done`.",
    "unknown-workflow": "No worker that was ever seen has it. Start one: `relit worker MODULE`; names: `relit ps`.",
    "unserialisable": "Return plain data: builtins, dataclasses, msgspec Structs, pydantic models.",
    "run-failed": "`relit show RUN` shows the step and its traceback; `relit retry RUN` goes on from there.",
}


@click.command()
@click.argument("code", required=False)
@pass_session
def explain(session: Session, code: str | None) -> None:
    """What an error means and what to do. Without CODE: all of them."""
    from relit.api import problem  # the API adds errors of its own

    assert problem
    known, screen = by_code(), session.screen
    if code is None:
        rows = [[each, first_line(known[each]), str(code_of(known[each]("")))] for each in sorted(known)]
        if screen.as_json:
            screen.json([{"code": each, "meaning": meaning, "exit": int(number)} for each, meaning, number in rows])
        else:
            screen.table(["CODE", "MEANING", "EXIT"], rows)
        return
    if code == "usage":
        _tell(session, code, "The command was written wrongly.", "`relit COMMAND --help` says what there is.", False)
        return
    if code not in known:
        from difflib import get_close_matches

        near = get_close_matches(code, known, n=1)
        raise NotFound(
            f"no error has the code {code!r}", why=f"did you mean {near[0]}?" if near else "", fix="relit explain"
        )
    _one(session, code)


def _one(session: Session, code: str) -> None:
    kind = by_code()[code]
    meaning, advice = " ".join((inspect.getdoc(kind) or "").split()), ADVICE.get(code, "")
    _tell(session, code, meaning, advice, kind.retry)


def _tell(session: Session, code: str, meaning: str, advice: str, retry: bool) -> None:
    if session.screen.as_json:
        session.screen.json({"code": code, "meaning": meaning, "advice": advice, "retry": retry})
        return
    session.screen.line(f"{code}: {meaning}")
    if advice:
        session.screen.line(advice)
    session.screen.line("Trying again can help." if retry else "Trying again without a change does not help.")


def first_line(kind: type) -> str:
    """The first line of a class's docstring."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]
