"""``agent adopt`` and ``agent release``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relit.cli.commands.agent_add import built, tell_added
from relit.cli.commands.agent_state import hand_of
from relit.cli.exits import CONFLICT, OK
from relit.cli.homes import opened
from relit.cli.progress import Steps
from relit.cli.screen import brief, clean
from relit.cli.session import Session, pass_session
from relit.lib.durations import size

if TYPE_CHECKING:
    from relit.app.agent_adopting import Adopted, Asked


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", default="", help="What the agent is to be called. [default: its kind]")
@click.option("--kind", default="", help="Of what kind it is. [default: guessed by what is there]")
@click.option("--version", default="", help="Of its kind. [default: the one that the kind's file names]")
@click.option("--model", default="", help="A table of [models]. [default: its own settings stay]")
@click.option("--move/--copy", default=False, help="Remove PATH in the end, or leave it. [default: copy]")
@click.option("--start/--no-start", default=True, show_default=True, help="Let it run, or leave it stopped by hand.")
@pass_session
def adopt(session: Session, path: Path, name: str, kind: str, version: str, model: str, move: bool, start: bool) -> int:
    """Take over an installation that exists: ~/.openclaw, ~/.hermes. It must be stopped.

    Its files are copied and compared, its ports, tokens and model stay. What relit changes in its configuration is
    listed; a snapshot tagged `adopted` holds it as it was, and `relit agent release` gives it back.

    --move removes PATH in the end, unless something was written there meanwhile: then it stays, and the exit code is 6.
    Workspaces outside PATH are copied and stay where they are.
    """
    from relit.app.agent_adopting import TAG, Asked, guessed, outside
    from relit.app.agent_adopting import adopt as take

    settings = session.settings()
    asked = guessed(
        settings,
        Asked(source=path, name=name, kind=kind, version=version, model=model, move=move, start=start),
    )
    if move:
        session.confirm(_question(asked, outside(settings, session.environment, asked)))

    async def snapshot(agent: str) -> int:
        async with opened(session) as volumes:
            taken = await volumes.snapshot(agent, tag=TAG, note=f"as it was in {asked.source}")
            return taken.snapshot.number

    with Steps(session) as steps:
        done = asyncio.run(take(settings, session.environment, asked, steps.install, steps.step, snapshot))
    _tell(session, done)
    code = tell_added(session, done.added, None)
    return code if done.stays is None else CONFLICT


def _question(asked: Asked, outside: list[str]) -> str:
    also = f" Copied too, and left where they are: {', '.join(outside)}." if outside else ""
    return f"Take over {asked.source}, and remove it there?{also}"


def _tell(session: Session, done: Adopted) -> None:
    screen = session.screen
    if screen.as_json:
        screen.row({"event": "adopted", **built(done)})
        return
    screen.line(
        f"{done.source} is taken over: {done.copied.files} files, {size(done.copied.bytes)}; snapshot {done.snapshot}"
    )
    for each in done.copied.outside:
        screen.note(f"a link that leads out, kept as it is: {clean(each)}")
    for each in done.copied.left:
        screen.note(f"not taken along: {clean(each)}")
    if done.changes:
        screen.line("relit has changed in its configuration:")
        screen.table(
            ["KEY", "WAS", "IS"], [[each.key, brief(each.before, 40), brief(each.after, 40)] for each in done.changes]
        )
    _tell_schedules(session, done)
    if done.blind:
        screen.note("it has no canary: its calls go to its own model; `--model default` lets them pass relit's gateway")
    for each in done.outside:
        screen.note(f"copied too, and left where it is: {clean(each)}")
    if done.stays is not None:
        screen.line(f"{done.source} is NOT removed; {done.added.name} is complete without it")
        screen.line(f"why: {clean(done.stays.why)}")
        screen.line(f"fix: {clean(done.stays.fix)}")
    if not done.moved:
        state = "is as it was" if done.stays is None else "is still there"
        screen.note(f"{done.source} {state}; do not start it beside this one: both would answer for you")


def _tell_schedules(session: Session, done: Adopted) -> None:
    names = ", ".join(each.name for each in done.schedules)
    if done.schedules and done.switched_off:
        session.screen.line(
            f"switched off: its own schedules {names}; as remarks in {done.added.file}, for relit to do"
        )
    elif done.schedules:
        session.screen.line(f"its own schedules go on: {names}")


@click.command()
@click.argument("name")
@click.argument("dest", type=click.Path(path_type=Path))
@pass_session
def release(session: Session, name: str, dest: Path) -> int:
    """Give an agent back: stop it, copy its files to DEST as its kind has them without relit, undo what relit changed.

    The agent stays in relit, stopped, until `relit agent rm`.
    """
    from relit.app.agent_files import see_known
    from relit.app.agent_releasing import release as give
    from relit.app.agent_releasing import see

    settings, screen = session.settings(), session.screen
    see_known(settings, name)
    see(settings, name, dest)
    asyncio.run(hand_of(session, name).stop(reason="stopped by hand: it was given back"))
    done = give(settings, name, dest)
    if screen.as_json:
        screen.json(done)
        return OK
    screen.line(f"{name} is in {done.dest}: {done.copied.files} files, {size(done.copied.bytes)}")
    for each in done.beside:
        screen.note(f"and what it had beside that, for you to put where it belongs: {each}")
    for each in done.copied.outside:
        screen.note(f"a link that leads out, kept as it is: {clean(each)}")
    for each in done.copied.left:
        screen.note(f"not taken along: {clean(each)}")
    if done.undone:
        screen.note(f"as before relit: {', '.join(done.undone)}")
    if done.model:
        screen.note(f"its model is relit's gateway still: set {', '.join(done.model)}")
    screen.line(f"without relit it starts with: {done.start}")
    screen.note(f"here it stays stopped: relit agent rm {name}, or relit agent start {name}")
    return OK
