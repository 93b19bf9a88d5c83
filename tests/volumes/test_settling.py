"""What a start brings to an end: one home's trouble is not another's."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest
from kit import AGENT, Kit, running

from relit.errors import VolumeError
from relit.manifest import Delta


def half_restored(kit: Kit, agent: str) -> Path:
    """A restore whose journal cannot be read."""
    folder = kit.base / "agents" / agent / "work" / "rejected" / "1.new"
    folder.mkdir(parents=True)
    (folder / "journal").write_bytes(b"\xc1 no journal")
    return folder


async def test_a_home_that_cannot_be_settled_waits_while_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kit = Kit(tmp_path)
    for agent in (AGENT, "bob"):
        kit.home(agent).mkdir(parents=True)
    folder = half_restored(kit, AGENT)
    async with running(kit):
        assert "neither finished nor undone" in kit.homes.trouble[AGENT]
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert (await kit.take("bob")).number == 1
        with pytest.raises(VolumeError, match="journal is not readable"):
            await kit.take()
        (folder / "journal").unlink()
        await kit.homes.recover()
        assert (await kit.take()).number == 1
        assert not folder.exists()


async def test_what_was_staged_for_a_snapshot_that_never_came_is_taken_back(tmp_path: Path) -> None:
    async with running(Kit(tmp_path)) as kit:
        kit.home().mkdir(parents=True)
        (kit.home() / "a").write_text("one")
        await kit.take()
        volume = await kit.volume()
        entries = await kit.catalog.tree(volume.id, 1)
        needed = {id async for id in kit.catalog.references()}
        other = [msgspec.structs.replace(each, parts=b"x" * 16) for each in entries if each.kind == "file"]
        await kit.catalog.stage(volume.id, 2, Delta(entries=other))
        assert {id async for id in kit.catalog.references()} != needed
    async with running(Kit(tmp_path)) as kit:
        assert {id async for id in kit.catalog.references()} == needed
        assert await kit.catalog.tree(volume.id, 1) == entries
