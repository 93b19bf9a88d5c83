"""Which licence a text is, and what a careful reader would remark. Pure: texts in, a verdict out.

The demo's scripted model answers by these rules, and the demo compares every stored verdict with them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["permissive", "copyleft", "unknown"]


class Licence(msgspec.Struct, frozen=True):
    """A licence by its SPDX name."""

    name: str
    kind: Kind


class Finding(msgspec.Struct, frozen=True):
    """Something about a distribution that a person should look at."""

    code: str
    text: str


class Verdict(msgspec.Struct, frozen=True):
    """What an audit of one distribution concluded."""

    distribution: str
    licence: str
    kind: Kind
    findings: list[Finding] = []


UNKNOWN = Licence("unknown", "unknown")

# A phrase that only this licence's text has, close to its beginning. Licences quote one another further down, so the
# phrase that stands first decides.
_PHRASES: tuple[tuple[str, Licence], ...] = (
    ("gnu affero general public license", Licence("AGPL-3.0-or-later", "copyleft")),
    ("gnu lesser general public license", Licence("LGPL-3.0-or-later", "copyleft")),
    ("gnu general public license", Licence("GPL-3.0-or-later", "copyleft")),
    ("mozilla public license", Licence("MPL-2.0", "copyleft")),
    ("apache license", Licence("Apache-2.0", "permissive")),
    ("python software foundation license", Licence("PSF-2.0", "permissive")),
    ("permission is hereby granted, free of charge", Licence("MIT", "permissive")),
    ("permission to use, copy, modify, and/or distribute", Licence("ISC", "permissive")),
    ("permission to use, copy, modify, and distribute", Licence("HPND", "permissive")),
    ("redistribution and use in source and binary forms", Licence("BSD-2-Clause", "permissive")),
    ("this is free and unencumbered software", Licence("Unlicense", "permissive")),
    ("provided 'as-is', without any express or implied warranty", Licence("Zlib", "permissive")),
)


def classify(text: str) -> Licence:
    """The licence whose own words stand first in ``text``."""
    words = " ".join(text.lower().split())
    found = [(words.index(phrase), licence) for phrase, licence in _PHRASES if phrase in words]
    if not found:
        return UNKNOWN
    licence = min(found, key=lambda place: place[0])[1]
    if licence.name == "BSD-2-Clause" and ("neither the name" in words or "names of its contributors" in words):
        return Licence("BSD-3-Clause", "permissive")
    return licence


def judge(distribution: str, declared: str | None, texts: list[str]) -> Verdict:
    """The verdict on a distribution that declares the SPDX expression ``declared`` and ships ``texts``."""
    licences = [licence for licence in map(classify, texts) if licence is not UNKNOWN]
    strictest = next((licence for licence in licences if licence.kind == "copyleft"), None)
    licence = strictest or (licences[0] if licences else UNKNOWN)
    return Verdict(distribution, licence.name, licence.kind, _findings(declared, texts, licence))


def _findings(declared: str | None, texts: list[str], licence: Licence) -> list[Finding]:
    findings = []
    if not declared:
        findings.append(Finding("undeclared", "The metadata has no SPDX licence expression."))
    if not texts:
        findings.append(Finding("no-text", "The distribution ships no licence text."))
    elif licence is UNKNOWN:
        findings.append(Finding("unrecognised", "The licence text is none of the well-known ones."))
    if licence.kind == "copyleft":
        findings.append(Finding("copyleft", f"{licence.name} has conditions on redistribution: let a person read it."))
    return findings
