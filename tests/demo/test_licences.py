"""The rules know the licences of what is installed here."""

from __future__ import annotations

from importlib import metadata

import pytest

from relit.demo import licences

APACHE = "Apache License\nVersion 2.0, January 2004"
MIT = "Permission is hereby granted, free of\ncharge, to any person"
BSD = "Redistribution and use in source and binary forms, with or without"
GPL = "GNU GENERAL PUBLIC LICENSE\nVersion 3 … use the GNU Lesser General Public License instead"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (APACHE, "Apache-2.0"),
        (MIT, "MIT"),
        (BSD, "BSD-2-Clause"),
        (BSD + " … Neither the name of", "BSD-3-Clause"),
        (GPL, "GPL-3.0-or-later"),
        ("Mozilla Public License Version 2.0 … the GNU General Public License", "MPL-2.0"),
        ("All rights reserved.", "unknown"),
    ],
)
def test_a_text_is_known_by_its_own_words(text: str, name: str) -> None:
    assert licences.classify(text).name == name


def test_the_strictest_of_several_licences_decides() -> None:
    assert licences.judge("x", "MIT AND MPL-2.0", [MIT, "Mozilla Public License"]).kind == "copyleft"


def test_a_clean_distribution_has_no_finding() -> None:
    assert licences.judge("x", "MIT", [MIT]).findings == []


@pytest.mark.parametrize(
    ("declared", "texts", "code"),
    [
        (None, [MIT], "undeclared"),
        ("MIT", [], "no-text"),
        ("X", ["words"], "unrecognised"),
        ("GPL-3.0", [GPL], "copyleft"),
    ],
)
def test_each_fault_is_found(declared: str | None, texts: list[str], code: str) -> None:
    assert [finding.code for finding in licences.judge("x", declared, texts).findings] == [code]


def test_real_licence_texts_are_recognised() -> None:
    texts = [
        path.locate().read_text(encoding="utf-8")  # type: ignore[attr-defined]
        for path in metadata.files("httpx") or []
        if "licenses" in path.parts
    ]
    assert licences.judge("httpx", None, texts).licence == "BSD-3-Clause"
