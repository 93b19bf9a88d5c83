"""The original of a takeover: removed as it was copied, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relit.agents.kind import Adopt
from relit.app.agent_original import Original

ADOPT = Adopt(marks=["x.json"], into="state")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "owner" / ".toy"
    (made / "deep").mkdir(parents=True)
    (made / "x.json").write_text("{}")
    (made / "deep/mood").write_text("good")
    (made / "deep/link").symlink_to("mood")
    return made


def original(place: Path) -> Original:
    made = Original(place, place, ADOPT, {}, ())
    made.mark()
    return made


def test_it_is_removed_with_all_that_is_in_it(place: Path) -> None:
    assert original(place).remove(Path("/copy")) is None
    assert list(place.parent.iterdir()) == []


WRITES: dict[str, Callable[[Path], object]] = {
    "deep/mood was written to": lambda place: (place / "deep/mood").write_text("evil"),
    "deep/new is new": lambda place: (place / "deep/new").touch(),
    "deep/link is gone": lambda place: (place / "deep/link").unlink(),
    "x.json was written to": lambda place: (place / "x.json").chmod(0o600),
}


@pytest.mark.parametrize("told", WRITES)
def test_what_was_written_since_keeps_all_of_it(place: Path, told: str) -> None:
    made = original(place)
    WRITES[told](place)
    stays = made.remove(Path("/a copy"))
    assert stays is not None
    assert told in stays.why
    assert stays.fix.endswith(f"diff -r {place} '/a copy'; when nothing is missing there: rm -r {place}")
    assert (place / "x.json").exists()
    assert [each.name for each in place.parent.iterdir()] == [".toy"]


def test_one_that_cannot_be_removed_at_once_stays_whole(place: Path) -> None:
    (place.parent / ".toy.being-removed").mkdir()
    (place.parent / ".toy.being-removed/of-an-earlier-one").touch()
    stays = original(place).remove(Path("/copy"))
    assert stays is not None
    assert "not empty" in stays.why
    assert (place / "deep/mood").read_text() == "good"
