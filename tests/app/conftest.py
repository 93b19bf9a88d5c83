"""One agent's data folder without a server. ``home`` is the test's own: what lies in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relit.api.volumes_local import LocalVolumes
from relit.app.volumes import open_local
from relit.node.client import KeeperClient, ensure_keeper
from relit.settings import Environment, Settings, load

AGENT = "clerk"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    config = tmp_path / "relit.toml"
    config.write_text("")
    (tmp_path / "data" / "agents" / AGENT / "home").mkdir(parents=True)
    (tmp_path / "data").chmod(0o700)
    return load(config, environment=Environment({"HOME": str(tmp_path), "RELIT_DATA": str(tmp_path / "data")}))


@pytest.fixture
async def keeper(run_dir: Path) -> AsyncIterator[KeeperClient]:
    client = await ensure_keeper(run_dir)
    yield client
    await client.stop()


@pytest.fixture
async def volumes(settings: Settings, home: Path) -> AsyncIterator[LocalVolumes]:
    async with open_local(settings) as local:
        await local.snapshot(AGENT)
        yield local
