from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
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


@pytest.fixture
def swap(tmp_path: Path) -> Iterator[None]:
    """A swap file of this machine, for as long as a test lasts. Root."""
    place = tmp_path / "swap"
    if os.geteuid() != 0 or shutil.which("mkswap") is None:
        pytest.skip("a swap file needs root and mkswap")
    with place.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 256 << 20)
    place.chmod(0o600)
    subprocess.run(["mkswap", place], check=True, capture_output=True)
    if subprocess.run(["swapon", place], capture_output=True).returncode:
        pytest.skip("no swap can be switched on here")
    yield
    subprocess.run(["swapoff", place], check=True)
