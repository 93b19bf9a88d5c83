"""What is fed to a command of the strict shell, on the gateway's own loop: whatever the command does with it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop

from relit.app.strict import _feed, _output


def on_uvloop(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 1_000_000])
@pytest.mark.parametrize("command", ["true", "exec <&-; echo out"])
def test_a_command_that_does_not_read_is_no_trouble(content: bytes, command: str) -> None:
    async def run() -> None:
        for _ in range(30):
            child = await asyncio.create_subprocess_exec(
                "sh", "-c", command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            await child.wait()
            _, said = await asyncio.gather(_feed(child, content), _output(child))
            assert said == ("out\n" if "out" in command else "")

    on_uvloop(run())


def test_a_command_that_reads_gets_all(tmp_path: Any) -> None:
    async def run() -> None:
        child = await asyncio.create_subprocess_exec(
            "wc", "-c", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        _, said = await asyncio.gather(_feed(child, b"x" * 3_000_000), _output(child))
        await child.wait()
        assert said.strip() == "3000000"

    on_uvloop(run())
