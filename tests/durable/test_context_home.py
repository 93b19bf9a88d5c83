from __future__ import annotations

from pathlib import Path

import pytest
from durable_house import House

import relit
from relit.errors import RunFailed


@relit.workflow(agent="clerk")
async def writes(ctx: relit.Context) -> str:
    (ctx.home / "notes").write_text("here")
    return ctx.home.name


async def test_a_run_finds_its_agents_home(house: House, tmp_path: Path) -> None:
    def home(agent: str) -> Path:
        folder = tmp_path / agent
        folder.mkdir(exist_ok=True)
        return folder

    house.engine.home = home
    await house.work(writes)
    assert await house.run(writes) == "clerk"
    assert (tmp_path / "clerk" / "notes").read_text() == "here"


async def test_an_engine_without_a_data_folder_says_so(house: House) -> None:
    await house.work(writes)
    with pytest.raises(RunFailed, match="clerk has no home"):
        await house.run(writes)
