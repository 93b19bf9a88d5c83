"""A real server on a real store, with a hand that plays the worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from relit.api.auth import ensure_token
from relit.api.build import build
from relit.api.parts import Options, Parts, WebhookIn
from relit.api.server import ApiServer
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.lib.proc import myself
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Fence, Finish, Run, Step, StreamItem, WorkerInfo
from relit.store.wakeups import Wakeups

OPTIONS = Options(
    keep_alive=0.2,
    max_body=1 << 20,
    webhooks={
        "github": WebhookIn(agent="auditor", secret="its-a-secret", scheme="hmac", id_header="X-Delivery"),
        "shop": WebhookIn(agent="auditor", secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    },
)


class Hand:
    """Does what a worker does, one call at a time."""

    def __init__(self, store: SqliteStore, payloads: Payloads) -> None:
        self.store = store
        self.payloads = payloads
        self._seq: dict[str, int] = {}
        self._idx: dict[str, int] = {}

    async def join(self, *targets: str, name: str = "hand") -> None:
        me = myself()
        info = WorkerInfo(
            id=name, host="here", pid=me.pid, start=me.start, boot=me.boot, namespace=me.namespace, targets=[*targets]
        )
        await self.store.join(info, 60_000)

    async def claim(self, target: str) -> Run:
        (run,) = await self.store.claim("hand", [target], 1)
        return run

    async def step(self, run: Run, result: object) -> None:
        seq = self._seq[run.id] = self._seq.get(run.id, 0) + 1
        packed = await self.payloads.encode(result)
        step = Step(seq=seq, pos=str(seq), kind="step", name=f"step{seq}", hash=b"", result=packed)
        await self.store.append(Fence(run.id, run.epoch), [step])

    async def emit(self, run: Run, data: object) -> None:
        idx = self._idx[run.id] = self._idx.get(run.id, -1) + 1
        item = StreamItem(idx=idx, pos="1", attempt=1, data=await self.payloads.encode(data))
        await self.store.emit(Fence(run.id, run.epoch), [item])

    async def complete(self, run: Run, output: object = None) -> None:
        packed = await self.payloads.encode(output)
        await self.store.finish(Fence(run.id, run.epoch), Finish(state="completed", output=packed))

    async def finish(self, run: Run, **fields: Any) -> None:
        await self.store.finish(Fence(run.id, run.epoch), Finish(**fields))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "relit.db", wakeups=Wakeups())
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
def parts(store: SqliteStore) -> Parts:
    return Parts(Engine(store, Payloads()), OPTIONS)


@pytest.fixture
def hand(store: SqliteStore, parts: Parts) -> Hand:
    return Hand(store, parts.payloads)


@pytest.fixture
async def token(store: SqliteStore, tmp_path: Path) -> str:
    return await ensure_token(store, tmp_path)


@pytest.fixture
async def server(parts: Parts) -> AsyncIterator[ApiServer]:
    server = ApiServer(build(parts), port=0, closing=parts.closing.close)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def http(server: ApiServer, token: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as client:
        yield client
