"""Restores files from a folder of packs. Written from docs/reference/volume-format.md alone: no import of relit.

``python independent_reader.py STORE SECRET OUT [VOLUME [NUMBER]]``: SECRET is the exported key, the passphrase, or "".
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import struct
import sys
from hashlib import scrypt, sha256
from pathlib import Path
from typing import Any, NamedTuple

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import MsgspecError
from msgspec.msgpack import decode

CHUNK, MANIFEST, INDEX = 1, 2, 4


class Damaged(Exception):
    """Something is not as the page says."""


BROKEN = (Damaged, InvalidTag, struct.error, zstandard.ZstdError, MsgspecError)


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise Damaged(what)


# --- keys ----------------------------------------------------------------------------------------------------------


def hkdf(master: bytes, salt: bytes, info: bytes) -> bytes:
    extracted = hmac.digest(salt or bytes(32), master, sha256)
    return hmac.digest(extracted, info + b"\x01", sha256)


def master_key(claim: dict[str, Any], secret: str) -> bytes | None:
    extra = claim["extra"]
    if extra["encryption"] == "off":
        return None
    if extra["encryption"] == "passphrase":
        n, r, p = extra["scrypt"]
        salt = bytes.fromhex(extra["salt"])
        master = scrypt(secret.encode(), salt=salt, n=n, r=r, p=p, dklen=32, maxmem=256 * n * r)
    else:
        kind, _, text = secret.strip().partition(":")
        expect(kind == "relit-key-1", "this is no key")
        data = base64.b32decode(text.replace("-", "").upper())
        master = data[:32]
        expect(blake3(master).digest(length=3) == data[32:], "the key has a typing error")
    expect(chunk_id(master, b"relit key id 1").hex() == extra["key"], "this is another store's key")
    return master


def chunk_id(master: bytes | None, content: bytes) -> bytes:
    key = hkdf(master or bytes(32), b"", b"relit chunk ids 1")
    return blake3(content, key=key).digest(length=16)


# --- packs ---------------------------------------------------------------------------------------------------------


class Pack:
    """One pack's bytes."""

    def __init__(self, data: bytes, name: str, master: bytes | None) -> None:
        self.data, self.master = data, master
        expect(data[:8] == b"RELITPK1" and len(data) >= 64, "no pack")
        expect(blake3(data[:48]).digest(length=16) == data[48:64], "its header is damaged")
        version, suite, zero = struct.unpack_from("<HHI", data, 8)
        expect((version, zero) == (1, 0) and suite in (0, 1), "a format that is not known")
        self.id = data[16:32]
        expect(self.id.hex() == name, "it has another name")
        expect(suite == (0 if master is None else 1), "it is of another suite than the store")
        self.cipher = None
        if master is not None:
            check = blake3(self.id, key=hkdf(master, b"", b"relit pack check 1")).digest(length=16)
            expect(check == data[32:48], "sealed with another key")
            self.cipher = AESGCM(hkdf(master, self.id, b"relit pack 1"))

    def record(self, offset: int) -> tuple[int, bytes]:
        head = self.data[offset : offset + 20]
        kind, flags, _, stored, raw, counter = struct.unpack("<BBHIIQ", head)
        sealed = self.data[offset + 20 : offset + 20 + stored]
        expect(len(sealed) == stored, "cut short")
        if self.cipher is None:
            body, tag = sealed[:-16], sealed[-16:]
            expect(blake3(self.id + head + body).digest(length=16) == tag, "a wrong check sum")
        else:
            body = self.cipher.decrypt(counter.to_bytes(12, "little"), sealed, head)
        content = zstandard.ZstdDecompressor().decompress(body) if flags & 1 else body
        expect(len(content) == raw, "a wrong length")
        return kind, content

    def index(self) -> tuple[list[list[Any]], list[list[Any]]]:
        footer = self.data[-32:]
        offset, length = struct.unpack("<QQ", footer[:16])
        expect(footer[24:] == b"RELITEND", "no footer")
        expect(blake3(self.id + footer[:16]).digest(length=8) == footer[16:24], "its footer is damaged")
        expect(offset + length + 32 == len(self.data), "its footer is wrong")
        kind, content = self.record(offset)
        expect(kind == INDEX, "no index")
        chunks, manifests, *_ = decode(content)
        return chunks, manifests

    def walk(self) -> tuple[list[list[Any]], list[list[Any]]]:
        """What the index would say."""
        chunks, manifests, last, at = [], [], {}, 64
        while at + 20 <= len(self.data) and self.data[at] in (CHUNK, MANIFEST):
            stored, raw = struct.unpack_from("<II", self.data, at + 4)
            kind, content = self.record(at)
            if kind == CHUNK:
                chunks.append([chunk_id(self.master, content), at, 20 + stored, raw])
            else:
                volume, snapshot, _, consolidated, base = decode(content)
                step = (volume["id"], snapshot["number"])
                if not consolidated:
                    last[step] = snapshot["id"]
                role = 2 if consolidated else 1
                manifests.append([*step, snapshot["id"], role, at, 20 + stored, raw, base])
            at += 20 + stored
        return chunks, [each for each in manifests if each[3] == 2 or last[each[0], each[1]] == each[2]]


# --- stores --------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A manifest record: the way from one snapshot to another."""

    base: int
    number: int
    pack: Pack
    offset: int


