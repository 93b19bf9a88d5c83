"""The key that opens a store's packs, and what is derived from it. The format page says how: volume-format.md."""

from __future__ import annotations

import base64
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from relit.errors import WrongKey
from relit.manifest import ID_BYTES
from relit.volumes.disk import sync_folder

_PREFIX = "relit-key-1:"
_BYTES = 32
_SUM = 3  # of the exported key
SCRYPT = (2**15, 8, 1)  # n, r, p: some 100 ms and 32 MiB, once at a start


class Keys:
    """Everything that is derived from one master key of 32 bytes."""

    def __init__(self, master: bytes) -> None:
        if len(master) != _BYTES:
            raise WrongKey("this is no key", why=f"a key has {_BYTES} bytes, this one {len(master)}", fix=_FIX)
        self._master = master
        self._chunks = self._derived(b"relit chunk ids 1", b"")
        self._check = self._derived(b"relit pack check 1", b"")

    @classmethod
    def load(cls, path: Path) -> Keys:
        """Out of a key file. WrongKey when it is not there, damaged, or can be read by others."""
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise WrongKey(f"{path} can be read by others", fix=f"chmod 600 {path}")
            return cls.parse(path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
            raise WrongKey(f"cannot read the key in {path}", why=why, fix=_FIX) from error

    @classmethod
    def create(cls, path: Path) -> Keys:
        """A new key, on disk before it is used."""
        return cls(secrets.token_bytes(_BYTES)).keep(path)

    def keep(self, path: Path) -> Keys:
        """Make this the key in that file. One that is there already is never overwritten: it is the answer."""
        draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(self.export() + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)  # fails when another process was first
        except FileExistsError:
            return Keys.load(path)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(path.parent)
        return self

    @classmethod
    def from_passphrase(cls, text: str, salt: bytes, params: tuple[int, int, int] = SCRYPT) -> Keys:
        """The key that a passphrase stands for. Salt and parameters are kept beside the packs."""
        n, r, p = params
        return cls(Scrypt(salt=salt, length=_BYTES, n=n, r=r, p=p).derive(text.encode()))

    @classmethod
    def parse(cls, text: str) -> Keys:
        """Out of what ``export`` wrote. WrongKey names a typing error as such."""
        word = text.strip()
        try:
            if not word.startswith(_PREFIX):
                raise ValueError(f"it does not begin with {_PREFIX}")
            data = base64.b32decode(word.removeprefix(_PREFIX).replace("-", "").upper())
        except ValueError as error:
            raise WrongKey("this is no key of relit", why=str(error), fix=_FIX) from error
        master, sum = data[:_BYTES], data[_BYTES:]
        if len(data) != _BYTES + _SUM or blake3(master).digest(length=_SUM) != sum:
            raise WrongKey("the key has a typing error", why="its check sum does not match", fix=_FIX)
        return cls(master)

    def export(self) -> str:
        """The key as text, with a check sum that finds typing errors."""
        data = self._master + blake3(self._master).digest(length=_SUM)
        return _PREFIX + base64.b32encode(data).decode().lower()

    @property
    def id(self) -> str:
        """What tells keys apart and tells nothing about them."""
        return self.id_of(b"relit key id 1").hex()

    def id_of(self, data: bytes | memoryview) -> bytes:
        """A chunk's id: keyed BLAKE3 of its content, the first 16 bytes."""
        return blake3(data, key=self._chunks).digest(length=ID_BYTES)

    def check_of(self, pack: bytes) -> bytes:
        """What a pack's header says, so that another key is told as such."""
        return blake3(pack, key=self._check).digest(length=ID_BYTES)

    def vault(self) -> bytes:
        """What the key of the vault of secrets is made of."""
        return self._derived(b"relit vault 1", b"")

    def cipher(self, pack: bytes) -> AESGCM:
        """The cipher of one pack."""
        return AESGCM(self._derived(b"relit pack 1", pack))

    def _derived(self, info: bytes, salt: bytes) -> bytes:
        return HKDF(algorithm=SHA256(), length=_BYTES, salt=salt, info=info).derive(self._master)


_FIX = "relit key import FILE, with what relit key export wrote"
_EVERYBODY = Keys(bytes(_BYTES))


def plain_id(content: bytes | memoryview) -> bytes:
    """A chunk's id where nothing is encrypted: of a key that everybody knows."""
    return _EVERYBODY.id_of(content)


def ids_of(keys: Keys | None) -> Callable[[bytes | memoryview], bytes]:
    """The id function of a store that has these keys, or none."""
    return plain_id if keys is None else keys.id_of
