"""What real agents asked, recorded without its words (``tests/real/record_bodies.py``): what matches, and what not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relit.agents.recipes import kind_table
from relit.gateway.matching import Match, masks, match_of

BODIES = Path(__file__).parent / "bodies"
both = pytest.mark.parametrize("kind", ["hermes", "openclaw"])


def matches(kind: str, scene: str, *, masked: bool = True) -> list[Match]:
    """Of the calls in one scene, in order."""
    scenes: dict[str, list[dict[str, Any]]] = json.loads((BODIES / f"{kind}.json").read_text())
    hidden = masks(kind_table(kind).get("masks", [])) if masked else []
    found = [match_of("/chat/completions", json.dumps(each["body"]).encode(), hidden) for each in scenes[scene]]
    return [each for each in found if each is not None]


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("openclaw", "## Temporal Context\nCurrent date: 2026-11-{}\nTime zone: UTC"),
        ("hermes", "You are helpful.\n\nConversation started: Friday, November {}, 2026\nModel: m"),
    ],
)
def test_after_midnight_it_asks_the_same(kind: str, line: str) -> None:
    hidden = masks(kind_table(kind)["masks"])

    def asked(text: str) -> Match | None:
        messages = [{"role": "system", "content": text}, {"role": "user", "content": "hello"}]
        return match_of("/chat/completions", json.dumps({"model": "m", "messages": messages}).encode(), hidden)

    assert asked(line.format(27)) == asked(line.format(28)) != asked(line.format(27) + ".")


@both
def test_another_life_on_the_same_home_asks_the_same(kind: str) -> None:
    first = matches(kind, "first")
    assert len(first) == 2
    assert matches(kind, "again") == first


def test_without_its_masks_openclaw_never_asks_the_same() -> None:
    first, again = (matches("openclaw", scene, masked=False) for scene in ("first", "again"))
    assert {each.key for each in first}.isdisjoint(each.key for each in again)


def test_hermes_asks_the_same_again_after_a_provider_failed() -> None:
    first, failing = matches("hermes", "first"), matches("hermes", "failing")
    assert [each.key for each in failing] == [first[0].key] * 7 + [first[1].key]


def test_openclaw_asks_the_same_again_until_its_message_comes_again_with_a_mark() -> None:
    first, failing = matches("openclaw", "first"), matches("openclaw", "failing")
    assert [each.key for each in failing[:3]] == [first[0].key] * 3
    assert {each.key for each in failing[3:]}.isdisjoint(each.key for each in first)
    assert len({each.lane for each in failing}) == 2


@both
def test_what_comes_after_a_death_with_continue_is_another_question(kind: str) -> None:
    first, cut = matches(kind, "first"), matches(kind, "interrupted")
    assert cut[:2] == first
    assert {each.key for each in cut[2:]}.isdisjoint(each.key for each in first)
    assert len({each.lane for each in cut}) == 1, "of the same conversation"


@both
def test_after_a_conversation_was_summed_up_another_life_asks_the_same(kind: str) -> None:
    first, summed = matches(kind, "first"), matches(kind, "compacted")
    assert len(summed) == 2
    assert matches(kind, "compacted-again") == summed
    assert {each.lane for each in summed}.isdisjoint(each.lane for each in first), "it begins with other words"
    assert len({each.lane for each in summed}) == 1


@both
def test_no_sentences_of_its_makers_are_kept(kind: str) -> None:
    text = (BODIES / f"{kind}.json").read_text()
    assert "You are" not in text
    assert "lighthouse" not in text
