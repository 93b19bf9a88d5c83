"""``agent``: add, look at, change, stop and start agents."""

from __future__ import annotations

import click

from relit.cli.commands.agent_add import add, install, remove
from relit.cli.commands.agent_adopt import adopt, release
from relit.cli.commands.agent_edit import edit, execute
from relit.cli.commands.agent_state import list_agents, restart, start, stop
from relit.cli.commands.aliases import Aliased
from relit.cli.commands.volume import fork


@click.group(cls=Aliased)
def agent() -> None:
    """Agents of this machine: add, adopt, edit, start, stop, upgrade."""


for _command in (add, adopt, edit, execute, install, list_agents, release, remove, start, stop, restart, fork):
    agent.add_command(_command)
