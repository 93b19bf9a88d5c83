"""``volume prune``, ``verify``, ``rebuild``, ``stats``: looking after what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import click

from relit import documents
from relit.cli.exits import DEGRADED, OK
from relit.cli.homes import ask
from relit.cli.screen import ago, clean, when
from relit.cli.session import Session, pass_session
from relit.lib.durations import size

_RUNS = 20  # of snapshot numbers, told of one damage


@click.command()
@click.argument("agent", required=False)
@click.option("--dry-run", is_flag=True, help="Say what would go and what stays, and why; do nothing.")
@pass_session
def prune(session: Session, agent: str | None, dry_run: bool) -> None:
    """Drop snapshots that no tier keeps, then packs that nothing refers to. This happens by itself, too.

    Packs go in two phases: found unused now, deleted when volumes.grace is over and they still are.
    """
    done, screen = ask(session, lambda volumes: volumes.prune(agent, dry_run=dry_run)), session.screen
    if screen.as_json:
        screen.json(done)
        return
    if dry_run:
        rows = [
            [each.agent, str(each.number), when(each.at), verdict, each.why]
            for verdict, some in (("goes", done.dropped), ("stays", done.kept))
            for each in some
        ]
        screen.table(["AGENT", "NO", "AT", "VERDICT", "WHY"], rows, "no snapshots")
    screen.line(
        f"{len(done.dropped)} snapshots {'would go' if dry_run else 'went'}; packs: {done.condemned} found unused, "
        f"{done.repacked} repacked, {done.deleted} deleted, {size(done.bytes)} freed"
    )


@click.command()
@click.argument("agent", required=False)
@click.option(
    "--sample",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="The share of packs that is read.",
)
@pass_session
def verify(session: Session, agent: str | None, sample: float) -> int:
    """Read packs back, check every chunk, compare the manifest with packs, and test-restore the newest snapshot.

    Exit code 3: damage was found, or something could not be checked.
    """
    done, screen = ask(session, lambda volumes: volumes.verify(agent, sample=sample)), session.screen
    if screen.as_json:
        screen.json(done)
    else:
        screen.line(
            f"{done.packs} packs, {done.chunks} chunks, {size(done.bytes)} of {done.snapshots} snapshots read; "
            f"{done.manifests} manifests compared, {len(done.restored)} test-restored, "
            f"{done.databases} databases checked"
        )
        tell(session, done.damage)
        for note in done.notes:
            screen.line(f"not checked: {clean(note)}")
        screen.line(_verdict(done))
    return DEGRADED if done.damage or done.notes else OK


def _verdict(done: documents.Verified) -> str:
    if done.damage:
        return f"{len(done.damage)} damaged; all other data can be restored"
    return "no damage in what was checked" if done.notes else "no damage"


def tell(session: Session, damage: Sequence[documents.Damage]) -> None:
    """Damage, with what it takes along and what mends it."""
    for each in damage:
        session.screen.line(f"damaged: {clean(each.what)}{_where(each)}")
        for path in each.paths:
            session.screen.line(f"    {clean(path)}")
        if each.fix:
            session.screen.line(f"    fix: {clean(each.fix)}")


def _where(each: documents.Damage) -> str:
    where = f"{each.agent} snapshots {_runs(each.snapshots)}" if each.agent else each.pack
    return f" ({where})" if where else ""


def _runs(numbers: Sequence[int]) -> str:
    """1, 2, 5 to 9."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    told = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(told[:_RUNS]) + (f" and on to {numbers[-1]}" if len(told) > _RUNS else "")


@click.command()
@pass_session
def rebuild(session: Session) -> int:
    """Put volumes that the store has lost back into it, out of the packs alone; put manifests that are damaged right.

    What the store has is left as it is where packs tell the same. Names and pins stay. When relit.db itself was lost,
    stop relit first (`relit down`): a new one takes over the packs that its key opens.
    """
    done, screen = ask(session, lambda volumes: volumes.rebuild(), adopting=True), session.screen
    if screen.as_json:
        screen.json(done)
    else:
        screen.line(
            f"{done.volumes} volumes, {done.snapshots} snapshots, {done.chunks} chunks back out of {done.packs} packs"
        )
        for agent in done.mended:
            screen.line(f"the manifest of {agent} was damaged, and is right again")
        for problem in done.problems:
            screen.line(f"not whole: {problem}")
    return DEGRADED if done.problems else OK


@click.command()
@click.argument("agent", required=False)
@pass_session
def stats(session: Session, agent: str | None) -> None:
    """Figures of one volume, or of all: sizes, packs, what waits for the blob store."""
    found, screen = ask(session, lambda volumes: volumes.stats(agent)), session.screen
    if screen.as_json:
        screen.json(found)
        return
    waiting = f"{found.waiting} snapshots, {size(found.spool)}, the oldest {ago(found.waiting_since)}"
    screen.pairs(
        [
            ("snapshots", str(found.snapshots)),
            ("newest trees", f"{found.files} files, {size(found.bytes)}"),
            ("chunks", f"{found.chunks}, {size(found.packed)} packed"),
            ("manifest", f"{found.entries} rows"),
            ("packs", ", ".join(f"{count} {state}" for state, count in found.packs.items())),
            ("in packs", size(found.pack_bytes)),
            ("to upload", waiting if found.waiting else "nothing waits"),
            ("store", found.store),
            ("encryption", f"AES-256-GCM, key {found.key}" if found.encrypted else "off"),
        ]
    )
