"""Values as bytes: inputs, results, messages, signals.

Byte 0 is the format: 1 msgpack · 2 a reference to a blob (msgpack of ``{hash, size}``), whose content is a whole
payload of format 1 or 3 · 3 sealed by a codec (msgpack of ``{codec, data}``), whose plain text is one of format 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol, cast

import msgspec

from relit.durable.locate import locate
from relit.errors import PayloadError, PayloadTooLarge, Unserialisable
from relit.lib import crashpoints
from relit.lib.durations import to_bytes

PLAIN, BLOB, SEALED = 1, 2, 3
INLINE_MAX = 64 * 1024
LIMIT = to_bytes("256M")

_ATOMS = frozenset({str, int, float, bool, type(None), bytes})


class Codec(Protocol):
    """Encrypts (or signs, compresses) payloads before they reach the store. ``name`` is written beside them."""

    name: str

    def seal(self, data: bytes) -> bytes: ...

    def open(self, data: bytes) -> bytes: ...


class Blobs(Protocol):
    """The part of a blob store that payloads need."""

    async def put(self, data: bytes) -> str: ...

    async def get(self, hash: str) -> bytes: ...


class Reference(msgspec.Struct):
    """Where a large payload is."""

    hash: str
    size: int


class Sealed(msgspec.Struct):
    """A payload that only the named codec opens."""

    codec: str
    data: bytes


def _is_pydantic(cls: type) -> bool:
    pydantic = sys.modules.get("pydantic")  # never imported by relit: if the class is a model, it is loaded
    return pydantic is not None and isinstance(cls, type) and issubclass(cls, pydantic.BaseModel)


def to_plain(value: Any) -> Any:
    """msgspec's hook for types it does not know: pydantic models become their JSON-mode fields."""
    if _is_pydantic(type(value)):
        return value.model_dump(mode="json")
    raise Unserialisable(
        f"cannot store a {type(value).__module__}.{type(value).__qualname__}",
        why="it is not made of plain data",
        fix="pass or return builtins, dataclasses, msgspec Structs or pydantic models; "
        "bind other objects with a closure or functools.partial",
    )


def from_plain(cls: type, value: Any) -> Any:
    """msgspec's hook for reading such types back."""
    if _is_pydantic(cls):
        return cast(Any, cls).model_validate(value)
    if cls is object:
        return value
    raise Unserialisable(
        f"cannot read a {cls.__module__}.{cls.__qualname__} back",
        why="it is not made of plain data",
        fix="annotate with builtins, a dataclass, a msgspec Struct or a pydantic model",
    )


