"""``agent``: new agents out of old ones."""

from __future__ import annotations

import click

from relit.cli.commands.aliases import Aliased
from relit.cli.commands.volume import fork


@click.group(cls=Aliased)
def agent() -> None:
    """Agents: make a new one from a snapshot of another."""


agent.add_command(fork)
