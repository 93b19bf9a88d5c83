"""``token``: who may call the API."""

from __future__ import annotations

import click

from relit import documents
from relit.cli.commands.aliases import Aliased
from relit.cli.http import segment
from relit.cli.screen import ago
from relit.cli.session import Session, pass_session


@click.group(cls=Aliased)
def token() -> None:
    """API tokens: make, list, remove."""


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(["read", "write", "admin"]),
    default="write",
    show_default=True,
    help="What it may do; each includes those before it.",
)
@pass_session
def new(session: Session, name: str, scope: str) -> None:
    """Make a token. It is shown once."""
    made = session.api().post("/v1/tokens", documents.Token, {"name": name, "scopes": [scope]})
    if session.screen.as_json:
        session.screen.json(made)
        return
    session.screen.line(str(made.token))
    session.screen.note("this is the only time it is shown; use it as RELIT_TOKEN or Authorization: Bearer")


@token.command("ls")
@pass_session
def list_tokens(session: Session) -> None:
    """Tokens, without their secrets."""
    found = session.api().get("/v1/tokens", documents.Tokens)
    if session.screen.as_json:
        session.screen.json(found)
        return
    rows = [[each.name, ", ".join(each.scopes), ago(each.created_at)] for each in found.tokens]
    session.screen.table(["NAME", "SCOPES", "MADE"], rows)


@token.command("rm")
@click.argument("name")
@pass_session
def remove(session: Session, name: str) -> None:
    """Remove a token: it stops working."""
    session.confirm(f"Remove the token {name}?")
    session.api().delete(f"/v1/tokens/{segment(name)}")
    if session.screen.as_json:
        session.screen.json({"removed": name})
    else:
        session.screen.note(f"{name} is removed")
