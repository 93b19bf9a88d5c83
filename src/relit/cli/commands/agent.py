"""``agent``: add, look at, change, stop and start agents."""

from __future__ import annotations

import importlib

import click

from relit.cli.commands.agent_add import add, install, remove
from relit.cli.commands.agent_adopt import adopt, release
from relit.cli.commands.agent_edit import edit, execute
from relit.cli.commands.agent_prune import prune
from relit.cli.commands.agent_state import list_agents, restart, start, stop
from relit.cli.commands.agent_upgrade import rollback, upgrade
from relit.cli.commands.aliases import Aliased
from relit.cli.commands.volume import fork
from relit.cli.main import COMMANDS

_ALSO = ("logs", "why")  # commands that people look for here, too


class _Agents(Aliased):
    """The verbs of agents, and commands of their own that are about one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *(name for name in _ALSO if name in COMMANDS)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _ALSO or name not in COMMANDS:
            return super().get_command(ctx, name)
        command: click.Command = getattr(importlib.import_module(f"relit.cli.commands.{COMMANDS[name][0]}"), name)
        return command


@click.group(cls=_Agents)
def agent() -> None:
    """Agents of this machine: add, adopt, edit, start, stop, upgrade."""


for _command in (
    add, adopt, edit, execute, fork, install, list_agents, prune, release, remove, restart, rollback, start, stop,
    upgrade,
):  # fmt: skip
    agent.add_command(_command)
