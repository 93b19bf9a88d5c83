"""Signatures of webhooks: made and checked, pure.

Two schemes. *Standard Webhooks*: ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature`` (``v1``, HMAC-SHA256).
*HMAC*: a header of the sender's choice over the body, with or without a timestamp; see ``GITHUB``, ``STRIPE`` and
``SLACK`` for how the well-known ones are written.

A secret ``whsec_…`` is base64, any other is taken as it stands. Several, separated by spaces, are all valid: that is
how one is changed without losing a post.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Literal

import msgspec

from relit.errors import ConfigError, Unauthorized

TOLERANCE_S = 300

Algorithm = Literal["sha256", "sha1", "sha512"]
Encoding = Literal["hex", "base64"]


class Verified(msgspec.Struct, frozen=True):
    """A post that its sender signed. ``id`` names the delivery: the same id again is the same post."""

    id: str | None = None
    timestamp: int | None = None  # seconds since 1970


class Hmac(msgspec.Struct, frozen=True, kw_only=True):
    """An HMAC scheme.

    The timestamp, if there is one, stands in a header of its own (``timestamp_header``) or in the signature's header
    under ``timestamp_key``. ``signed`` says what the signature covers, with ``{timestamp}`` and ``{body}``.
    """

    header: str = "X-Signature-256"
    algorithm: Algorithm = "sha256"
    prefix: str = "sha256="
    encoding: Encoding = "hex"
    id_header: str | None = None
    timestamp_header: str | None = None
    timestamp_key: str | None = None
    signed: str = "{body}"

    @property
    def timed(self) -> bool:
        """Whether posts grow old."""
        return self.timestamp_header is not None or self.timestamp_key is not None


GITHUB = Hmac(header="X-Hub-Signature-256", id_header="X-GitHub-Delivery")
STRIPE = Hmac(header="Stripe-Signature", prefix="v1=", timestamp_key="t", signed="{timestamp}.{body}")
SLACK = Hmac(
    header="X-Slack-Signature",
    prefix="v0=",
    timestamp_header="X-Slack-Request-Timestamp",
    signed="v0:{timestamp}:{body}",
)


# ------------------------------------------------------------------------------------------------- Standard Webhooks


def sign(secret: str, id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers for a post: one signature for each secret. Raises ``ConfigError`` for an unusable secret."""
    content = _standard_content(id, timestamp, body)
    signatures = [base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys(secret)]
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def verify(
    secret: str, headers: Mapping[str, str], body: bytes, now_s: float, tolerance_s: int = TOLERANCE_S
) -> Verified:
    """Check a post by Standard Webhooks. Raises ``Unauthorized``."""
    known = _lowered(headers)
    id, given = _header(known, "webhook-id"), _header(known, "webhook-signature")
    timestamp = _fresh(_header(known, "webhook-timestamp"), now_s, tolerance_s)
    content = _standard_content(id, timestamp, body)
    signatures = [text for version, _, text in (part.partition(",") for part in given.split()) if version == "v1"]
    _match(keys(secret), content, "sha256", [_unbase64(text) for text in signatures])
    return Verified(id, timestamp)


def _standard_content(id: str, timestamp: int, body: bytes) -> bytes:
    return f"{id}.{timestamp}.".encode() + body


# ------------------------------------------------------------------------------------------------- HMAC


def check_hmac(scheme: Hmac) -> None:
    """Raises ``ConfigError`` for a scheme that would not protect what it seems to."""
    if scheme.timestamp_header is not None and scheme.timestamp_key is not None:
        raise _bad_scheme("the timestamp is in a header of its own or in the signature's, not in both")
    if "{body}" not in scheme.signed:
        raise _bad_scheme("signed does not cover {body}")
    if scheme.timed != ("{timestamp}" in scheme.signed):
        raise _bad_scheme("a timestamp counts only when signed covers it, and needs a header or key to come from")


def sign_hmac(
    scheme: Hmac, secret: str, body: bytes, *, timestamp: int | None = None, id: str | None = None
) -> dict[str, str]:
    """The headers for a post."""
    content = _hmac_content(scheme, timestamp, body)
    signed = [scheme.prefix + _encoded(scheme, key, content) for key in keys(secret)]
    if scheme.timestamp_key is not None:
        signed.insert(0, f"{scheme.timestamp_key}={timestamp}")
    headers = {scheme.header: ",".join(signed)}
    if scheme.timestamp_header is not None:
        headers[scheme.timestamp_header] = str(timestamp)
    if scheme.id_header is not None and id is not None:
        headers[scheme.id_header] = id
    return headers


