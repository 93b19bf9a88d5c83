from __future__ import annotations

import asyncio

from relit.lib.service import Tasks


async def test_a_failing_task_is_reported_and_the_others_go_on() -> None:
    errors: list[BaseException] = []
    tasks = Tasks(errors.append)
    going = asyncio.Event()

    async def fail() -> None:
        raise ValueError("on purpose")

    failed = tasks.spawn(fail(), "fails")
    other = tasks.spawn(going.wait(), "waits")
    await asyncio.wait([failed])
    assert [str(error) for error in errors] == ["on purpose"]
    assert not other.done()
    await tasks.stop()
    await tasks.stop()
    assert other.cancelled()
