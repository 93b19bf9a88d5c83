"""``config``: check, show, schema, path."""

from __future__ import annotations

from typing import Any

import click

from relit.cli.session import Session, pass_session


@click.group()
def config() -> None:
    """The configuration: check, show, schema, path."""


@config.command()
@pass_session
def check(session: Session) -> None:
    """Check everything that can be set; exit code 78 and every fault, if there is one."""
    import asyncio

    from relit.app.alerts import check_addresses
    from relit.app.serve import check_secrets
    from relit.app.specs import check_names
    from relit.app.vaulted import hand_out

    settings = session.settings()
    secrets = settings.secrets
    asyncio.run(hand_out(settings, settings.secret_names(), "config check"))
    check_names(settings)
    check_secrets(settings, secrets)
    asyncio.run(check_addresses(settings, secrets))
    for agent in settings.agents.values():
        for value in agent.env.values():
            secrets.reveal(value)
    where = str(settings.path) if settings.path else "no relit.toml; defaults"
    if session.screen.as_json:
        session.screen.json(
            {"ok": True, "path": settings.path and str(settings.path), "agents": sorted(settings.agents)}
        )
    else:
        agents = ", ".join(sorted(settings.agents)) or "none"
        session.screen.line(f"ok: {where}; agents: {agents}")


@config.command()
@click.option("--all", "everything", is_flag=True, help="Values that are defaults, too.")
@pass_session
def show(session: Session, everything: bool) -> None:
    """Every value and where it comes from. Secrets are masked."""
    from relit.settings import show as shown

    settings, screen = session.settings(), session.screen
    if screen.as_json:
        screen.json(shown.tree(settings))
        return
    rows = [
        [".".join(key), shown.text(value), origin]
        for key, value, origin in shown.rows(settings)
        if everything or origin != "default"
    ]
    screen.table(["KEY", "VALUE", "FROM"], rows, "all values are defaults: relit config show --all")


@config.command()
@pass_session
def schema(session: Session) -> None:
    """The JSON Schema of relit.toml, for editors."""
    from relit.settings import schema as shipped

    session.screen.line(shipped.text().rstrip())


@config.command()
@pass_session
def path(session: Session) -> None:
    """The files that are read, and the data folder."""
    from pathlib import Path

    from relit.settings import find

    named = session.flags.get("config")
    found = Path(named).absolute() if named else find(session.environment, Path.cwd())
    places: dict[str, Any] = {
        "config": None if found is None else str(found),
        "user": str(session.environment.user_config),
        "data": str(session.data),
        "secrets": str(session.data / "secrets.toml"),
        "token": str(session.data / "token"),
    }
    if session.screen.as_json:
        session.screen.json(places)
    else:
        session.screen.pairs([(name, str(value or "(none)")) for name, value in places.items()])
