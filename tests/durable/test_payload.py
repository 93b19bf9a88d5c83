"""Payloads: formats, round trips, sealing, blobs, limits, and errors that name the part to blame."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.durable.payload import Payloads
from relit.errors import BlobMissing, PayloadError, PayloadTooLarge, Unserialisable


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: str


@dataclasses.dataclass(frozen=True)
class Leaf:
    name: str
    colours: tuple[Colour, ...] = ()


class Tree(msgspec.Struct):
    leaf: Leaf
    when: datetime
    cost: Decimal = Decimal("1.50")


class Model(pydantic.BaseModel):
    id: uuid.UUID
    leaves: list[str] = []


class Blobs:
    """A blob store in a dict."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    async def put(self, data: bytes) -> str:
        hash = hashlib.sha256(data).hexdigest()
        self.content[hash] = data
        return hash

    async def get(self, hash: str) -> bytes:
        if hash not in self.content:
            raise BlobMissing("gone")
        return self.content[hash]


class Reversing:
    """A codec that anyone can open."""

    name = "reversing"

    def seal(self, data: bytes) -> bytes:
        return data[::-1]

    def open(self, data: bytes) -> bytes:
        return data[::-1]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(plain)
def test_plain_data_comes_back_as_it_was(value: Any) -> None:
    payloads = Payloads()
    assert payloads.unpack(payloads.pack(value)) == value


@given(plain)
def test_what_a_live_run_sees_is_what_a_replay_sees(value: Any) -> None:
    payloads = Payloads()
    packed = payloads.pack(value)
    assert payloads.settle(value, packed, Any) == payloads.unpack(packed, Any)


@pytest.mark.parametrize(
    "value",
    [
        Tree(Leaf("a", (Colour.RED,)), datetime(2026, 1, 2, tzinfo=UTC), Decimal("2.25")),
        Leaf("b"),
        Pair(1, "x"),
        Colour.RED,
        Model(id=uuid.UUID(int=7), leaves=["x"]),
        uuid.UUID(int=9),
        {1, 2},
        (1, "a"),
        [Model(id=uuid.UUID(int=8))],
    ],
    ids=lambda value: type(value).__name__,
)
def test_typed_values_come_back_as_their_type(value: Any) -> None:
    payloads = Payloads()
    kind: Any = list[Model] if isinstance(value, list) else set[int] if isinstance(value, set) else type(value)
    assert payloads.unpack(payloads.pack(value), kind) == value


def test_an_optional_model_comes_back() -> None:
    payloads = Payloads()
    model = Model(id=uuid.UUID(int=7))
    assert payloads.unpack(payloads.pack(model), Model | None) == model
    assert payloads.unpack(payloads.pack(None), Model | None) is None


def test_a_number_is_read_as_annotated() -> None:
    payloads = Payloads()
    packed = payloads.pack(3)
    assert isinstance(payloads.settle(3, packed, float), float)
    assert payloads.settle(True, payloads.pack(True), Any) is True


def test_a_value_that_does_not_fit_its_annotation_is_an_error() -> None:
    payloads = Payloads()
    with pytest.raises(Unserialisable, match="does not fit"):
        payloads.unpack(payloads.pack("x"), int)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), r"at \$\)"),
        ({"a": [1, object()]}, r"at \$\.a\[1\]"),
        (Leaf("x", (object(),)), r"at \$\.colours\[0\]"),  # type: ignore[arg-type]
        ({"n": 2**70}, r"at \$\.n"),
        ({"t": "\ud800"}, r"at \$\.t"),
        (lambda: 1, r"at \$\)"),
    ],
)
def test_what_cannot_be_stored_is_named_with_its_place(value: Any, path: str) -> None:
    with pytest.raises(Unserialisable, match=path) as found:
        Payloads().pack(value)
    assert found.value.fix


def test_a_cycle_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(Unserialisable):
        Payloads().pack(loop)


def test_canonical_bytes_do_not_depend_on_order() -> None:
    packer = Payloads().packer
    assert packer.canonical({"a": 1, "b": {3, 1, 2}}) == packer.canonical({"b": {2, 3, 1}, "a": 1})


async def test_large_payloads_go_to_the_blob_store() -> None:
    blobs = Blobs()
    payloads = Payloads(blobs)
    small, large = await payloads.encode("x"), await payloads.encode("x" * 100_000)
    assert (small[0], large[0]) == (1, 2)
    assert len(large) < 200
    assert len(blobs.content) == 1
    assert await payloads.decode(large, str) == "x" * 100_000
    blobs.content.clear()
    with pytest.raises(BlobMissing):
        await payloads.decode(large)


async def test_without_a_blob_store_large_payloads_stay_inline() -> None:
    assert (await Payloads().encode("x" * 100_000))[0] == 1


async def test_a_blob_reference_without_a_blob_store_is_an_error() -> None:
    large = await Payloads(Blobs()).encode("x" * 100_000)
    with pytest.raises(PayloadError, match="large payload"):
        await Payloads().decode(large)


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_codec_seals_what_is_stored(size: int) -> None:
    blobs = Blobs()
    payloads = Payloads(blobs, Reversing())
    data = await payloads.encode("secret" * size)
    stored = data + b"".join(blobs.content.values())
    assert b"secret" not in stored
    assert await payloads.decode(data) == "secret" * size
    with pytest.raises(PayloadError, match="sealed with 'reversing'"):
        await Payloads(blobs).decode(data)


def test_a_payload_over_the_limit_is_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="the limit is 1,000 bytes"):
        Payloads(limit=1000).pack("x" * 2000)
