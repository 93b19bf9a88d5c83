"""``up``, ``down``, ``demo``: everything on this machine."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relit.cli.commands.follow import DURATION
from relit.cli.session import Session, pass_session
from relit.cli.starting import Start
from relit.control.paths import NODE_RECORD
from relit.errors import ConfigError, Conflict

if TYPE_CHECKING:
    from relit.node.down import Ended
    from relit.node.status import Running
    from relit.settings import Settings


@click.command()
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--listen", metavar="HOST:PORT", help="Instead of server.listen.")
@click.option("--foreground", is_flag=True, help="Stay; Ctrl-C stops everything.")
@click.option("--timeout", type=DURATION, default="60s", show_default=True, help="For everything to be ready.")
@pass_session
def up(session: Session, modules: tuple[str, ...], listen: str | None, foreground: bool, timeout: int) -> int:
    """Start everything on this machine: the server, the agents of relit.toml, and MODULEs (mine, mine.py).

    Each is kept alive: what dies is started again, and its work goes on where it was. Once more, while it is up: it
    reads relit.toml again.
    """
    from relit.app.specs import check_names
    from relit.settings.noted import note_start

    settings = session.settings({"server.listen": listen})
    check_names(settings, modules)
    if not (modules or listen or foreground) and _reread(session, timeout):
        return 0
    fresh = _refuse_second(session, settings)
    if foreground:
        return _stay(session, settings, modules, listen)
    process = _spawn(session, settings, modules, listen)
    start = Start(settings, _log(settings), process)
    try:
        running = start.wait(timeout)
    except ConfigError:
        if fresh:  # what ran before keeps running
            _end(settings.data / "run", timeout)
        raise
    note_start(settings.data / "run", _again(session, modules, listen))
    _report(session, settings, running)
    return 0


def _again(session: Session, modules: tuple[str, ...], listen: str | None) -> list[str]:
    """The same command line, for the day when it is needed again."""
    flags = [word for name in ("data", "config") if (given := session.flags.get(name)) for word in (f"--{name}", given)]
    return ["relit", *flags, "up", *(["--listen", listen] if listen else []), *modules]


def _reread(session: Session, timeout: int) -> bool:
    """Let the node that runs here read the settings again; whether one does. ConfigError: it did not take them."""
    from relit.app.node_word import handed_over

    place = session.run_dir()
    if place is None or not asyncio.run(handed_over(place, timeout / 1000)):
        return False
    if session.screen.as_json:
        session.screen.json({"reread": True})
    else:
        session.screen.line("relit is up already; it reads relit.toml again now, and restarts what has changed in it")
        session.screen.note(session.screen.dim("next: relit ps"))
    return True


def _refuse_second(session: Session, settings: Settings) -> bool:
    """Whether nothing runs yet. Raises ``Conflict`` when a node does."""
    from relit.node import status

    place = session.run_dir()
    if place is None:
        return True
    running = status.read(place)
    if running.node is not None:
        raise Conflict(
            f"relit is up already (node {running.node}, data {settings.data})", fix="relit ps, or relit down"
        )
    return all(each.pid is None for each in running.instances)


def _end(place: Path, timeout: int | None) -> Ended:
    """Stop everything, and forget how instances died: the next start is a fresh one, without old back-offs."""
    from relit.node.down import down as end

    ended = asyncio.run(end(place, timeout_s=None if timeout is None else timeout / 1000))
    (place / NODE_RECORD).unlink(missing_ok=True)
    return ended


def _stay(session: Session, settings: Settings, modules: tuple[str, ...], listen: str | None) -> int:
    from relit.app.up import up as be_node
    from relit.cli.commands.services import run_async

    session.screen.note(f"starting on {settings.url}, data in {settings.data}; Ctrl-C stops everything")
    run_async(session, be_node(settings, session.environment, modules))
    return 0


def _spawn(
    session: Session, settings: Settings, modules: tuple[str, ...], listen: str | None
) -> subprocess.Popen[bytes]:
    from relit.app.folder import prepare
    from relit.app.specs import command

    prepare(settings.data)
    words = [*(["--listen", listen] if listen else []), *modules]
    with _log(settings).open("ab") as log:
        return subprocess.Popen(
            command(settings, "node", "run", *words),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=os.getcwd(),
        )


def _log(settings: Settings) -> Path:
    return settings.data / "node.log"


def _report(session: Session, settings: Settings, running: Running) -> None:
    screen = session.screen
    if screen.as_json:
        screen.json({"url": settings.url, "data": str(settings.data), "node": running.node,
                     "instances": running.instances})  # fmt: skip
        return
    screen.line(f"relit is up: {settings.url}")
    screen.pairs([("data", str(settings.data)), ("token", str(settings.data / "token")), ("log", str(_log(settings)))])
    screen.table(
        ["INSTANCE", "STATE", "PID"], [[each.name, each.state, str(each.pid or "")] for each in running.instances]
    )
    first = next(
        (name for name, agent in settings.agents.items() if agent.kind == "python" or _talks(settings, name)), ""
    )
    send = f"relit send {first} hello · " if first else ""
    screen.note(screen.dim(f"next: relit ps · {send}relit tail · relit down"))


def _talks(settings: Settings, name: str) -> bool:
    from relit.app.agents import outsiders

    return settings.agents[name].kind == "python" or name in outsiders(settings)


@click.command()
@click.option("--timeout", type=DURATION, help="Then the node is killed. Default: as long as its agents may take.")
@click.option(
    "--leave", is_flag=True, help="End the node alone; all that it keeps lives on, and the next one takes over."
)
@pass_session
def down(session: Session, timeout: int | None, leave: bool) -> int:
    """Stop everything that `relit up` started. Work goes on at the next `relit up`.

    With --leave only the node ends, as for an upgrade of relit: agents live on, and the next `relit up` (a unit does it
    by itself) takes them over and starts relit's own processes again where they are another version's.
    """
    from relit.cli.commands.service import stop_unit
    from relit.settings.noted import noted_start

    run_dir = session.run_dir() or session.data / "run"
    if leave:
        return _leave(session, run_dir, timeout)
    stop_unit(session, run_dir)
    ended = _end(run_dir, timeout)
    screen = session.screen
    if screen.as_json:
        screen.json(ended)
    elif ended.node or ended.instances:
        screen.line(f"relit is down; its work is on disk and goes on at the next: {noted_start(session.data)}")
    else:
        screen.line("nothing was running")
    return 0


def _leave(session: Session, run_dir: Path, timeout: int | None) -> int:
    from relit.node.down import leave
    from relit.settings.noted import noted_start

    ended = asyncio.run(leave(run_dir, timeout_s=None if timeout is None else timeout / 1000))
    screen = session.screen
    if screen.as_json:
        screen.json({"node": ended})
    elif ended:
        screen.line(f"the node has ended, and nobody heals what lives on, until: {noted_start(session.data)}")
        screen.note(screen.dim("where it runs in a unit, systemd starts the next one within a second"))
    else:
        screen.line("no node was running")
    return 0


@click.command()
@click.option("--kills", type=click.IntRange(0, 100), default=10, show_default=True, help="How many.")
@click.option("--seconds", type=click.IntRange(20, 3600), default=170, show_default=True, help="At most.")
@click.option("--workers", type=click.IntRange(1, 16), default=3, show_default=True, help="Worker processes.")
@click.option("--seed", type=int, help="Kill in the same order again.")
@click.option("--agents", is_flag=True, help="With a real OpenClaw and a real Hermes instead.")
@click.option(
    "--runtimes", type=click.Path(file_okay=False, path_type=Path),
    help="--agents: where they are installed. [default: as by `relit agent add`]",
)  # fmt: skip
@pass_session
def demo(
    session: Session, kills: int, seconds: int, workers: int, seed: int | None, agents: bool, runtimes: Path | None
) -> int:
    """Watch real work survive: an agent audits licences, its processes are killed, its notes deleted and restored, and
    a second agent's configuration is broken.

    With --agents: OpenClaw and Hermes are installed, run with a scripted model, and broken three ways each.
    """
    if agents:
        from relit.demo.agents import run as run_agents

        return run_agents(runtimes=runtimes or session.settings().runtimes, as_json=session.screen.as_json)
    from relit.demo.main import run

    return run(kills=kills, seconds=seconds, workers=workers, seed=seed, as_json=session.screen.as_json)
