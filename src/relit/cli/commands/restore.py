"""``restore``: an agent, or some of its files, as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import click

from relit import documents
from relit.cli.homes import INSIDE, WHEN, ask
from relit.cli.screen import Screen, clean, short, when
from relit.cli.session import Session, pass_session
from relit.documents import Messages
from relit.lib.durations import human

_SHOWN = 20  # paths of a plan that a person reads; --json has all
_FATE: dict[Messages | None, str] = {
    None: "are not touched",
    "keep": "go back with it, unless they have ended",
    "redeliver": "are delivered again",
    "drop": "go back with it, unless they have ended; those that came since and have not ended are dropped",
}
_AT = click.option(
    "--at", "at", type=WHEN, required=True, metavar="WHEN", help="A time, number, id or tag: 14:02, '10 minutes ago'."
)
_DRY = click.option("--dry-run", is_flag=True, help="Say what would be done and what stays as it is; do nothing.")


_EXACT = click.option("--exact", is_flag=True, help="Of the PATHs, remove what came since.")
_FULL = click.option(
    "--full", is_flag=True, help="Lay the whole home anew; what is there is put aside, with what snapshots leave out."
)


@click.command()
@click.argument("agent")
@click.argument("paths", nargs=-1, type=INSIDE, metavar="[PATH]...")
@_AT
@_DRY
@_EXACT
@_FULL
@click.option(
    "--messages",
    type=click.Choice(get_args(Messages)),
    help="Messages since then: keep those that ended (the default), redeliver them, or drop those under way.",
)
@pass_session
def restore(
    session: Session,
    agent: str,
    paths: tuple[bytes, ...],
    at: str,
    dry_run: bool,
    exact: bool,
    full: bool,
    messages: Messages | None,
) -> None:
    """Put an agent back to a moment: its files and its journal.

    With PATHs: only those files and folders; what came since stays in them, and so does the journal. Effects since
    then stay done; they are listed. The restore is a snapshot, too, so it can be taken back.
    """
    if paths and messages:
        raise click.UsageError("--messages goes with the whole agent; with PATH only files go back")
    choice: Messages | None = None if paths else messages or "keep"
    put_back(session, agent, at, paths, dry_run, exact, full, choice)


def put_back(
    session: Session,
    agent: str,
    at: str,
    paths: tuple[bytes, ...],
    dry_run: bool,
    exact: bool,
    full: bool,
    messages: Messages | None,
) -> None:
    """Show the plan, ask, do it, tell."""
    screen = session.screen
    if exact and not paths:
        raise click.UsageError("--exact goes with PATHs; a whole agent is always put back exactly")

    if full and paths:
        raise click.UsageError("--full goes with the whole agent")

    def asked(when: str, *, dry_run: bool = False) -> documents.Restored:
        return ask(
            session,
            lambda volumes: volumes.restore(
                agent, when, paths, dry_run=dry_run, exact=exact, full=full, messages=messages
            ),
        )

    if dry_run or not session.yes:
        plan = asked(at, dry_run=True)
        if dry_run:
            _tell(screen, plan)
            return
        if not screen.as_json:
            _summary(screen, plan, screen.note)
        session.confirm(f"Put {agent} back to snapshot {plan.to.number} of {when(plan.to.at)}?")
        at = f"#{plan.to.number}"  # what was shown is what is done
    _tell(screen, asked(at))


def _tell(screen: Screen, done: documents.Restored) -> None:
    if screen.as_json:
        screen.json(done)
        return
    _summary(screen, done, screen.line)
    if not done.dry_run:
        screen.hint(f"relit volume restore {done.agent} --at '#{done.before}'  (takes it back)")


def _summary(screen: Screen, done: documents.Restored, say: Callable[[str], None]) -> None:
    would = "would be " if done.dry_run else ""
    say(f"{done.agent}: snapshot {done.to.number} of {when(done.to.at)}" + _tags(done.to))
    for what, paths in (("written", done.written), ("removed", done.removed), ("adjusted", done.adjusted)):
        if paths:
            say(f"  {len(paths)} {would}{what}:")
            for path in paths[:_SHOWN]:
                say(f"    {clean(path)}")
            if len(paths) > _SHOWN:
                say(f"    … and {len(paths) - _SHOWN} more (--json lists all)")
    if done.skipped:
        say(f"  {len(done.skipped)} {'would not be' if done.dry_run else 'are not'} as they were then:")
        for each in done.skipped[:_SHOWN]:
            say(f"    {clean(each.path)} ({each.why})")
    if not (done.written or done.removed or done.adjusted or done.skipped):
        say("  no file differs")
    for line in _since(done):
        say(line)
    if not done.dry_run:
        say(f"  done in {human(done.took_ms)}; before: snapshot {done.before}, now: snapshot {done.number}")
        if done.replaced:
            say(f"  what it replaced lies in {done.replaced}")


def _since(done: documents.Restored) -> list[str]:
    """What a restore does not undo."""
    lines: list[str] = []
    if done.effects:
        lines.append(f"  {len(done.effects)} effects since then stay done:")
        lines += [f"    {when(e.at)}  {clean(e.name)}  {e.state}  run {short(e.run)}" for e in done.effects[:_SHOWN]]
    if done.messages:
        lines.append(f"  {len(done.messages)} messages since then {_FATE[done.choice]}:")
        lines += [
            f"    {when(m.at)}  {m.state}  run {short(m.run)}"
            + (f"  {m.superseded} steps no longer count" if m.superseded else "")
            for m in done.messages[:_SHOWN]
        ]
    return lines


def _tags(snapshot: documents.Snapshot) -> str:
    return f" ({', '.join(snapshot.tags)})" if snapshot.tags else ""


@click.command("restore")
@click.argument("agent")
@click.argument("paths", nargs=-1, type=INSIDE, metavar="[PATH]...")
@_AT
@_DRY
@_EXACT
@_FULL
@pass_session
def volume_restore(
    session: Session, agent: str, paths: tuple[bytes, ...], at: str, dry_run: bool, exact: bool, full: bool
) -> None:
    """Put files back as they were: all, or PATHs, in which what came since stays. The journal stays as it is (`relit
    restore` takes it along)."""
    put_back(session, agent, at, paths, dry_run, exact, full, None)
