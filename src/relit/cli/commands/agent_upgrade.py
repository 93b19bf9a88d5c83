"""``agent upgrade`` and ``agent rollback``."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

from relit.cli.exits import OK
from relit.cli.homes import opened
from relit.cli.progress import Steps
from relit.cli.session import Session, pass_session
from relit.lib.durations import human

if TYPE_CHECKING:
    from relit.app.agent_upgrading import Upgrade, Upgraded


@click.command()
@click.argument("name")
@click.argument("version", default="")
@click.option("--force", is_flag=True, help="Also a version that failed before.")
@pass_session
def upgrade(session: Session, name: str, version: str, force: bool) -> int:
    """Give an agent another VERSION (default: the one that its kind's file names).

    A snapshot is taken, and the version is tried in a clone of the agent that cannot act on the world. Only when that
    becomes ready and answers is the agent itself restarted with it; when it does badly then, all goes back.
    """
    session.confirm(f"Upgrade {name}?")
    with Steps(session) as steps:
        done = asyncio.run(_cleanly(_upgrade(session, name, steps).forward(version, force=force)))
    return _tell(session, done)


@click.command()
@click.argument("name")
@pass_session
def rollback(session: Session, name: str) -> int:
    """Undo an agent's last upgrade: the version before it, and its files as they were then."""
    with Steps(session) as steps:
        work = _upgrade(session, name, steps)
    last = work.last()
    session.confirm(
        f"{name} goes back from {work.before} to {last.before}, and its files to snapshot {last.snapshot}: what it "
        "wrote since then is in newer snapshots only. Go on?"
    )
    with Steps(session) as steps:
        done = asyncio.run(_cleanly(_upgrade(session, name, steps).rollback()))
    return _tell(session, done)


async def _cleanly(work: Coroutine[Any, Any, Upgraded]) -> Upgraded:
    """Also when the terminal is closed, or somebody asks it to end: as with Ctrl-C, nothing is left behind."""
    task = asyncio.get_running_loop().create_task(work)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _upgrade(session: Session, name: str, steps: Steps) -> Upgrade:
    from relit.app.agent_upgrading import Upgrade

    return Upgrade(session.settings(), session.environment, name, lambda: opened(session), steps.install, steps.step)


def _tell(session: Session, done: Upgraded) -> int:
    screen = session.screen
    if screen.as_json:
        from relit.cli.commands.agent_add import built

        screen.row({"event": "upgraded", **built(done)})
        return OK
    runs = f"runs (pid {done.pid})" if done.pid else "starts with it when it is started"
    screen.line(f"{done.name} has {done.after} instead of {done.before}, and {runs}")
    if done.trial is not None:
        screen.note(f"its clone was ready in {human(done.trial.took_ms)}; snapshot {done.snapshot} is from before")
        for each in done.trial.notes:
            screen.note(f"of the trial: {each}")
        screen.note(screen.dim(f"next: relit agent rollback {done.name}, when it does badly"))
    return OK
