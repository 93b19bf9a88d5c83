"""``recover``: a lost server, out of its blob store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from relit.cli.commands.key import keys_in
from relit.cli.exits import DEGRADED, OK
from relit.cli.screen import when
from relit.cli.session import Session, pass_session


@click.command()
@click.argument("store", required=False, metavar="[s3://BUCKET/PREFIX]")
@click.option("--key", "key", type=click.Path(path_type=Path, dir_okay=False), help="What relit key export wrote.")
@pass_session
def recover(session: Session, store: str | None, key: Path | None) -> int:
    """Bring a lost server back into an empty data folder: journal, volumes, homes. Needs the key and relit.toml.

    What came after the newest copy in the blob store is lost; effects of runs that were unfinished then are in doubt
    and are asked about, never blindly repeated. Make sure that the lost machine is really gone.
    """
    keys = keys_in(key) if key is not None else None  # one that cannot be read is told before anything is opened
    from relit.app.recover import recover as bring_back

    settings = session.settings({"volumes.store": store} if store else None)
    done, screen = asyncio.run(bring_back(settings, keys)), session.screen
    if screen.as_json:
        screen.json(done)
        return DEGRADED if done.problems else OK
    if done.store_at is not None:
        doubt = f"{done.runs} unfinished runs, whose later effects are in doubt"
        screen.line(f"the store is of {when(done.store_at)}; {doubt}")
    screen.line(f"{done.volumes} volumes with {done.snapshots} snapshots")
    for agent, number in sorted(done.homes.items()):
        screen.line(f"  {agent}: its home is of snapshot {number}")
    for problem in done.problems:
        screen.line(f"  problem: {problem}")
    if store:
        screen.note(f'relit.toml must say so, too: [volumes] store = "{store}"')
    screen.hint("relit up")
    return DEGRADED if done.problems else OK
