"""How a secret is sealed: envelope encryption with AES-256-GCM.

Each version of each secret has a data key of its own. The value is sealed with the data key, and the data key with the
master key. Both are bound to the secret's name and version by associated data: a row that is moved under another name
or version does not open. (A whole older row that is put back does: whoever can write rows can undo a change.) A nonce
is random and used once, with a key that seals once (the data key) or 2^32 times at most (the master key: NIST SP
800-38D, 8.3).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from relit.errors import SecretDamaged
from relit.store.values import Lock, Secret

KEY, NONCE = 32, 12  # bytes
COST = (2**15, 8, 1)  # scrypt's n, r, p: some 100 ms and 32 MiB
_ID = 16


@dataclass(frozen=True)
class Master:
    """A master key. ``lock``: what is kept of it beside the secrets, which does not tell it."""

    lock: Lock
    key: bytes = field(repr=False)


def from_key(key: bytes) -> Master:
    """Of 32 bytes that somebody else keeps."""
    return Master(Lock(key=_id(key)), _derived(key, b"relit vault 1"))


def from_passphrase(text: str, lock: Lock | None = None) -> Master:
    """Of a passphrase, with the salt of ``lock``; else with a new one."""
    salt = secrets.token_bytes(_ID) if lock is None else lock.salt
    cost = " ".join(map(str, COST)) if lock is None else lock.cost
    n, r, p = map(int, cost.split())
    key = Scrypt(salt=salt, length=KEY, n=n, r=r, p=p).derive(text.encode())
    made = Lock(key=_id(key), kind="passphrase", salt=salt, cost=cost)
    return Master(made, _derived(key, b"relit vault 1"))


def seal(master: Master, name: str, version: int, value: str) -> Secret:
    """A secret, sealed with a new data key."""
    data = secrets.token_bytes(KEY)
    return Secret(
        name=name,
        version=version,
        wrapped=_seal(master.key, data, _bound("key", name, version)),
        sealed=_seal(data, value.encode("utf-8", "surrogateescape"), _bound("value", name, version)),
    )


def open(master: Master, secret: Secret) -> str:
    """Its value. SecretDamaged: it is not as it was sealed."""
    try:
        data = _open(master.key, secret.wrapped, _bound("key", secret.name, secret.version))
        value = _open(data, secret.sealed, _bound("value", secret.name, secret.version))
    except (InvalidTag, ValueError) as error:
        raise SecretDamaged(
            f"the secret {secret.name} does not open", why="its row is not as it was sealed",
            fix=f"relit secret set {secret.name}",
        ) from error  # fmt: skip
    return value.decode("utf-8", "surrogateescape")


def _seal(key: bytes, text: bytes, bound: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, text, bound)


def _open(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], bound)


def _bound(what: str, name: str, version: int) -> bytes:
    return f"relit secret {what} 1\0{name}\0{version}".encode("utf-8", "surrogateescape")


def _derived(key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY, salt=b"", info=info).derive(key)


def _id(key: bytes) -> str:
    return _derived(key, b"relit vault id 1")[:_ID].hex()
