"""Injected faults look like those of real stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit.errors import StoreUnavailable
from relit.store.objects import FolderObjects
from relit.testing.faults import Chance, FaultyObjects, Scripted


async def test_a_late_answer_has_done_its_work_and_an_error_has_not(tmp_path: Path) -> None:
    objects = FaultyObjects(FolderObjects(tmp_path), Scripted(("put", "late"), ("put", "error"), ("put", "torn")))
    for key in ("late", "error", "torn"):
        with pytest.raises(StoreUnavailable):
            await objects.put(key, b"x")
    assert [await objects.head(key) is not None for key in ("late", "error", "torn")] == [True, False, False]


async def test_a_torn_read_is_short(tmp_path: Path) -> None:
    objects = FaultyObjects(FolderObjects(tmp_path), Scripted(("get", "torn")))
    await objects.put("a", b"1234")
    assert [await objects.get("a"), await objects.get("a")] == [b"12", b"1234"]


async def test_a_stale_list_misses_one_and_a_failing_list_raises_half_way(tmp_path: Path) -> None:
    objects = FaultyObjects(FolderObjects(tmp_path), Scripted(("list", "stale"), ("list", "failing")))
    for key in ("a", "b", "c", "d"):
        await objects.put(key, b"")
    assert len([info async for info in objects.list("")]) == 3
    failing = objects.list("")
    assert [(await anext(failing)).key for _ in range(2)] == ["a", "b"]
    with pytest.raises(StoreUnavailable):
        await anext(failing)


def test_the_same_seed_gives_the_same_faults() -> None:
    def drawn(seed: int) -> list[str | None]:
        plan = Chance(seed, 0.3)
        return [plan.next("put", "x") for _ in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)
