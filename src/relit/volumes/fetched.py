"""Records of chunks, fetched or near, opened by whoever needs them. Blocking."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from relit.errors import VolumeError
from relit.lib.ranges import read_ranges
from relit.manifest import Place
from relit.volumes.pack import CHUNK, Data, Sealer, damaged

Batch = list[tuple[bytes, Place]]  # of one pack, by offset


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Some of one pack: its ``records``, or the ``files`` of which the first that is there has them."""

    pack: str
    batch: Batch
    records: list[bytes] = []
    files: list[str] = []


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
        """The chunks by id, each proven to be what was written. VolumeDamaged; VolumeError when a disk fails."""
        opened: dict[bytes, Data] = {}
        for part in self.parts:
            records = _read(part) if part.files else part.records
            contents = self._sealer(part.pack).open_all(records, [place for _, place in part.batch])
            for (id, place), (kind, data) in zip(part.batch, contents, strict=True):
                if kind != CHUNK or self._id_of(data) != id:
                    raise damaged(place, f"it does not hold chunk {id.hex()}")
                opened[id] = data
        return opened


def _read(part: Part) -> list[bytes]:
    for path in part.files:
        try:
            with contextlib.suppress(FileNotFoundError), open(path, "rb", buffering=0) as file:
                return read_ranges(file.fileno(), [(place.offset, place.length) for _, place in part.batch])
        except OSError as error:
            raise VolumeError(
                f"pack {part.pack} cannot be read", why=f"{path}: {error.strerror}", fix="look after that disk"
            ) from error
    if not os.path.isdir(folder := os.path.dirname(part.files[-1])):
        raise VolumeError(f"pack {part.pack} cannot be read", why=f"{folder} is not there", fix="mount the blob store")
    raise damaged(part.batch[0][1], f"the pack is not in {folder}")
