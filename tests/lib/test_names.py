"""File names survive as text."""

from __future__ import annotations

import pytest
from hypothesis import example, strategies
from hypothesis import given as forall

from relit.lib.names import given, shown


@forall(strategies.binary())
@example(b"\\xff")
@example(b"\xff\\")
def test_names_come_back(name: bytes) -> None:
    text = shown(name)
    text.encode()  # no lone surrogates
    assert given(text) == name


def test_ordinary_names_stay_readable() -> None:
    assert shown("notes/Übersicht 1.md".encode()) == "notes/Übersicht 1.md"
    assert shown(b"caf\xe9") == r"caf\xe9"


@pytest.mark.parametrize("text", ["\\", "\\n", "a\\xF", "\\xFF"])
def test_a_lone_backslash_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="backslash"):
        given(text)
