"""Every blob store passes these: a folder and an S3 bucket."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relit.errors import BlobMissing, ConfigError, StoreCorrupt, StoreUnavailable
from relit.store.blobs import BlobStore, ObstoreBlobs, hash_of, key_of
from relit.testing.s3 import S3
from relit.testing.servers import Missing

ABSENT = "0" * 64


class Place:
    """A blob store and a way to damage what is in it."""

    def __init__(self, blobs: BlobStore, damage: Callable[[str, bytes], None]) -> None:
        self.blobs = blobs
        self.damage = damage


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    try:
        server = S3()
    except Missing as missing:
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        folder = tmp_path / "blobs"
        return Place(ObstoreBlobs(folder), lambda hash, data: _overwrite(folder / key_of(hash), data))
    s3: S3 = request.getfixturevalue("s3")
    bucket = s3.new_bucket()
    store = s3.store(bucket)
    return Place(
        ObstoreBlobs(f"s3://{bucket}/some/prefix", s3.options()),
        lambda hash, data: _put(store, f"some/prefix/{key_of(hash)}", data),
    )


def _overwrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _put(store: object, key: str, data: bytes) -> None:
    store.put(key, data)  # type: ignore[attr-defined]


async def test_what_was_put_is_read_back_under_its_hash(place: Place) -> None:
    data = os.urandom(300_000)
    hash = await place.blobs.put(data)
    assert hash == hash_of(data)
    assert await place.blobs.get(hash) == data


async def test_an_empty_blob_is_a_blob(place: Place) -> None:
    assert await place.blobs.get(await place.blobs.put(b"")) == b""


async def test_putting_twice_is_harmless(place: Place) -> None:
    assert await place.blobs.put(b"same") == await place.blobs.put(b"same")
    assert [hash async for hash in place.blobs.list()] == [hash_of(b"same")]


async def test_putting_the_same_at_once_is_harmless(place: Place) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(place.blobs.put(b"same"))
    assert await place.blobs.get(hash_of(b"same")) == b"same"


async def test_an_absent_blob_is_missing(place: Place) -> None:
    await place.blobs.put(b"another")
    with pytest.raises(BlobMissing, match="fix: "):
        await place.blobs.get(ABSENT)


async def test_a_name_that_is_no_hash_is_missing(place: Place) -> None:
    for name in ("", "../../etc/passwd", ABSENT.upper() + "A", ABSENT + "\n"):
        with pytest.raises(BlobMissing):
            await place.blobs.get(name)


async def test_a_deleted_blob_is_missing_and_may_be_deleted_again(place: Place) -> None:
    hash = await place.blobs.put(b"gone")
    await place.blobs.delete(hash)
    await place.blobs.delete(hash)
    with pytest.raises(BlobMissing):
        await place.blobs.get(hash)


async def test_a_damaged_blob_is_never_handed_out_and_is_mended_by_a_put(place: Place) -> None:
    hash = await place.blobs.put(b"whole")
    await asyncio.to_thread(place.damage, hash, b"whale")
    with pytest.raises(StoreCorrupt, match="no longer matches"):
        await place.blobs.get(hash)
    await place.blobs.put(b"whole")
    assert await place.blobs.get(hash) == b"whole"


async def test_list_answers_every_hash_and_nothing_else(place: Place) -> None:
    hashes = {await place.blobs.put(bytes([number])) for number in range(20)}
    assert {hash async for hash in place.blobs.list()} == hashes


async def test_list_can_leave_out_the_young(place: Place) -> None:
    hash = await place.blobs.put(b"young")
    now = int(time.time() * 1000)
    assert [each async for each in place.blobs.list(now - 60_000)] == []
    assert [each async for each in place.blobs.list(now + 60_000)] == [hash]


async def test_a_folder_is_private(tmp_path: Path) -> None:
    blobs = ObstoreBlobs(tmp_path / "blobs")
    hash = await blobs.put(b"x")
    path = tmp_path / "blobs" / key_of(hash)
    assert [os.stat(each).st_mode & 0o777 for each in (path, path.parent, tmp_path / "blobs")] == [0o600, 0o700, 0o700]


async def test_putting_again_makes_a_blob_young(tmp_path: Path) -> None:
    blobs = ObstoreBlobs(tmp_path)
    hash = await blobs.put(b"old")
    os.utime(tmp_path / key_of(hash), (0, 0))
    await blobs.put(b"old")
    assert [each async for each in blobs.list(int(time.time() * 1000) - 60_000)] == []


async def test_drafts_of_dead_writers_are_swept(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "tmp")
    for name, age in (("1-old", 0), ("1-young", time.time())):
        await asyncio.to_thread(_overwrite, tmp_path / "tmp" / name, b"")
        os.utime(tmp_path / "tmp" / name, (age, age))
    await ObstoreBlobs(tmp_path).put(b"x")
    assert os.listdir(tmp_path / "tmp") == ["1-young"]


async def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    blobs = ObstoreBlobs(tmp_path)
    hash = hash_of(b"x")
    os.makedirs(tmp_path / key_of(hash))  # a folder stands where the file should go
    with pytest.raises(StoreUnavailable):
        await blobs.put(b"x")
    assert os.listdir(tmp_path) == [hash[:2]]


async def test_a_server_that_is_away_is_unavailable_and_worth_a_retry() -> None:
    options = {"endpoint": "http://127.0.0.1:9", "allow_http": "true", "timeout": "200ms", "region": "us-east-1"}
    blobs = ObstoreBlobs("s3://bucket", options | {"access_key_id": "a", "secret_access_key": "hidden"})
    with pytest.raises(StoreUnavailable) as caught:
        await blobs.put(b"x")
    assert caught.value.retry
    assert "hidden" not in str(caught.value)
    assert "Debug source" not in str(caught.value)


@pytest.mark.s3
async def test_wrong_keys_say_so(s3: S3) -> None:
    blobs = ObstoreBlobs(f"s3://{s3.new_bucket()}", s3.options() | {"secret_access_key": "wrong"})
    with pytest.raises(StoreUnavailable, match="permissions or keys"):
        await blobs.put(b"x")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://", {}),
        ("s3://bucket", {"endpiont": "http://x"}),
        ("s3://bucket", {"allow_http": "perhaps"}),
        ("s3://bucket", {"timeout": "soon"}),
    ],
)
def test_wrong_settings_are_refused_at_once(url: str, options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="fix: "):
        ObstoreBlobs(url, options)


def test_a_folder_that_is_a_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="fix: "):
        ObstoreBlobs(tmp_path / "file")
