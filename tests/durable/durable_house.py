"""A store, an engine, and workers on it: the real parts, in a temporary folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from relit.durable.definitions import Definition
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.durable.ticker import Ticker
from relit.durable.worker import Worker
from relit.store.base import Store
from relit.store.blobs import BlobStore
from relit.store.values import Run


class House:
    """One store with everything that a run needs around it."""

    def __init__(self, store: Store, blobs: BlobStore) -> None:
        self.store = store
        self.engine = Engine(store, Payloads(blobs))
        self.ticker = Ticker(store)
        self.workers: list[Worker] = []

    async def work(self, *definitions: Definition, **options: Any) -> Worker:
        worker = Worker(self.engine, definitions, **options)
        await worker.start()
        self.workers.append(worker)
        return worker

    async def run(self, target: Any, *args: Any, **options: Any) -> Any:
        """Start a run and answer its result."""
        return await self.engine.result(await self.engine.start(target, args, **options), timeout="20s")

    async def until(self, run: str, right: Callable[[Run], bool]) -> Run:
        """The run, once ``right`` holds."""
        subscription = self.store.subscribe(f"run:{run}")
        try:
            async with asyncio.timeout(20):
                while not right(found := await self.store.run(run)):
                    await subscription.wait(1)
                return found
        finally:
            subscription.close()

    async def until_state(self, run: str, *states: str) -> Run:
        return await self.until(run, lambda found: found.state in states)

    async def until_idle(self, worker: Worker) -> None:
        """The worker has forgotten every run."""
        async with asyncio.timeout(20):
            while worker.running:
                await asyncio.sleep(0)
