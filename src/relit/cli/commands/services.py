"""``server``, ``worker``: one process each, in the foreground."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relit.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from relit.durable.definitions import Definition
    from relit.settings import Settings


def run_async(
    session: Session, work: Coroutine[Any, Any, Any], loop: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> Any:
    """Run ``work`` with logs on standard error, in the interpreter's own kind of loop or another."""
    import logging

    logging.basicConfig(
        level=logging.INFO if session.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(work)


def _touch(ready_file: Path | None) -> Callable[..., None]:
    """What tells the node that a service works."""

    def began(*told: object) -> None:
        if ready_file is not None:
            ready_file.touch(mode=0o600)

    return began


@click.command()
@click.option("--listen", metavar="HOST:PORT", help="Instead of server.listen.")
@click.option("--database", metavar="WHERE", help="Instead of server.database.")
@click.option("--blobs", metavar="WHERE", help="Instead of server.blobs.")
@pass_session
def server(session: Session, listen: str | None, database: str | None, blobs: str | None) -> None:
    """Run the server in the foreground: API, timers, schedules, webhooks. SIGTERM ends it in good order."""
    from relit.app.serve import serve

    overrides = {"server.listen": listen, "server.database": database, "server.blobs": blobs}
    settings = session.settings(overrides)

    def began(url: str) -> None:
        if session.screen.as_json:
            session.screen.row({"event": "server.started", "listen": url})
        else:
            session.screen.line(f"listening on {url}")

    run_async(session, serve(settings, session.environment, began))


@click.command()
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--agent", "agents", multiple=True, help="An agent of relit.toml; may be repeated.")
@click.option("--concurrency", type=click.IntRange(1), help="Runs at once; instead of worker.concurrency.")
@click.option("--database", metavar="WHERE", help="Instead of server.database.")
@click.option("--ready-file", metavar="PATH", type=click.Path(path_type=Path), help="Write this file when it works.")
@pass_session
def worker(
    session: Session,
    modules: tuple[str, ...],
    agents: tuple[str, ...],
    concurrency: int | None,
    database: str | None,
    ready_file: Path | None,
) -> None:
    """Run a worker in the foreground, for the agents and workflows in MODULE (mine, pkg.mine, mine.py, mine:agent).

    Any number may run, on any machine that reaches the database. SIGTERM ends it in good order: its runs go on
    elsewhere.
    """
    from relit.app.instances import join, module_name
    from relit.app.work import work
    from relit.durable.definitions import workflows

    if not modules and not agents:
        raise click.UsageError("say what to run: MODULE... or --agent NAME")
    settings = session.settings({"server.database": database})

    def began(targets: list[str]) -> None:
        if ready_file is not None:
            ready_file.touch(mode=0o600)
        if session.screen.as_json:
            session.screen.row({"event": "worker.joined", "targets": targets})
        else:
            session.screen.line(f"working on {', '.join(targets)}")

    found = definitions(settings, modules, agents)
    for owner in [*map(module_name, modules), *agents]:
        join(settings, owner, {each.agent for each in workflows(found)})
    run_async(session, work(settings, lambda engine: found, concurrency=concurrency, began=began))


def definitions(settings: Settings, modules: tuple[str, ...], agents: tuple[str, ...] = ()) -> list[Definition]:
    """What modules and agents of relit.toml define."""
    from relit.app.modules import load, of_agent

    found = [each for module in modules for each in load(module, Path.cwd())]
    return [*found, *(each for agent in agents for each in of_agent(settings, agent))]


@click.command()
@click.option("--ready-file", metavar="PATH", type=click.Path(path_type=Path), help="Write this file when it works.")
@pass_session
def turns(session: Session, ready_file: Path | None) -> None:
    """Bring messages into agents that relit did not write, in the foreground. `relit up` does it."""
    from relit.app.turns import bring

    run_async(session, bring(session.settings(), _touch(ready_file)))


@click.command()
@click.option("--ready-file", metavar="PATH", type=click.Path(path_type=Path), help="Write this file when it works.")
@click.option("--describe", is_flag=True, help="Only say what they are, as JSON.")
@pass_session
def functions(session: Session, ready_file: Path | None, describe: bool) -> None:
    """Carry out calls of tools that are Python functions, in the foreground. `relit up` does it."""
    from relit.app import function_worker as tools

    if describe:
        click.echo(tools.describe(session.settings()))
        return
    run_async(session, tools.serve(session.settings(), _touch(ready_file)))


@click.command()
@click.option("--ready-file", metavar="PATH", type=click.Path(path_type=Path), help="Write this file when it works.")
@pass_session
def volumes(session: Session, ready_file: Path | None) -> None:
    """Keep versions of this machine's homes, in the foreground. `relit up` runs it by itself."""
    from relit.app.keeping import serve

    run_async(session, serve(session.settings(), _touch(ready_file)))


@click.command()
@click.option("--ready-file", metavar="PATH", type=click.Path(path_type=Path), help="Write this file when it works.")
@pass_session
def front(session: Session, ready_file: Path | None) -> None:
    """Pass connections on to agents' own ports, in the foreground; who is parked is woken. `relit up` does it."""
    from relit.app.front import serve

    run_async(session, serve(session.settings(), _touch(ready_file)))


@click.command()
@click.option("--listen", metavar="HOST:PORT", help="Instead of gateway.listen.")
@click.option("--ready-file", metavar="PATH", type=click.Path(path_type=Path), help="Write this file when it works.")
@pass_session
def gateway(session: Session, listen: str | None, ready_file: Path | None) -> None:
    """Let agents call their models, in the foreground: with tokens of their own, which it exchanges for the providers'
    keys. `relit up` runs it by itself."""
    from relit.app.gateway import new_loop, serve

    def began(url: str) -> None:
        if ready_file is not None:
            ready_file.touch(mode=0o600)
        if session.screen.as_json:
            session.screen.row({"event": "gateway.started", "listen": url})
        else:
            session.screen.line(f"listening on {url}")

    run_async(session, serve(session.settings({"gateway.listen": listen}), began), new_loop)
