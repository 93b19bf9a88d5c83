"""An answer without secrets, however it is cut into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relit.node.redact import Redactor
from relit.turns.hiding import Hiding

SECRETS = ["s3cret-one", "s3cret-one-and-two", "gehéim-☂"]
REDACTOR = Redactor(SECRETS, looks=False)
words = st.sampled_from(
    [*SECRETS, "s3cret", "-one", "-and-", "gehé", "sk-abcdefghijklmnopqrstuvwx", " ", "☂", "\ud800"]
)


def shown(pieces: list[str]) -> list[str]:
    hiding = Hiding(REDACTOR)
    return [*(hiding.piece(each) for each in pieces), hiding.end()]


def test_a_secret_that_comes_in_pieces_is_not_shown() -> None:
    assert shown(["it is s3", "cret-o", "ne!"]) == ["it is ", "", "[redacted:secret]!", ""]


def test_what_only_begins_like_one_is_shown_in_the_end() -> None:
    assert "".join(shown(["a s3cret", "-o", "h"])) == "a s3cret-oh"
    assert "".join(shown(["a s3cret"])) == "a s3cret"


def test_what_only_looks_like_a_secret_was_asked_for() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----\n"
    assert "".join(shown([key])) == key


@given(st.lists(words, max_size=12), st.data())
def test_the_pieces_do_not_matter_and_no_secret_passes(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    found = "".join(shown(pieces))
    assert not any(each in found for each in SECRETS)
    if not any(each in text for each in SECRETS):
        assert found == text


@given(st.text(max_size=40), st.integers(1, 5))
def test_what_holds_no_secret_comes_as_it_was(text: str, size: int) -> None:
    assert "".join(shown([text[at : at + size] for at in range(0, len(text), size)])) == text
