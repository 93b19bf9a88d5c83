"""A turn that is delivered again, and a gateway that has it on record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway_house import KEY, TOKEN

from relit.gateway.ledger import Ledger
from relit.gateway.prices import Price
from relit.gateway.routes import Caller, Known, Route
from relit.gateway.server import Gateway
from relit.gateway.spool import Spool
from relit.lib import proc
from relit.lib.lives import Lives
from relit.store.blobs import ObstoreBlobs
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import NewRun, WorkerInfo

PRICES = {"m": Price(input=1.0, output=10.0)}


async def life(store: SqliteStore, number: int) -> None:
    """A message is worked on, by another worker each time; the one before has died."""
    if number == 1:
        await store.enqueue(
            [NewRun(id="r1", agent="scout", workflow="message", kind="message", input=b"", mailbox="scout")]
        )
    else:
        await store.reap(f"w{number - 1}", proven=True, poison_after=99)
    me = proc.myself()
    await store.join(
        WorkerInfo(
            id=f"w{number}", host="h", pid=me.pid, start=me.start, boot="b", namespace="n", targets=["scout/message"]
        ),
        600_000,
    )
    [_] = await store.claim(f"w{number}", ["scout/message"], 1)


@asynccontextmanager
async def recorder(
    url: str, store: SqliteStore, folder: Path, lives: Lives = lambda agent: None, spool: Spool | None = None
) -> AsyncIterator[Gateway]:
    made = Gateway(
        {"default": Route("default", url, KEY)},
        Known([Caller("scout", TOKEN, "default")]),
        port=0,
        ledger=Ledger(store.calls, PRICES, {}, {}, blobs=ObstoreBlobs(folder), spool=spool, record=store.record),
        lives=lives,
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
