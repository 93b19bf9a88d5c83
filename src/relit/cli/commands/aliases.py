"""Groups whose verbs have a longer spelling too: ``list`` for ``ls``, ``remove`` for ``rm``."""

from __future__ import annotations

import click

LONG = {"list": "ls", "remove": "rm", "delete": "rm", "create": "new"}


class Aliased(click.Group):
    """A group that also knows the long spelling."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return super().get_command(ctx, name) or super().get_command(ctx, LONG.get(name, name))
