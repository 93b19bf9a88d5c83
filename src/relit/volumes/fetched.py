"""Records of chunks that were fetched, and are opened by whoever needs them. Blocking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from relit.manifest import Place
from relit.volumes.pack import CHUNK, Data, Sealer, damaged

Batch = list[tuple[bytes, Place]]  # of one pack, by offset


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Some of one pack."""

    pack: str
    batch: Batch
    records: list[bytes]


class Opens(Protocol):
    """Chunks that are at hand, sealed in ``parts``. ``sizes``: bytes of each, by id."""

    parts: Sequence[Part]
    sizes: dict[bytes, int]

    def open(self) -> dict[bytes, Data]:
        """By id, verified. Blocking; once."""
        ...


class Fetched:
    """``sizes``: bytes of each chunk, by id, in the order of packs."""

    def __init__(self, parts: Sequence[Part], sealer: Callable[[str], Sealer], id_of: Callable[[Data], bytes]) -> None:
        self.parts = parts
        self.sizes = {id: place.raw for part in parts for id, place in part.batch}
        self._sealer = sealer
        self._id_of = id_of

    def open(self) -> dict[bytes, Data]:
        """The chunks by id, each proven to be what was written. VolumeDamaged."""
        opened: dict[bytes, Data] = {}
        for part in self.parts:
            contents = self._sealer(part.pack).open_all(part.records, [place for _, place in part.batch])
            for (id, place), (kind, data) in zip(part.batch, contents, strict=True):
                if kind != CHUNK or self._id_of(data) != id:
                    raise damaged(place, f"it does not hold chunk {id.hex()}")
                opened[id] = data
        return opened
