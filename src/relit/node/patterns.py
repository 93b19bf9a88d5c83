"""What secrets look like that nobody told us of. Pure.

Each pattern begins with plain text, its anchor, which is searched for first: in most logs there is none, and nothing
more is done. What looks behind stands after the anchor, so that the search stays one for plain text. Nothing here may
go back over what it has read: logs are written by whoever can make an agent print something.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Pattern(NamedTuple):
    """A secret by its looks: the one group that took part, else all of the match. ``lower``: of any case."""

    kind: bytes
    anchor: bytes
    regexes: tuple[re.Pattern[bytes], ...]
    lower: bool = False


def _token(kind: bytes, anchor: bytes, rest: bytes) -> Pattern:
    """A token that begins with that, where no word goes on."""
    return Pattern(kind, anchor, (re.compile(rb"%b(?<![A-Za-z0-9]%b)%b" % (anchor, anchor, rest)),))


# After its name: an end of quotes (which may stand in quotes themselves), a sign, quotes, the value.
_SIGN = rb"""\\{0,2}["']?[ \t]{0,4}(?:=>|:=|[=:])[ \t]{0,4}"""


def _value(least: int) -> bytes:
    """In quotes, in quotes inside of quotes, or without any."""
    plain = rb"""((?=[^\s"',;&]{%d})(?:[^\s"',;&\\]++|\\(?!["'nrt]))++)""" % least
    return rb"""(?:"((?:[^"\\\n]++|\\[^\n])++)|'((?:[^'\\\n]++|\\[^\n])++)|\\"([^"\\\n]++)|%b)""" % plain


def _named(kind: bytes, anchor: bytes, rest: bytes = b"", least: int = 1) -> Pattern:
    """What is assigned to a name that ends so, or follows an option that is called so."""
    assigned = anchor + rest + _SIGN + _value(least)
    option = rb"%b(?<=--%b)%b[ \t]{1,4}%b" % (anchor, anchor, rest, _value(6))
    return Pattern(kind, anchor, (re.compile(assigned), re.compile(option)), lower=True)


_LOGIN = rb"authorization" + _SIGN + rb"""\\{0,2}["']?(?:[a-z-]{1,16}[ \t]{1,4})?([^\s"',;\\]{8,})"""
_BEARER = rb"""bearer[ \t]{1,4}((?=[^\s0-9]{0,64}[0-9])[a-z0-9._~+/=-]{8,}|[a-z0-9._~+/=-]{20,})"""
_JWT = rb"eyJ(?<![A-Za-z0-9_-]eyJ)[A-Za-z0-9_-]{6,}+\.[A-Za-z0-9_-]{4,}+(?:\.[A-Za-z0-9_-]*+)?"

PATTERNS: tuple[Pattern, ...] = (
    *(_token(b"api-key", each, rb"[A-Za-z0-9_-]{16,}") for each in (b"sk-", b"sk_", b"rk_", b"xai-")),
    *(_token(b"github-token", b"gh%b_" % each, rb"[A-Za-z0-9]{16,}") for each in (b"p", b"o", b"u", b"s", b"r")),
    _token(b"github-token", b"github_pat_", rb"[A-Za-z0-9_]{20,}"),
    _token(b"gitlab-token", b"glpat-", rb"[A-Za-z0-9_-]{16,}"),
    _token(b"slack-token", b"xox", rb"[a-z]-[A-Za-z0-9-]{8,}"),
    _token(b"slack-token", b"xapp-", rb"[A-Za-z0-9-]{16,}"),
    *(_token(b"aws-key", each, rb"[A-Z0-9]{16,}") for each in (b"AKIA", b"ASIA")),
    _token(b"google-key", b"AIza", rb"[A-Za-z0-9_-]{30,}"),
    *(_token(b"token", each, rb"[A-Za-z0-9]{30,}") for each in (b"hf_", b"npm_")),
    _token(b"token", b"relit_", rb"[A-Za-z0-9_-]{40,}"),
    _token(b"token", b"whsec_", rb"[A-Za-z0-9+/=]{20,}"),
    Pattern(b"telegram-token", b":AA", (re.compile(rb":AA(?<=[0-9]{8}:AA)[A-Za-z0-9_-]{30,}"),)),
    Pattern(b"jwt", b"eyJ", (re.compile(_JWT),)),
    Pattern(b"password", b"://", (re.compile(rb"""://[^\s/:@"']{0,64}:([^\s/@"']{1,256})@"""),)),
    Pattern(b"bearer", b"bearer", (re.compile(_BEARER),), lower=True),
    Pattern(b"authorization", b"authorization", (re.compile(_LOGIN),), lower=True),
    _named(b"password", b"passw", rb"(?:or)?d"),
    _named(b"password", b"passphrase"),
    _named(b"secret", b"secret", rb"(?:[_-][a-z]{1,16}){0,3}", 6),
    _named(b"token", b"token", least=8),
    _named(b"key", b"api", rb"[_-]?key", 6),
    _named(b"key", b"access", rb"[_-]?key", 6),
    _named(b"key", b"private", rb"[_-]?key", 6),
)

# A private key: from its first line, over lines of base64 and headers, to its last.
KEY_BEGINS = b"-----BEGIN "
KEY_BEGIN = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
KEY_END = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
KEY_LINE = re.compile(
    rb"[ \t]*+(?:[A-Za-z0-9+/]{32,}+={0,2}|(?=[A-Za-z]*+[0-9+/=])[A-Za-z0-9+/=]++"
    rb"|(?:Proc-Type|DEK-Info|Comment|Version|Hash|Charset):[^\n]*+)?[ \t]*+\r?\n?"
)
KEY_RUN = re.compile(rb"[A-Za-z0-9+/]{32,}={0,2}")
KEY_MOST = 64 << 10  # bytes after its beginning: one without an end must not swallow what comes later
