"""Workers: in a process of their own, or inside ``relit run``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relit.app import parts
from relit.app.modules import with_mailboxes
from relit.app.serve import upkeep
from relit.app.stopping import running, until_signal
from relit.durable.definitions import Definition, workflows
from relit.durable.engine import Engine
from relit.durable.worker import Worker
from relit.lib.service import OnFailure, Service
from relit.settings import Settings

DRAIN = "5s"  # a step in progress may finish; then it is given back and done again elsewhere


class Draining:
    """A worker that lets what runs finish for a moment when it is stopped."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def start(self) -> None:
        """Begin to claim runs."""
        await self._worker.start()

    async def stop(self) -> None:
        """Claim nothing more, finish or give back."""
        await self._worker.drain(DRAIN)


def worker(
    settings: Settings,
    engine: Engine,
    found: Sequence[Definition],
    on_failure: OnFailure,
    concurrency: int | None = None,
    *,
    steady: bool = False,
) -> Worker:
    """A worker for these definitions, not started."""
    return Worker(
        engine,
        with_mailboxes(found, settings),
        concurrency=concurrency or settings.worker.concurrency,
        lease_ms=settings.worker.lease_ms,
        poison_after=settings.worker.poison_after,
        steady=steady,
        on_failure=on_failure,
    )


async def work(
    settings: Settings,
    define: Callable[[Engine], Sequence[Definition]],
    *,
    concurrency: int | None = None,
    steady: bool = False,
    began: Callable[[list[str]], None] = lambda targets: None,
) -> None:
    """Execute runs of what is defined until a signal comes. ``began`` is told the targets; ``steady``: see
    ``WorkerInfo``."""
    async with until_signal() as stop, parts.engine(settings) as engine:
        found = define(engine)
        targets = [each.target for each in workflows(found)]
        working = Draining(worker(settings, engine, found, stop.fail, concurrency, steady=steady))
        services: list[Service] = [*upkeep(settings, engine, stop.fail), working]
        async with running(services, lambda: began(targets)):
            await stop.wait()