class Packer:
    """Objects to and from msgpack, with one decoder for each type."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder(enc_hook=to_plain)
        self._sorted = msgspec.msgpack.Encoder(enc_hook=to_plain, order="deterministic")
        self._any = msgspec.msgpack.Decoder()
        self._decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}

    def encode(self, value: object) -> bytes:
        """msgpack of ``value``. Raises ``Unserialisable``, naming the part that is to blame."""
        return self._guarded(self._encoder.encode, value)

    def canonical(self, value: object) -> bytes:
        """As ``encode``, with keys and sets in order: the same bytes for the same value in every process."""
        return self._guarded(self._sorted.encode, value)

    def decode(self, data: bytes | memoryview | msgspec.Raw, type: Any = Any) -> Any:
        """``data`` as ``type``. Raises ``Unserialisable`` when it does not fit."""
        if type is Any:
            return self._any.decode(data)
        try:
            return self._decoder(type).decode(data)
        except (msgspec.ValidationError, ValueError) as error:
            name = getattr(type, "__qualname__", str(type))
            raise Unserialisable(
                f"a stored value does not fit its annotation {name}",
                why=str(error),
                fix="make the annotation and the value agree",
            ) from error

    def _decoder(self, type: Any) -> msgspec.msgpack.Decoder[Any]:
        try:
            return self._decoders[type]
        except KeyError:
            return self._decoders.setdefault(type, self._build(type))
        except TypeError:  # an unhashable annotation
            return self._build(type)

    def _build(self, type: Any) -> msgspec.msgpack.Decoder[Any]:
        try:
            return msgspec.msgpack.Decoder(type, dec_hook=from_plain)
        except TypeError:  # an annotation that says nothing about data: read builtins
            return self._any

    def _guarded(self, encode: Callable[[object], bytes], value: object) -> bytes:
        try:
            return encode(value)
        except Unserialisable as error:
            raise Unserialisable(f"{error.what} (at {self._path(value)})", why=error.why, fix=error.fix) from None
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Unserialisable(
                f"cannot store a {type(value).__qualname__} (at {self._path(value)})",
                why=str(error),
                fix="store plain data: integers within 64 bits, valid text, no cycles",
            ) from error

    def _path(self, value: object) -> str:
        return locate(value, self._fits)

    def _fits(self, value: object) -> bool:
        try:
            self._encoder.encode(value)
        except (Unserialisable, TypeError, ValueError, OverflowError, RecursionError):
            return False
        return True


class Payloads:
    """Values to and from stored bytes: packs, seals and keeps what is large out of the database."""

    def __init__(
        self, blobs: Blobs | None = None, codec: Codec | None = None, inline_max: int = INLINE_MAX, limit: int = LIMIT
    ) -> None:
        self._blobs = blobs
        self._codec = codec
        self._inline_max = inline_max
        self._limit = limit
        self.packer = Packer()

    def pack(self, value: object) -> bytes:
        """``value`` as a payload of format 1. ``seal`` must follow unless ``ready``."""
        data = b"\x01" + self.packer.encode(value)
        if len(data) > self._limit:
            raise PayloadTooLarge(
                f"a payload of {len(data):,} bytes is too large",
                why=f"the limit is {self._limit:,} bytes",
                fix="store the content elsewhere and pass a reference, or raise the limit",
            )
        return data

    def ready(self, packed: bytes) -> bool:
        """Whether ``packed`` may go into a row as it is."""
        return self._codec is None and (len(packed) <= self._inline_max or self._blobs is None)

    async def seal(self, packed: bytes) -> bytes:
        """What goes into the row for ``packed``: sealed, and in the blob store when it is large."""
        data = packed
        if self._codec is not None:
            sealed = Sealed(self._codec.name, self._codec.seal(packed))
            data = b"\x03" + self.packer.encode(sealed)
        if len(data) <= self._inline_max or self._blobs is None:
            return data
        crashpoints.point("blob.before")
        hash = await self._blobs.put(data)
        crashpoints.point("blob.after")
        return b"\x02" + self.packer.encode(Reference(hash, len(data)))

    async def encode(self, value: object) -> bytes:
        """``value`` as it goes into a row."""
        packed = self.pack(value)
        return packed if self.ready(packed) else await self.seal(packed)

    def unpack(self, data: bytes, type: Any = Any) -> Any:
        """The value of a payload of format 1."""
        return self.packer.decode(memoryview(data)[1:], type)

    async def open(self, data: bytes) -> bytes:
        """``data`` as a payload of format 1, whatever it was."""
        if data[0] == BLOB:
            if self._blobs is None:
                raise PayloadError("cannot read a large payload", why="no blob store is set", fix="set server.blobs")
            data = await self._blobs.get(self.packer.decode(memoryview(data)[1:], Reference).hash)
        return self._unseal(data) if data[0] == SEALED else data

    async def decode(self, data: bytes, type: Any = Any) -> Any:
        """The value in ``data``."""
        return self.unpack(data if data[0] == PLAIN else await self.open(data), type)

    def _unseal(self, data: bytes) -> bytes:
        sealed = self.packer.decode(memoryview(data)[1:], Sealed)
        if self._codec is None or self._codec.name != sealed.codec:
            raise PayloadError(
                f"cannot open a payload sealed with {sealed.codec!r}",
                why="this process has another codec" if self._codec else "this process has no codec",
                fix="start it with the codec (and key) that sealed the payload",
            )
        return self._codec.open(sealed.data)

    def settle(self, value: Any, packed: bytes, type: Any) -> Any:
        """``value`` as a replay would return it, so that a live run and its replay see the same."""
        cls = value.__class__
        if cls in _ATOMS and (type is Any or type is cls):
            return value
        return self.unpack(packed, type)
