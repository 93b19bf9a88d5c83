"""An agent that takes more memory than it may is killed with all that it started, and comes back."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from node_house import Server, running, sh, spec

from relit.lib.footprint import Forest, look
from relit.node.client import KeeperClient
from relit.pressure.footprint import MB

EATS = "kept = bytearray(200 << 20); kept[::4096] = b'x' * len(kept[::4096]); import time; time.sleep(600)"


async def test_it_is_killed_with_its_children_and_started_again(
    keeper: KeeperClient, run_dir: Path, server: Server, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    script = f'[ -e {once} ] && exec sleep 600; touch {once}; {sys.executable} -c "{EATS}" & echo $! > {once}; wait'
    hog = sh("hog", script, memory=100 * MB)
    small = spec("small", ["sleep", "600"], memory=100 * MB)
    async with running(keeper, run_dir, server, [hog, small]) as node:
        await server.until(lambda: len(server.named("instance.started", "hog")) == 2)
        [first, *_] = server.named("instance.restarting", "hog")
        assert first["reason"] == "it took more memory than it may"
        child = int(once.read_text())
        async with asyncio.timeout(5):
            while Forest(look()).alone(child):
                await asyncio.sleep(0.02)
        assert len(server.named("instance.started", "small")) == 1
        assert {each.name: each.memory for each in node.status()} == {"hog": 100 * MB, "small": 100 * MB}
