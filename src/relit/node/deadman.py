"""The dead man's switch: an address outside is asked for as long as relit lives and can tell of its troubles."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from relit.control.values import InstanceState, Probe
from relit.lib.clock import Clock
from relit.node import probe

MUTE_S = 300.0  # so long who tells people of troubles may be away: its start may take three minutes
LOOK_S = 5.0  # while it is away for longer: whether it is back
log = logging.getLogger("relit.node")


class DeadMan:
    """``speaker``: the state of the instance that tells people of troubles; ``None`` where there is none."""

    def __init__(self, ping: Probe, speaker: Callable[[], InstanceState | None], clock: Clock) -> None:
        self._ping = ping
        self._speaker = speaker
        self._clock = clock
        self._mute_since: float | None = None
        self.trouble = ""  # why the last ping was not sent, or not answered

    def look(self) -> None:
        """Asked whenever an instance may have another state."""
        if self._speaker() in (None, "ready"):
            self._mute_since = None
        elif self._mute_since is None:
            self._mute_since = self._clock.monotonic()

    async def run(self) -> None:
        """Tell the world, for ever. Whether it hears us is no matter of ours."""
        while True:
            self.look()
            mute = self._mute_since is not None and self._clock.monotonic() - self._mute_since >= MUTE_S
            if mute and not self.trouble:
                log.error("no ping is sent: relit's own server, which sends alerts, was not ready for %d s", MUTE_S)
            self.trouble = "nobody could tell of troubles" if mute else await probe.ask(self._ping) or ""
            every_s = self._ping.every_ms / 1000
            await asyncio.sleep(min(every_s, LOOK_S) if mute else every_s)
