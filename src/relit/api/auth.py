"""Who may call: bearer tokens, of which only the SHA-256 is kept."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Literal, get_args

from relit.errors import ConfigError, Forbidden, Unauthorized
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.store.base import Store
from relit.store.values import Token

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)  # each includes those before it
PREFIX = "relit_"
FILE = "token"


def new_secret() -> str:
    """A fresh token: 256 bits of chance behind a prefix that scanners of leaked secrets can look for."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is kept of a token. It has 256 bits of chance, so a plain hash cannot be guessed back."""
    return hashlib.sha256(secret.encode()).hexdigest()


def match(secret: str, tokens: list[Token]) -> Token | None:
    """The token whose secret this is. Takes the same time wherever (and whether) it matches."""
    wanted = digest(secret)
    found: Token | None = None
    for token in tokens:
        if hmac.compare_digest(token.hash, wanted):
            found = token
    return found


def permits(scopes: list[str], needed: Scope) -> bool:
    """Whether a token with ``scopes`` may do what needs ``needed``."""
    return any(scope in scopes for scope in SCOPES[SCOPES.index(needed) :])


class Guard:
    """Checks requests against the store's tokens, kept for ``ttl`` seconds."""

    def __init__(self, store: Store, ttl: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self._store = store
        self._ttl = ttl
        self._clock = clock
        self._tokens: list[Token] = []
        self._read_at: float | None = None

    def forget(self) -> None:
        """Read the tokens again at the next request: they have changed."""
        self._read_at = None

    async def admit(self, header: str, needed: Scope) -> Token:
        """The token of an Authorization header. Raises ``Unauthorized``, or ``Forbidden`` for want of a scope."""
        kind, _, secret = header.partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise Unauthorized(
                "this request needs a token",
                why="it has no Authorization: Bearer header",
                fix="on the server's machine the CLI finds it by itself; elsewhere set RELIT_TOKEN",
            )
        token = await self._find(secret.strip())
        if not permits(token.scopes, needed):
            raise Forbidden(
                f"the token {token.name!r} may not do this",
                why=f"it has {', '.join(token.scopes) or 'no scope'}; this needs {needed}",
                fix=f"relit token new NAME --scope {needed}",
            )
        return token

    async def _find(self, secret: str) -> Token:
        fresh = self._read_at is not None and self._clock.monotonic() - self._read_at < self._ttl
        if fresh and (token := match(secret, self._tokens)) is not None:
            return token
        read_at = self._clock.monotonic()  # before the read: what changes meanwhile is not taken for fresh
        self._tokens = await self._store.tokens()
        self._read_at = read_at
        if (token := match(secret, self._tokens)) is None:
            raise Unauthorized(
                "the token is not known here",
                why="it was removed, or belongs to another server",
                fix="relit token new NAME, on the server's machine",
            )
        return token


async def ensure_token(store: Store, folder: Path, clock: Clock = SYSTEM_CLOCK) -> str:
    """This machine's own token, from ``folder/token`` (0600); made when it is not there, known to the store after.

    Servers that share a database each have one of their own.
    """
    secret = _read_or_make(folder / FILE)
    hash = digest(secret)
    if all(token.hash != hash for token in await store.tokens()):
        name = f"local-{hash[:8]}"
        await store.put_token(Token(name=name, hash=hash, scopes=["admin"], created_at=clock.now_ms()))
    return secret


def _read_or_make(path: Path) -> str:
    try:
        return read_token(path) if path.exists() else _make(path)
    except OSError as error:
        raise ConfigError(
            f"cannot read or make the token file {path}",
            why=error.strerror or str(error),
            fix=f"make {path.parent} a folder that you own and may write to, or choose another one with --data",
        ) from error


def read_token(path: Path) -> str:
    """The token in a file. Raises ``ConfigError`` when others may read it or it holds none."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(
            f"the token file {path} can be read by others",
            why="whoever reads it rules this server",
            fix=f"chmod 600 {path}; if others have been on this machine, delete the file to get a new token",
        )
    secret = path.read_text().strip()
    if not secret:
        raise ConfigError(f"the token file {path} is empty", fix=f"rm {path}, then start the server again")
    return secret


def _make(path: Path) -> str:
    """Write a new token so that a crash leaves a whole file or none, and two starters agree on one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret = new_secret()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:  # another process was faster: its token is the one
        return read_token(path)
    finally:
        draft.unlink()
    return secret
