from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node_house import Bell, Server

from relit.node.client import KeeperClient, ensure_keeper
from relit.node.down import down


@pytest.fixture
async def run_dir(tmp_path: Path) -> AsyncIterator[Path]:
    folder = tmp_path / "run"
    yield folder
    await down(folder)


@pytest.fixture(params=["groups", "walk"])
async def keeper(run_dir: Path, request: pytest.FixtureRequest) -> AsyncIterator[KeeperClient]:
    client = await ensure_keeper(run_dir, groups=request.param == "groups")
    yield client
    await client.stop()


@pytest.fixture
async def bell(tmp_path: Path) -> AsyncIterator[Bell]:
    made = Bell(tmp_path / "bell")
    yield made
    made.close()


@pytest.fixture
async def server() -> Server:
    return Server()
