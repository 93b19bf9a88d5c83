"""``node``: this machine's memory, who waits for it and who makes room; and the process that keeps instances alive."""

from __future__ import annotations

from pathlib import Path

import click

from relit.cli.commands.aliases import Aliased
from relit.cli.screen import Screen
from relit.cli.session import Session, pass_session
from relit.errors import NotFound
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.durations import size as human_size
from relit.lib.durations import to_bytes
from relit.node import gauge
from relit.node.gauge import Gauge, Guest

_STYLES = {"green": "green", "amber": "yellow", "red": "red"}
_ROOMS = {"ample": "green", "low": "yellow", "least": "red"}


@click.group(cls=Aliased, invoke_without_command=True)
@click.pass_context
def node(ctx: click.Context) -> None:
    """This machine: its memory, who waits for it, who makes room. Without a verb: status."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(node_status)


@node.command("status")
@pass_session
def node_status(session: Session) -> None:
    """How much memory is left, where amber and red begin, which starts wait and why, who is parked and what it takes to
    wake them, and who would make room next."""
    run_dir = session.run_dir()
    found = None if run_dir is None else gauge.read(run_dir, SYSTEM_CLOCK.now_ms())
    if found is None:
        raise NotFound("no node tells anything", why="none runs on this machine's data folder", fix="relit up")
    if session.screen.as_json:
        session.screen.json(found)
    else:
        _show(session.screen, found)


def _show(screen: Screen, now: Gauge) -> None:
    level = screen.style(now.level, fg=_STYLES[now.level])
    soon = f", full in {now.full_s:.0f} s at this rate" if now.full_s is not None and now.full_s < 60 else ""
    screen.line(f"memory    {level}: {human_size(now.free)} of {human_size(now.capacity)} free{soon}")
    screen.line(f"marks     amber below {human_size(now.amber)}, red below {human_size(now.red)}")
    if now.disk.total:
        room = screen.style(now.disk.room, fg=_ROOMS[now.disk.room])
        screen.line(f"disk      {room}: {human_size(now.disk.free)} of {human_size(now.disk.total)} free")
    if now.other is not None:
        screen.line(f"shared    with another relit (process {now.other}): give each its part, node.memory")
    if now.going:
        screen.line(f"starting  {', '.join(now.going)}: {human_size(now.reserved)} set aside")
    if now.short:
        screen.line(f"short     {human_size(now.short)} for the next start")
    _table(screen, "WAITS", now.waiting, now.waiting_count)
    _table(screen, "PARKED", now.parked, now.parked_count)
    if now.next:
        screen.line(f"next      {', '.join(now.next)}: in this order, if memory runs out")


def _table(screen: Screen, head: str, guests: list[Guest], count: int) -> None:
    if guests:
        rows = [[each.name, human_size(each.peak), f"{each.cpu_s:.0f} s", each.reason] for each in guests]
        screen.table([head, "START TAKES", "CPU", "WHY"], rows)
    if count > len(guests):
        screen.line(f"and {count - len(guests)} more")


@node.command("setup-swap")
@click.option(
    "--size", metavar="SIZE", help="How much, as 8G. Else as much as there is memory, or half of the free disk."
)
@click.option(
    "--file", "path", metavar="PATH", type=click.Path(path_type=Path, resolve_path=True),
    default=Path("/var/lib/relit.swap"),
    show_default=True, help="Where it lies.",
)  # fmt: skip
@click.option("--zram", is_flag=True, help="Compressed memory instead of a file: fast, and costs about a third.")
@pass_session
def setup_swap(session: Session, size: str | None, path: Path, zram: bool) -> None:
    """Swap for agents that are frozen (`idle = { then = "freeze" }`): say what would be done. With --yes it is done."""
    from relit.app import swap

    wanted = to_bytes(size) if size else swap.default_size(path.parent)
    swaps = Path("/proc/swaps").read_text()
    if zram:
        steps = swap.zram_steps(wanted, swaps=swaps)
    else:
        fstab = swap.FSTAB.read_text() if swap.FSTAB.exists() else ""
        steps = swap.file_steps(path, wanted, swaps=swaps, fstab=fstab)
    told = bool(session.flags.get("yes"))  # on a CI machine alone that is no word
    if told:
        swap.perform(steps)
    if session.screen.as_json:
        session.screen.json({"done": told, "bytes": wanted, "steps": steps})
        return
    session.screen.table(["COMMAND", "WHAT FOR"], [[each.shown, each.what] for each in steps])
    if told:
        session.screen.note(f"{human_size(wanted)} of swap are switched on")
    else:
        session.screen.hint("the same with --yes, as root, does it")


@node.command("run", hidden=True)
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--listen", metavar="HOST:PORT", help="Instead of server.listen.")
@pass_session
def node_run(session: Session, modules: tuple[str, ...], listen: str | None) -> None:
    """Keep this machine's instances alive, in the foreground: the server, the agents of relit.toml, MODULEs.

    `relit up` starts it in the background; a service manager starts this. SIGTERM stops everything.
    """
    from relit.app.up import up
    from relit.cli.commands.services import run_async

    overrides = {"server.listen": listen}
    settings = session.settings(overrides)
    run_async(session, up(settings, session.environment, modules, lambda: session.settings(overrides)))
