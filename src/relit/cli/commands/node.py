"""``node``: this machine's memory, who waits for it and who makes room; and the process that keeps instances alive."""

from __future__ import annotations

import click

from relit.cli.commands.aliases import Aliased
from relit.cli.screen import Screen
from relit.cli.session import Session, pass_session
from relit.errors import NotFound
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.durations import size
from relit.node import gauge
from relit.node.gauge import Gauge, Guest

_STYLES = {"green": "green", "amber": "yellow", "red": "red"}


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
    screen.line(f"memory    {level}: {size(now.free)} of {size(now.capacity)} free{soon}")
    screen.line(f"marks     amber below {size(now.amber)}, red below {size(now.red)}")
    if now.going:
        screen.line(f"starting  {', '.join(now.going)}: {size(now.reserved)} set aside")
    if now.short:
        screen.line(f"short     {size(now.short)} for the next start")
    _table(screen, "WAITS", now.waiting)
    _table(screen, "PARKED", now.parked)
    if now.next:
        screen.line(f"next      {', '.join(now.next)}: in this order, if memory runs out")


def _table(screen: Screen, head: str, guests: list[Guest]) -> None:
    if guests:
        rows = [[each.name, size(each.peak), f"{each.cpu_s:.0f} s", each.reason] for each in guests]
        screen.table([head, "START TAKES", "CPU", "WHY"], rows)


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
