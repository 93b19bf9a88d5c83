"""``volume``: agents' homes and their versions."""

from __future__ import annotations

import sys

import click

from relit import documents
from relit.cli.commands.aliases import Aliased
from relit.cli.commands.restore import volume_restore
from relit.cli.commands.upkeep import prune, rebuild, stats, tell, verify
from relit.cli.exits import DEGRADED, OK
from relit.cli.homes import INSIDE, NOW, OTHER, TAG, WHEN, ask, opened
from relit.cli.screen import ago, brief, clean, when
from relit.cli.session import Session, pass_session
from relit.lib.durations import human, size


@click.group(cls=Aliased, invoke_without_command=True)
@click.pass_context
def volume(ctx: click.Context) -> None:
    """Versions of agents' homes: look, compare, go back, fork, keep. Without a verb: ls.

    WHEN is a number (12), an id, a tag, or a time: 14:02, '10 minutes ago', 2026-01-31T09:00.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_volumes)


for _command in (volume_restore, prune, verify, rebuild, stats):
    volume.add_command(_command)


@volume.command("ls")
@pass_session
def list_volumes(session: Session) -> int:
    """Volumes: how many snapshots, how large, how old the newest; and damage until a later check finds it mended.

    Exit code 3: a snapshot failed, or something is damaged.
    """
    found, screen = ask(session, lambda volumes: volumes.list()), session.screen
    if screen.as_json:
        screen.json(found)
    else:
        rows = [
            [each.agent, _state(each, found), str(each.snapshots), ago(each.newest_at), str(each.files),
             size(each.bytes), size(each.packed), each.origin]
            for each in found.volumes
        ]  # fmt: skip
        heads = ["AGENT", "STATE", "SNAPSHOTS", "NEWEST", "FILES", "SIZE", "PACKED", "FROM"]
        screen.table(heads, rows, "no volumes: an agent's first snapshot makes one")
        for each in found.volumes:
            if each.error:
                screen.note(f"{each.agent}: {each.error}")
        tell(session, found.damage)
    return DEGRADED if found.damage or any(each.error for each in found.volumes) else OK


def _state(volume: documents.Volume, found: documents.Volumes) -> str:
    if any(each.agent == volume.agent for each in found.damage):
        return "damaged"
    return "failed" if volume.error else "ok"


@volume.command()
@click.argument("agent")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="At most so many.")
@click.option("--before", type=click.IntRange(1), metavar="NUMBER", help="Only those older than this one.")
@pass_session
def log(session: Session, agent: str, limit: int, before: int | None) -> None:
    """An agent's snapshots, newest first."""
    found = ask(session, lambda volumes: volumes.log(agent, limit=limit, before=before))
    if session.screen.as_json:
        session.screen.json(found)
        return
    rows = [
        [str(each.number), when(each.at), each.reason, str(each.files), size(each.bytes), size(each.fresh),
         human(each.freeze_us / 1000) if each.freeze_us else "", _where(each), _remarks(each)]
        for each in found.snapshots
    ]  # fmt: skip
    heads = ["NO", "AT", "WHY", "FILES", "SIZE", "NEW", "FROZEN", "WHERE", "MARKS"]
    session.screen.table(heads, rows, "no snapshots yet")


def _where(snapshot: documents.Snapshot) -> str:
    return "stored" if snapshot.stored_at else "local"


def _marks(snapshot: documents.Snapshot) -> list[str]:
    return [*(["pinned"] if snapshot.pinned else []), *snapshot.tags]


def _remarks(snapshot: documents.Snapshot) -> str:
    skipped = [f"{len(snapshot.skipped)} skipped"] if snapshot.skipped else []
    middle = [] if snapshot.quiescent else ["mid-run"]
    return ", ".join([*_marks(snapshot), *middle, *skipped, *([brief(snapshot.note, 40)] if snapshot.note else [])])


@volume.command()
@click.argument("agent")
@click.argument("a", type=WHEN)
@click.argument("b", type=OTHER, default=NOW)
@click.argument("path", type=INSIDE, default=b"")
@click.option("--names", is_flag=True, help="Only which paths, not how their text differs.")
@pass_session
def diff(session: Session, agent: str, a: str, b: str, path: bytes, names: bool) -> None:
    """What differs between snapshots A and B (default: now, the home as it is), at and below PATH."""
    found = ask(session, lambda volumes: volumes.diff(agent, a, b, path, text=not names))
    screen = session.screen
    if screen.as_json:
        screen.json(found)
        return
    for change in found.changes:
        screen.line(f"{_sign(change)} {clean(change.path)}{_sizes(change)}")
        for line in (change.text or "").splitlines():
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
            screen.line("    " + screen.style(clean(line.replace("\t", "    ")), fg=colour))
    if not found.changes:
        screen.note("nothing differs")


def _sign(change: documents.Change) -> str:
    if change.before is None:
        return "+"
    return "-" if change.after is None else "~"


def _sizes(change: documents.Change) -> str:
    """Sizes of what is not shown as text."""
    sides = [each for each in (change.before, change.after) if each is not None and each.kind == "file"]
    if change.text is not None or not sides:
        return ""
    return "  " + " → ".join(size(each.size) for each in sides)


@volume.command()
@click.argument("agent")
@click.argument("path", type=INSIDE)
@click.option("--at", type=WHEN, required=True, metavar="WHEN", help="Of which snapshot.")
@pass_session
def cat(session: Session, agent: str, path: bytes, at: str) -> None:
    """A file as it was, on standard output."""
    import asyncio

    async def copy() -> None:
        async with opened(session) as volumes:
            async for piece in volumes.cat(agent, at, path):
                sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()

    asyncio.run(copy())


