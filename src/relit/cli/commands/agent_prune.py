"""``agent prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from relit.cli.exits import OK
from relit.cli.session import Session, pass_session
from relit.lib.durations import size

if TYPE_CHECKING:
    from relit.app.agent_pruning import Pruned


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would go and what stays, and why; do nothing.")
@click.option(
    "--rollbacks", type=click.IntRange(min=0), metavar="N",
    help="Keep the versions of the last N upgrades of each agent; earlier ones are installed again when they are gone "
    "back to. [default: all]",
)  # fmt: skip
@pass_session
def prune(session: Session, dry_run: bool, rollbacks: int | None) -> int:
    """Remove what was installed for agents and nothing needs any more: older versions, and the Node under them.

    What an agent has or `relit agent rollback` goes back to stays, what a process runs from, and what was installed or
    asked for in the last hour.
    """
    from relit.app.agent_pruning import look
    from relit.app.agent_pruning import prune as remove

    settings = session.settings()
    found = look(settings, rollbacks)
    if found.removed and not dry_run:
        names = ", ".join(f"{each.kind} {each.version}" for each in found.removed)
        session.confirm(f"Remove {names} ({size(found.freed_bytes)}) from {settings.runtimes}?")
    _tell(session, found if dry_run else remove(settings, found, rollbacks))
    return OK


def _tell(session: Session, done: Pruned) -> None:
    screen = session.screen
    if screen.as_json:
        screen.json(done)
        return
    rows = [
        [each.kind, each.version, size(each.size_bytes), verdict, each.why]
        for verdict, some in (("goes", done.removed), ("stays", done.kept))
        for each in some
    ]
    screen.table(["KIND", "VERSION", "ROOM", "VERDICT", "WHY"], rows, "nothing is installed")
    said = ("would go", "would be freed") if done.dry_run else ("went", "freed")
    screen.line(f"{len(done.removed)} {said[0]}, {size(done.freed_bytes)} {said[1]}")
