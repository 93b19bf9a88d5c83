"""Identifiers that sort by time, and the process's random source."""

from __future__ import annotations

import hashlib
import random
import secrets
import threading

from relit.lib.clock import SYSTEM_CLOCK, Clock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base32, lower case
_LENGTH = 26


def _encode(value: int) -> str:
    digits = []
    for _ in range(_LENGTH):
        digits.append(_ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(digits))


class IdSource:
    """Makes 26-character ids that sort by creation: 48 bits of milliseconds, 80 of chance (the ULID layout).

    Ids made by one source grow strictly, also within one millisecond.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            fresh = (self._clock.now_ms() << 80) | secrets.randbits(79)
            self._last = fresh if fresh > self._last else self._last + 1
            return _encode(self._last)


new_id = IdSource()


def derived_id(*parts: str, at: int | None = None) -> str:
    """The same 26-character id for the same parts: an id that a retry makes again. With ``at`` (ms) it sorts by it."""
    digest = hashlib.blake2b("\x00".join(parts).encode(), digest_size=16).digest()
    value = int.from_bytes(digest, "big")
    return _encode(value if at is None else (at << 80) | (value & ((1 << 80) - 1)))


def system_random() -> random.Random:
    """A random source seeded by the operating system."""
    return random.Random(secrets.randbits(128))
