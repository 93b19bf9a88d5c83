"""Every store of objects passes these: a folder and an S3 bucket."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from relit.errors import BlobMissing, ConfigError, Conflict, StoreCorrupt, StoreUnavailable, WrongStore
from relit.store.claim import CLAIM, claim_prefix, read_claim
from relit.store.objects import FolderObjects, Objects, S3Objects, open_objects
from relit.testing.s3 import S3


@pytest.fixture(scope="module")
def bucket(s3: S3) -> str:
    """One for all tests, each below a prefix of its own: a bucket costs the server more than an object."""
    name = s3.new_bucket()
    s3.store(name).put("some/other", b"not ours")
    return name


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return open_objects(str(tmp_path / "objects"))
    s3: S3 = request.getfixturevalue("s3")
    return open_objects(f"s3://{request.getfixturevalue('bucket')}/some/{tmp_path.name}", s3.options())


async def keys(objects: Objects, prefix: str) -> list[str]:
    return sorted([info.key async for info in objects.list(prefix)])


async def test_what_was_put_is_read_back(objects: Objects) -> None:
    await objects.put("packs/aa/one", b"first")
    await objects.put("packs/aa/one", b"second")
    assert await objects.get("packs/aa/one") == b"second"


async def test_a_large_file_is_stored_whole(objects: Objects, tmp_path: Path) -> None:
    path = tmp_path / "pack"
    data = os.urandom(17 << 20)
    path.write_bytes(data)
    await objects.put_file("packs/aa/large", path)
    await objects.put_file("packs/aa/large", path)
    path.unlink()
    assert await objects.get("packs/aa/large") == data
    assert await keys(objects, "") == ["packs/aa/large"]


async def test_an_absent_object_is_missing(objects: Objects) -> None:
    await objects.put("another", b"")
    assert await objects.head("nothing") is None
    with pytest.raises(BlobMissing, match="fix: "):
        await objects.get("nothing")
    with pytest.raises(BlobMissing):
        await objects.get_ranges("nothing", [(0, 1)])


async def test_a_conditional_put_never_replaces(objects: Objects) -> None:
    await objects.put("a/name", b"first", absent=True)
    with pytest.raises(Conflict):
        await objects.put("a/name", b"second", absent=True)
    assert await objects.get("a/name") == b"first"


async def test_ranges_are_read_in_the_order_asked(objects: Objects) -> None:
    await objects.put("a/name", bytes(range(100)))
    assert await objects.get_ranges("a/name", [(90, 2), (0, 0), (3, 1)]) == [b"\x5a\x5b", b"", b"\x03"]


@pytest.mark.parametrize("ranges", [[(0, 2), (3, 9)], [(50, 1)]])
async def test_an_object_shorter_than_what_is_asked_is_damaged(objects: Objects, ranges: list[tuple[int, int]]) -> None:
    await objects.put("a/name", b"short")
    with pytest.raises(StoreCorrupt, match="shorter"):
        await objects.get_ranges("a/name", ranges)


async def test_a_list_answers_all_below_a_prefix(objects: Objects) -> None:
    for key in ("packs/aa/1", "packs/ab/2", "packsy", "store.json"):
        await objects.put(key, b"12")
    assert await keys(objects, "packs/") == ["packs/aa/1", "packs/ab/2"]
    assert await keys(objects, "none") == []
    [info] = [info async for info in objects.list("packs/aa")]
    assert (info.size, info) == (2, await objects.head("packs/aa/1"))


async def test_a_deleted_object_is_gone_and_may_be_deleted_again(objects: Objects) -> None:
    await objects.put("a/name", b"x")
    await objects.delete("a/name")
    await objects.delete("a/name")
    assert await objects.head("a/name") is None


@pytest.mark.parametrize("key", ["", "../x", "a/../b", "/a", "a//b", "tmp/x", "a\n"])
async def test_a_name_that_could_lead_elsewhere_is_refused(objects: Objects, key: str) -> None:
    with pytest.raises(ConfigError):
        await objects.put(key, b"x")


async def test_a_list_of_a_folder_that_went_away_is_an_error(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path / "objects")
    (tmp_path / "objects").rmdir()
    with pytest.raises(StoreUnavailable):
        await keys(objects, "packs")


@pytest.mark.s3
async def test_a_list_of_a_bucket_that_is_not_there_is_an_error(s3: S3) -> None:
    with pytest.raises(StoreUnavailable):
        await keys(S3Objects(f"s3://{s3.new_bucket()}", s3.options()), "packs")


async def test_a_prefix_belongs_to_the_store_that_claimed_it(objects: Objects) -> None:
    first = await claim_prefix(objects, "one", {"salt": "abc"})
    assert await claim_prefix(objects, "one", {}) == first
    with pytest.raises(WrongStore, match="another prefix"):
        await claim_prefix(objects, "two", {})
    assert (first["store"], first["extra"]) == ("one", {"salt": "abc"})
    assert await keys(objects, "") == [CLAIM]


async def test_of_two_claims_at_once_one_wins(objects: Objects) -> None:
    answers = await asyncio.gather(
        claim_prefix(objects, "one", {}), claim_prefix(objects, "two", {}), return_exceptions=True
    )
    won = [answer for answer in answers if isinstance(answer, dict)]
    assert len(won) == 1
    assert [type(answer) for answer in answers if not isinstance(answer, dict)] == [WrongStore]
    assert await read_claim(objects) == won[0]


class Careless(FolderObjects):
    """A server that accepts a condition and ignores it."""

    async def put(self, key: str, data: bytes, *, absent: bool = False) -> None:
        await super().put(key, data)


async def test_a_server_that_ignores_conditions_is_refused(tmp_path: Path) -> None:
    objects = Careless(tmp_path)
    with pytest.raises(ConfigError, match="If-None-Match"):
        await claim_prefix(objects, "one", {})
    assert await keys(objects, "") == []


async def test_a_claim_that_cannot_be_read_is_not_overwritten(objects: Objects) -> None:
    await objects.put(CLAIM, b"{")
    with pytest.raises(StoreCorrupt):
        await claim_prefix(objects, "one", {})
    assert await objects.get(CLAIM) == b"{"
