"""Subscribers: a row moves on only from where it was."""

from __future__ import annotations

import msgspec

from relit.store.base import Store
from relit.store.values import Subscriber

ROW = Subscriber(name="s", url="http://x", events=["run.*", "worker.died"], secret="k")


async def test_a_subscriber_moves_from_where_it_was(store: Store) -> None:
    await store.put_subscriber(ROW)
    after = msgspec.structs.replace(ROW, cursor="7", failures=2, retry_at=5)
    assert await store.move_subscriber(ROW, after)
    assert await store.subscribers() == [after]
    assert not await store.move_subscriber(ROW, after)
    done = msgspec.structs.replace(after, failures=0, retry_at=None)
    assert await store.move_subscriber(after, done)
    assert await store.subscribers() == [done]


async def test_a_changed_subscriber_is_not_moved(store: Store) -> None:
    await store.put_subscriber(ROW)
    after = msgspec.structs.replace(ROW, cursor="7")
    for changed in ({"url": "http://y"}, {"events": []}, {"secret": "l"}, {"failures": 1}, {"retry_at": 1}):
        before = msgspec.structs.replace(ROW, **changed)
        assert not await store.move_subscriber(before, after)
    assert await store.subscribers() == [ROW]


async def test_a_removed_subscriber_does_not_come_back(store: Store) -> None:
    await store.put_subscriber(ROW)
    await store.remove_subscriber("s")
    assert not await store.move_subscriber(ROW, msgspec.structs.replace(ROW, cursor="7"))
    assert await store.subscribers() == []
