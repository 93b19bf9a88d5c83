"""Control inside one process: the same values, through the same encoding, without a socket."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from relit.control.base import ControlBackend
from relit.control.care import ConfigFile, Incident, KnownGood, Tried, Went
from relit.control.values import Activity, Death, Desired, Measured, NodeInfo
from relit.control.wire import (
    AskActivity,
    AskGood,
    Call,
    Died,
    GoBack,
    Hello,
    MarkGood,
    Report,
    TellFootprints,
    Trouble,
    TryHome,
    Want,
    perform,
    result_of,
)
from relit.errors import ServerUnreachable
from relit.events import Event


class LocalControl:
    """Calls the backend with copies, so that nothing is shared that could not cross a socket."""

    def __init__(self, backend: ControlBackend) -> None:
        self._backend = backend
        self._started = False

    async def start(self) -> None:
        """Begin to answer."""
        self._started = True

    async def stop(self) -> None:
        """From here on every call raises ``ServerUnreachable``."""
        self._started = False

    async def hello(self, node: NodeInfo) -> None:
        """See ``ControlBackend``."""
        await self._call(Hello(node))

    async def report(self, events: Sequence[Event]) -> None:
        """See ``ControlBackend``."""
        await self._call(Report(list(events)))

    async def desired(self, version: int, wait_s: float) -> Desired:
        """See ``ControlBackend``."""
        return result_of(await self._call(Want(version, wait_s)), Desired)

    async def worker_died(self, death: Death) -> None:
        """See ``ControlBackend``."""
        await self._call(Died(death))

    async def incident(self, incident: Incident) -> None:
        """See ``ControlBackend``."""
        await self._call(Trouble(incident))

    async def known_good(
        self, agent: str, files: Sequence[ConfigFile] = (), *, broken: bool = False, before: Sequence[str] = ()
    ) -> KnownGood:
        """See ``ControlBackend``."""
        return result_of(await self._call(AskGood(agent, list(files), broken, list(before))), KnownGood)

    async def go_back(self, agent: str, number: int, files: Sequence[str] = ()) -> Went:
        """See ``ControlBackend``."""
        return result_of(await self._call(GoBack(agent, number, list(files))), Went)

    async def try_home(self, agent: str, number: int, within_ms: int) -> Tried:
        """See ``ControlBackend``."""
        return result_of(await self._call(TryHome(agent, number, within_ms)), Tried)

    async def mark_good(self, agent: str) -> int:
        """See ``ControlBackend``."""
        return result_of(await self._call(MarkGood(agent)), int)

    async def activity(self) -> Activity:
        """See ``ControlBackend``."""
        return result_of(await self._call(AskActivity()), Activity)

    async def footprints(self, learnt: Sequence[Measured]) -> list[Measured]:
        """See ``ControlBackend``."""
        return result_of(await self._call(TellFootprints(list(learnt))), list[Measured])

    async def _call(self, call: Call) -> bytes:
        if not self._started:
            raise ServerUnreachable("the server does not answer the node", why="it was stopped")
        copy: Call = msgspec.json.decode(msgspec.json.encode(call), type=Call)
        return msgspec.json.encode(await perform(self._backend, copy))