class Store:
    """A folder with ``store.json`` and ``packs``."""

    def __init__(self, folder: Path, secret: str) -> None:
        self.master = master_key(json.loads((folder / "store.json").read_text()), secret)
        self.places: dict[bytes, tuple[Pack, int]] = {}
        self.steps: dict[str, list[Step]] = {}
        for path in sorted(folder.glob("packs/??/*"), key=lambda path: path.stat().st_mtime_ns):
            self._add(Pack(path.read_bytes(), path.name, self.master))

    def _add(self, pack: Pack) -> None:
        try:
            chunks, manifests = pack.index()
        except BROKEN as error:
            print(f"pack {pack.id.hex()}: {error}; every record is read", file=sys.stderr)
            chunks, manifests = pack.walk()
        self.places |= {id: (pack, offset) for id, offset, *_ in chunks}
        for volume, number, _, role, offset, _, _, base, *_ in manifests:
            if role:
                self.steps.setdefault(volume, []).append(Step(base, number, pack, offset))

    def names(self) -> dict[str, str]:
        """Volumes' ids by their agents' names."""
        return {decode(steps[0].pack.record(steps[0].offset)[1])[0]["name"]: id for id, steps in self.steps.items()}

    def numbers(self, volume: str) -> list[int]:
        return sorted({step.number for step in self.steps[volume]})

    def tree(self, volume: str, number: int) -> tuple[dict[bytes, list[Any]], dict[tuple[bytes, int], bytes]]:
        """(entries by path, segments by path and number)."""
        entries: dict[bytes, list[Any]] = {}
        segments: dict[tuple[bytes, int], bytes] = {}
        for step in self._chain(volume, number):
            kind, content = step.pack.record(step.offset)
            _, snapshot, delta, *_ = decode(content)
            expect(kind == MANIFEST and snapshot["number"] == step.number, "another record than the index says")
            if delta["full"]:
                entries, segments = {}, {}
            for path in delta["gone"]:
                entries.pop(path, None)
            for path, first in delta["cut"]:
                segments = {key: ids for key, ids in segments.items() if key[0] != path or key[1] < first}
            entries |= {entry[0]: entry for entry in delta["entries"]}
            segments |= {(path, no): ids for path, no, ids in delta["segments"]}
        return entries, segments

    def _chain(self, volume: str, number: int) -> list[Step]:
        reached: dict[int, list[Step]] = {0: []}
        for step in sorted(self.steps[volume], key=lambda step: step.number):
            if step.base in reached:
                reached[step.number] = [*reached[step.base], step]
        expect(number in reached, f"no records lead to snapshot {number}")
        return reached[number]

    def chunk(self, id: bytes) -> bytes:
        pack, offset = self.places[id]
        kind, content = pack.record(offset)
        expect(kind == CHUNK and chunk_id(self.master, content) == id, "another chunk than the index says")
        return content


# --- restoring -----------------------------------------------------------------------------------------------------


def restore(store: Store, volume: str, number: int, out: Path) -> None:
    entries, segments = store.tree(volume, number)
    place = os.fsencode(out)
    order = sorted(entries.values(), key=lambda entry: (bool(entry[11]), entry[0]))
    for entry in order:
        if entry[1] == "folder":
            os.makedirs(os.path.join(place, entry[0]), exist_ok=True)
    for entry in order:
        target = os.path.join(place, entry[0])
        if entry[1] == "link":
            os.symlink(entry[10], target)
        elif entry[11]:
            os.link(os.path.join(place, entry[11]), target)
        elif entry[1] == "file":
            write(store, entry, segments, target)
    for entry in sorted(entries.values(), key=lambda entry: entry[0], reverse=True):
        settle(entry, os.path.join(place, entry[0]) if entry[0] else place)


def write(store: Store, entry: list[Any], segments: dict[tuple[bytes, int], bytes], target: bytes) -> None:
    path, size, count, ids = entry[0], entry[6], entry[7], entry[8]
    if count > 64:
        ids = b"".join(segments[path, no] for no in range((count + 63) // 64))
    expect(len(ids) == 16 * count, "chunks are missing in the list")
    numbers = struct.unpack(f"<{len(entry[9]) // 8}Q", entry[9])
    holes = [*zip(numbers[::2], numbers[1::2], strict=True), (size, 0)]
    with open(target, "xb") as file:
        for at in range(0, len(ids), 16):
            data = store.chunk(ids[at : at + 16])
            while data:
                while file.tell() == holes[0][0] and holes[0][1]:
                    file.seek(sum(holes.pop(0)))
                room = holes[0][0] - file.tell()
                expect(room > 0, "more content than the file has room for")
                file.write(data[:room])
                data = data[room:]
        file.truncate(size)


def settle(entry: list[Any], target: bytes) -> None:
    _, kind, mode, uid, gid, mtime = entry[:6]
    os.chown(target, uid, gid, follow_symlinks=False)
    if kind != "link":
        os.chmod(target, mode)
        for name, value in (decode(entry[12]) if entry[12] else {}).items():
            os.setxattr(target, name, value)
    os.utime(target, ns=(mtime, mtime), follow_symlinks=False)


def main(store: str, secret: str, out: str, name: str = "", number: str = "") -> None:
    opened = Store(Path(store), secret)
    names = opened.names()
    volume = names[name] if name else next(iter(names.values()))
    restore(opened, volume, int(number) if number else opened.numbers(volume)[-1], Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
