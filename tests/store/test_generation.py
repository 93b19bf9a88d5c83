"""A store that was recovered elsewhere gives its prefix up: on a folder and on a bucket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from relit.errors import StoreUnavailable, WrongStore
from relit.lib.clock import SYSTEM_CLOCK
from relit.store.generation import FIRST, OwnObjects, begin, check
from relit.store.objects import FolderObjects, Objects, open_objects
from relit.testing.s3 import S3


@pytest.fixture(scope="module")
def bucket(s3: S3) -> str:
    name = s3.new_bucket()
    s3.store(name).put("first", b"")
    return name


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return open_objects(str(tmp_path / "objects"))
    s3: S3 = request.getfixturevalue("s3")
    return open_objects(f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}", s3.options())


class Later:
    """Clocks that are moved by hand."""

    def __init__(self) -> None:
        self.offset = 0

    def now_ms(self) -> int:
        return SYSTEM_CLOCK.now_ms()

    def boot_ms(self) -> int:
        return SYSTEM_CLOCK.boot_ms() + self.offset

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic()


async def test_a_prefix_of_an_older_relit_is_of_the_first(objects: Objects) -> None:
    await check(objects, "one", FIRST)
    assert [each async for each in objects.list("generations/")] == []


async def test_a_recovery_ends_the_one_before(objects: Objects) -> None:
    assert await begin(objects, "one") == 2
    await check(objects, "one", 2)
    with pytest.raises(WrongStore, match="recovered elsewhere") as told:
        await check(objects, "one", FIRST)
    assert "relit down" in told.value.fix
    assert await begin(objects, "one") == 3
    with pytest.raises(WrongStore, match="this store is of generation 2"):
        await check(objects, "one", 2)


async def test_of_several_at_once_one_has_the_newest(objects: Objects) -> None:
    numbers = await asyncio.gather(*(begin(objects, "one") for _ in range(4)))
    assert sorted(numbers) == [2, 3, 4, 5]
    fine = []
    for number in numbers:
        try:
            await check(objects, "one", number)
            fine.append(number)
        except WrongStore:
            continue
    assert fine == [5]


async def test_a_prefix_that_was_copied_without_them_learns_of_this_one(objects: Objects) -> None:
    await check(objects, "one", 4)
    assert await begin(objects, "one") == 5
    with pytest.raises(WrongStore):
        await check(objects, "one", 4)


async def test_whoever_is_older_deletes_and_uploads_nothing(objects: Objects, tmp_path: Path) -> None:
    clock, file = Later(), tmp_path / "file"
    file.write_bytes(b"pack")
    own = OwnObjects(objects, "one", FIRST, clock=clock)
    await own.start()
    await own.put_file("packs/1", file)
    await begin(objects, "one")
    with pytest.raises(WrongStore):
        await own.delete("packs/1")
    clock.offset += 60_000
    with pytest.raises(WrongStore):
        await own.put_file("packs/2", file)
    with pytest.raises(WrongStore):
        await own.put("packs/2", b"pack")
    with pytest.raises(WrongStore):
        await own.start()
    assert await own.get("packs/1") == b"pack"
    assert [each.key async for each in own.list("packs/")] == ["packs/1"]


async def test_an_upload_trusts_a_look_of_the_last_minute(objects: Objects) -> None:
    own = OwnObjects(objects, "one", FIRST)
    await own.put("packs/1", b"pack")
    await begin(objects, "one")
    await own.put("packs/2", b"pack")
    with pytest.raises(WrongStore):
        await own.delete("packs/2")


class Away(FolderObjects):
    """A blob store that does not answer."""

    away = True

    async def head(self, key: str) -> None:
        if self.away:
            raise StoreUnavailable("it is away")


async def test_without_the_blob_store_a_start_goes_on_and_the_first_change_looks(tmp_path: Path) -> None:
    objects = Away(tmp_path / "objects")
    own = OwnObjects(objects, "one", FIRST)
    await own.start()
    with pytest.raises(StoreUnavailable):
        await own.put("packs/1", b"pack")
    objects.away = False
    await own.put("packs/1", b"pack")