def verify_hmac(
    scheme: Hmac,
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    now_s: float,
    tolerance_s: int = TOLERANCE_S,
) -> Verified:
    """Check a post by an HMAC scheme. Raises ``Unauthorized``."""
    known = _lowered(headers)
    parts = [part.strip() for part in _header(known, scheme.header).split(",")]
    timestamp = _hmac_timestamp(scheme, known, parts, now_s, tolerance_s)
    given = [part.removeprefix(scheme.prefix) for part in parts if part.startswith(scheme.prefix)]
    decode = _unhex if scheme.encoding == "hex" else _unbase64
    content = _hmac_content(scheme, timestamp, body)
    _match(keys(secret), content, scheme.algorithm, [decode(text) for text in given])
    return Verified(known.get(scheme.id_header.lower()) if scheme.id_header else None, timestamp)


def _hmac_timestamp(
    scheme: Hmac, known: Mapping[str, str], parts: list[str], now_s: float, tolerance_s: int
) -> int | None:
    if scheme.timestamp_header is not None:
        return _fresh(_header(known, scheme.timestamp_header), now_s, tolerance_s)
    if scheme.timestamp_key is None:
        return None
    mark = f"{scheme.timestamp_key}="
    found = [part.removeprefix(mark) for part in parts if part.startswith(mark)]
    return _fresh(found[0] if found else "", now_s, tolerance_s)


def _hmac_content(scheme: Hmac, timestamp: int | None, body: bytes) -> bytes:
    before, _, after = scheme.signed.replace("{timestamp}", str(timestamp)).partition("{body}")
    return before.encode() + body + after.encode()


def _encoded(scheme: Hmac, key: bytes, content: bytes) -> str:
    digest = hmac.digest(key, content, scheme.algorithm)
    return digest.hex() if scheme.encoding == "hex" else base64.b64encode(digest).decode()


def _bad_scheme(why: str) -> ConfigError:
    return ConfigError("the webhook's signature scheme cannot be used", why=why, fix='use scheme = "standard"')


# ------------------------------------------------------------------------------------------------- both


def keys(secret: str) -> list[bytes]:
    """The keys in a secret. Raises ``ConfigError`` when there is none, or one that is not base64 as it claims."""
    found = [_key(part) for part in secret.split()]
    if not found or not all(found):
        raise ConfigError("the webhook has no secret", why="it is empty", fix="set one: 16 random bytes or more")
    return found


def _key(text: str) -> bytes:
    if not text.startswith("whsec_"):
        return text.encode()
    key = _unbase64(text.removeprefix("whsec_"))
    if key is None:
        raise ConfigError(
            "the webhook's secret cannot be read", why="after whsec_ it is not base64", fix="copy it again"
        )
    return key


def _match(keys: list[bytes], content: bytes, algorithm: Algorithm, given: list[bytes | None]) -> None:
    # Every pair is compared, whichever matches: the time taken says nothing about the secret.
    matches = 0
    for key in keys:
        expected = hmac.digest(key, content, algorithm)
        matches += sum(hmac.compare_digest(expected, each) for each in given if each is not None)
    if not matches:
        raise _refused("no signature matches", "check that both sides have the same secret and the body is untouched")


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _header(known: Mapping[str, str], name: str) -> str:
    found = known.get(name.lower())
    if not found:
        raise _refused(f"the header {name} is missing", "check which scheme the sender uses")
    return found


def _fresh(text: str, now_s: float, tolerance_s: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 13):
        raise _refused("the timestamp is not a number of seconds since 1970", "check which scheme the sender uses")
    if abs(now_s - int(text)) > tolerance_s:
        age = round(now_s - int(text))
        raise _refused(f"the timestamp is {age} s old, which is outside {tolerance_s} s", "check both sides' clocks")
    return int(text)


def _refused(why: str, fix: str) -> Unauthorized:
    return Unauthorized("the webhook's signature was not accepted", why=why, fix=fix)


def _unbase64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _unhex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None
