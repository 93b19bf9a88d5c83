"""Commands that the gateway runs beside an agent, in its home: they stand still with it, and end before that is put
back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relit.app.folder import run_dir
from relit.app.instances import copies, residence
from relit.gateway.tools.base import NotSent
from relit.lib import proc
from relit.lib.service import finished
from relit.node import guests, holdfile, kin
from relit.settings import Settings


class Beside:
    """One command, by its id."""

    def __init__(self, settings: Settings, agent: str, id: str) -> None:
        self._settings = settings
        self._agent = agent
        self._id = id
        self._folder = guests.folder_of(str(run_dir(settings)), copies(settings, agent)[0])

    @property
    def marks(self) -> dict[str, str]:
        """What its environment says."""
        return {proc.MARK: self._id, kin.MARK: self._folder}

    @asynccontextmanager
    async def starting(self) -> AsyncIterator[None]:
        """It is begun inside. NotSent: the agent's home is just being put back."""
        lock = guests.Lock(self._folder)
        try:
            await finished(asyncio.to_thread(lock.take))
            self._check()
            guests.note(self._folder, self._id)
            yield
        except BaseException:
            self.over()
            raise
        finally:
            lock.leave()

    def _check(self) -> None:
        for path in residence(self._settings, self._agent).holds:
            if (held := holdfile.read(path).alive()).ours is not None:
                raise NotSent(f"{self._agent} is held: {held.reason}", retry=True)

    def over(self) -> bool:
        """Nothing of it goes on. True: somebody else had ended it."""
        proc.kill_marked(self._id)
        return not guests.over(self._folder, self._id)
