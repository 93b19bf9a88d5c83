"""Keeps this machine's agents stopped while there is something to be done first."""

from __future__ import annotations

import contextlib

from relit.app.agents import grace_of
from relit.app.folder import run_dir
from relit.app.instances import home_of, homes_of, residence
from relit.app.stillness import InstanceHolder, Instances
from relit.control.values import lives_of
from relit.errors import Conflict
from relit.settings import Settings
from relit.volumes.due import to_be_laid


def holder_of(settings: Settings, agent: str, *, brief: bool = False) -> InstanceHolder:
    """What keeps an agent's instances stopped; ``brief``: only to have them started again."""

    def instances() -> Instances:
        now = residence(settings, agent)
        return Instances(lives_of(now.instances), now.holds)

    return InstanceHolder(run_dir(settings), agent, instances, grace_s=grace_of(settings, agent), brief=brief)


def hold_homeless(settings: Settings) -> None:
    """No agent starts on a home whose files are still to be laid down: whoever keeps the volumes lays them first."""
    for agent in homes_of(settings):
        if to_be_laid(home_of(settings, agent)):
            with contextlib.suppress(Conflict):  # it is held for another agent that lives in it
                holder_of(settings, agent).mark("its files are to be laid down first")
