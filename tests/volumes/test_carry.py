"""Going back to a moment leaves as it is now what would be lost by going back."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from kit import AGENT, Kit, running

from relit.volumes.mount import Mount


class Carrying(Kit):
    """Its agent's kind carries a file and a folder over."""

    def mount(self, agent: str) -> Mount:
        return msgspec.structs.replace(super().mount(agent), carry_over=(b"auth.json", b"deep/credentials"))


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Carrying]:
    async with running(Carrying(tmp_path)) as made:
        made.home().mkdir(parents=True)
        (made.home() / "auth.json").write_text("token 1")
        (made.home() / "notes").write_text("then")
        await made.take()
        (made.home() / "auth.json").write_text("token 2")
        (made.home() / "notes").write_text("now")
        (made.home() / "deep" / "credentials").mkdir(parents=True)
        (made.home() / "deep" / "credentials" / "session").write_text("live")
        (made.home() / "deep" / "other").write_text("since")
        yield made


async def test_the_whole_home_goes_back_and_tokens_stay(kit: Carrying) -> None:
    told = await kit.homes.preview(AGENT, 1)
    going = await kit.homes.restore(AGENT, 1)
    assert told.removed == going.removed == [b"deep/other"]
    assert (kit.home() / "auth.json").read_text() == "token 2"
    assert (kit.home() / "notes").read_text() == "then"
    assert (kit.home() / "deep" / "credentials" / "session").read_text() == "live"
    assert not (kit.home() / "deep" / "other").exists()


async def test_a_token_goes_back_when_it_is_named(kit: Carrying) -> None:
    await kit.homes.restore(AGENT, 1, [b"auth.json"])
    assert (kit.home() / "auth.json").read_text() == "token 1"


async def test_a_home_that_is_gone_comes_back_with_the_tokens_of_then(kit: Carrying) -> None:
    shutil.rmtree(kit.home())
    await kit.homes.restore(AGENT, 1)
    assert (kit.home() / "auth.json").read_text() == "token 1"


async def test_a_file_where_the_folder_of_a_token_is_now_is_left_out(kit: Carrying) -> None:
    taken = await kit.take()
    shutil.rmtree(kit.home() / "deep")
    (kit.home() / "deep").write_text("a file")
    flat = await kit.take()
    await kit.homes.restore(AGENT, taken.number)
    await kit.homes.restore(AGENT, flat.number)
    assert (kit.home() / "auth.json").read_text() == "token 2"