@volume.command()
@click.argument("agent")
@click.argument("path", type=INSIDE, default=b"")
@click.option("--at", type=WHEN, default=NOW, metavar="WHEN", help="Of which snapshot; default: the newest.")
@click.option("--deep", is_flag=True, help="And in the folders below.")
@pass_session
def files(session: Session, agent: str, path: bytes, at: str, deep: bool) -> None:
    """What is in a folder of a snapshot."""
    found = ask(session, lambda volumes: volumes.ls(agent, at, path, deep=deep))
    if session.screen.as_json:
        session.screen.json(found)
        return
    rows = [
        [f"{each.mode:04o}", size(each.size) if each.kind == "file" else each.kind, when(each.mtime_ns // 1_000_000),
         each.path + (f" -> {each.target}" if each.target else "")]
        for each in found.files
    ]  # fmt: skip
    session.screen.table(["MODE", "SIZE", "CHANGED", "PATH"], rows, "an empty folder")


@volume.command()
@click.argument("agent")
@click.option("--note", default="", help="Kept with it.")
@click.option("--tag", type=TAG, help="Name it; a named snapshot is never pruned.")
@click.option(
    "--wait",
    type=click.Choice(["local", "stored"]),
    default="local",
    show_default=True,
    help="Until it is on this node's disk, or in the blob store.",
)
@pass_session
def snapshot(session: Session, agent: str, note: str, tag: str | None, wait: documents.Mark) -> None:
    """Take a snapshot now."""
    taken = ask(session, lambda volumes: volumes.snapshot(agent, note=note, wait=wait, tag=tag))
    if session.screen.as_json:
        session.screen.json(taken)
        return
    made = taken.snapshot
    if not taken.created:
        session.screen.line(f"{agent}: nothing changed since snapshot {made.number} of {when(made.at)}")
        return
    frozen = f", frozen for {human(made.freeze_us / 1000)}" if made.freeze_us else ""
    session.screen.line(f"{agent}: snapshot {made.number}, {made.files} files, {size(made.fresh)} new{frozen}")
    for each in made.skipped:
        session.screen.note(f"left out: {clean(each.path)} ({each.why})")


@volume.command()
@click.argument("agent")
@click.argument("new")
@click.option("--at", type=WHEN, default=NOW, metavar="WHEN", help="Of which snapshot; default: the newest.")
@pass_session
def fork(session: Session, agent: str, new: str, at: str) -> None:
    """Make the agent NEW, whose home is a snapshot of AGENT's. Contents are shared."""
    made = ask(session, lambda volumes: volumes.fork(agent, new, at))
    if session.screen.as_json:
        session.screen.json(made)
        return
    session.screen.line(f"{made.agent} is made from {made.origin}: {made.files} files, {size(made.bytes)}")
    session.screen.hint(f"add [agents.{made.agent}] to relit.toml, then: relit up")


@volume.command("tag")
@click.argument("agent")
@click.argument("at", type=WHEN, metavar="WHEN")
@click.argument("name", type=TAG, metavar="TAG")
@click.option("--remove", is_flag=True, help="Take the name off it.")
@click.option("--force", is_flag=True, help="known-good although a run was unfinished then (mid-run in the log).")
@pass_session
def set_tag(session: Session, agent: str, at: str, name: str, remove: bool, force: bool) -> None:
    """Name a snapshot. A name moves; known-good may stand on many. A named one is never pruned.

    known-good says that the agent was healthy with it: only a snapshot between runs can be that.
    """
    _changed(session, ask(session, lambda volumes: volumes.tag(agent, at, name, remove=remove, force=force)))


@volume.command()
@click.argument("agent")
@click.argument("at", type=WHEN, metavar="WHEN")
@click.option("--off", is_flag=True, help="No longer.")
@pass_session
def pin(session: Session, agent: str, at: str, off: bool) -> None:
    """Keep a snapshot whatever the tiers say."""
    _changed(session, ask(session, lambda volumes: volumes.pin(agent, at, pinned=not off)))


def _changed(session: Session, made: documents.Snapshot) -> None:
    if session.screen.as_json:
        session.screen.json(made)
    else:
        session.screen.line(
            f"{made.agent}: snapshot {made.number} of {when(made.at)}: {', '.join(_marks(made)) or 'no marks'}"
        )


@volume.command("rm")
@click.argument("agent")
@click.option("--home", is_flag=True, help="Put the home away too: an agent that relit.toml names no more.")
@pass_session
def remove(session: Session, agent: str, home: bool) -> None:
    """Forget a volume with all its snapshots. The home stays, and relit makes a new volume of it; --home renames it
    to home.removed-ID, which relit leaves alone."""
    session.confirm(f"Forget all snapshots of {agent}? They cannot be brought back.")
    done = ask(session, lambda volumes: volumes.remove(agent, home=home))
    if session.screen.as_json:
        session.screen.json(done)
        return
    session.screen.note(f"the snapshots of {agent} are forgotten; the next prune frees their space")
    if done.put_away:
        session.screen.note(f"its home is now {done.home}: remove that when nothing in it is needed")
    elif done.home:
        session.screen.note(
            f"its home stays, and its next snapshot begins a new volume (--home puts it away): {done.home}"
        )
