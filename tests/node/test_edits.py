"""A configuration that is edited while its agent lives: told at once, asked about once, and never taken for good."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relit.control.care import Care, ConfigFile
from relit.control.values import InstanceSpec
from relit.node import edits
from relit.node.edits import Edits


class Scene:
    """``says``: of its own check, by the file's text. ``asked``: the texts that it was shown."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "a.json"
        self.file.write_text("first")
        self.says: dict[str, str | None] = {}
        self.asked: list[str] = []
        self.notes: list[tuple[str, Any]] = []
        care = Care(agent="ada", kind="command", home=str(folder), config=[ConfigFile(path="a.json", format="json")])
        self.spec = InstanceSpec(name="ada", argv=["true"], care=care)

    busy = False

    async def check(self, care: Care) -> str:
        text = self.file.read_text()
        return "no rule allows it" if text == "ruin" else ""

    async def validate(self, spec: InstanceSpec, care: Care) -> str | None:
        self.asked.append(self.file.read_text())
        return self.says.get(self.asked[-1], "")

    def note(self, name: str, **data: Any) -> None:
        self.notes.append((name, data.get("why")))

    def edits(self, *, fresh: bool = True) -> Edits:
        return Edits(self.spec, self, self.note, fresh=fresh)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_what_it_has_started_with_is_good_and_nobody_is_asked(scene: Scene) -> None:
    ours = scene.edits()
    assert [await ours.look() for _ in range(3)] == ["", "", ""]
    assert await ours.good()
    assert scene.asked == []


async def test_a_life_that_was_found_alive_is_asked_about(scene: Scene) -> None:
    assert await scene.edits(fresh=False).good()
    assert scene.asked == ["first"]


async def test_an_edit_is_shown_to_its_own_check_when_it_is_over_and_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edits, "ASK_S", 0.0)
    ours = scene.edits()
    scene.file.write_text("second")
    assert await ours.look() == ""
    assert scene.asked == [], "it may still be written"
    assert [await ours.look() for _ in range(3)] == ["", "", ""]
    assert await ours.good()
    assert scene.asked == ["second"]


async def test_an_edit_that_its_own_check_does_not_take_is_told_and_never_good(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edits, "ASK_S", 0.0)
    ours = scene.edits()
    scene.file.write_text("unknown key")
    scene.says["unknown key"] = "gatway is not known"
    await ours.look()
    assert await ours.look() == "gatway is not known"
    assert not await ours.good()
    assert await ours.look() == "gatway is not known"
    scene.file.write_text("mended")
    assert await ours.look() == ""
    assert await ours.good()
    assert scene.notes == [("config.broken", "gatway is not known"), ("config.mended", None)]


async def test_a_ruin_is_told_by_the_rules_and_its_own_check_is_not_asked(scene: Scene) -> None:
    ours = scene.edits()
    scene.file.write_text("ruin")
    assert await ours.look() == "no rule allows it"
    assert not await ours.good()
    assert scene.asked == []
    assert scene.notes == [("config.broken", "no rule allows it")]


async def test_a_check_that_says_nothing_proves_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits, "ASK_S", 0.0)
    ours = scene.edits()
    scene.file.write_text("slow")
    scene.says["slow"] = None
    await ours.look()
    assert await ours.look() == ""
    assert not await ours.good()
    assert scene.notes == []


@pytest.mark.parametrize("fresh", [True, False])
async def test_its_own_check_is_not_asked_more_often_than_once_a_minute(
    scene: Scene, fresh: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor in the first minute of a life, or of its node: amid starts everybody has other things to do."""
    now = 1000.0
    monkeypatch.setattr(Edits, "_time", lambda ours: now)
    ours = scene.edits(fresh=fresh)
    for after, text, asked in ((0, "one", []), (59, "one", []), (1, "two", ["two"]), (59, "three", ["two"])):
        now += after
        scene.file.write_text(text)
        await ours.look()
        await ours.look()
        assert scene.asked == asked
    assert await ours.good(), "but before a home is taken for good"
    assert scene.asked == ["two", "three"]


async def test_while_others_are_asked_it_waits_and_the_rules_do_not(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edits, "ASK_S", 0.0)
    monkeypatch.setattr(edits, "LOOK_S", 0.01)
    scene.busy = True
    ours = scene.edits()
    assert await ours.good(), "it is what it has started with"
    scene.file.write_text("second")
    await ours.look()
    await ours.look()
    asking = asyncio.ensure_future(ours.good())
    scene.file.write_text("ruin")
    assert await ours.look() == "no rule allows it"
    scene.file.write_text("third")
    assert not asking.done()
    assert scene.asked == []
    scene.busy = False
    assert await asking
    assert scene.asked == ["third"]


async def test_what_is_told_of_a_ruin_holds_no_secret(scene: Scene) -> None:
    scene.spec = msgspec.structs.replace(scene.spec, secrets=["s3cret-s3cret"])
    ours = scene.edits()
    scene.file.write_text("key: s3cret-s3cret")
    scene.says["key: s3cret-s3cret"] = "line 1: key: s3cret-s3cret"
    assert not await ours.good()
    assert scene.notes == [("config.broken", "line 1: key: [redacted:secret]")]


async def test_an_edit_while_it_is_asked_is_not_good(scene: Scene) -> None:
    ours = scene.edits()
    scene.file.write_text("second")
    validate = scene.validate

    async def meanwhile(spec: InstanceSpec, care: Care) -> str | None:
        said = await validate(spec, care)
        scene.file.write_text("and a third one")
        return said

    scene.validate = meanwhile  # type: ignore[method-assign]
    assert not await ours.good()


async def test_what_has_no_configuration_is_good(scene: Scene) -> None:
    scene.spec = InstanceSpec(name="ada", argv=["true"])
    for fresh in (True, False):
        assert await asyncio.wait_for(scene.edits(fresh=fresh).good(), 1)
