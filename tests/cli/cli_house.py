"""A whole relit in a temporary folder, and the command line in this process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from relit.cli.main import cli

MODULE = '''
import relit


@relit.agent(name="clerk")
async def clerk(ctx: relit.Context, message: object) -> str:
    """Writes things in capitals."""
    if message == "bad":
        raise ValueError("cannot do that")

    def upper(text: str) -> str:
        return text.upper()

    return await ctx.step(upper, str(message))


@relit.workflow(agent="clerk")
async def count(ctx: relit.Context, to: int = 3, pause: str = "10ms") -> int:
    """Counts with pauses."""

    def one(number: int) -> int:
        return number

    total = 0
    for number in range(to):
        total += await ctx.step(one, number, name=f"one{number}")
        ctx.emit({"at": number})
        await ctx.sleep(pause)
    return total


@relit.workflow(agent="clerk")
async def approve(ctx: relit.Context) -> object:
    """Waits for a person."""
    return await ctx.signal("ok", timeout="1h")


@relit.workflow(agent="clerk")
async def pay(ctx: relit.Context) -> object:
    """An effect that nobody knows the end of."""

    def send(amount: int) -> str:
        raise ConnectionError("the line broke")

    return await ctx.effect(send, 5, doubt="ask", timeout="1s")
'''


def until(true: Callable[[], Any], what: str = "it came", within: float = 90) -> None:
    """Wait for something that only files and processes tell."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class House:
    """A data folder, a module, and ways to call relit on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.module = folder / "clerks.py"
        self.module.write_text(MODULE)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RELIT_") and key != "CI"}
        self.environment = kept | {
            "RELIT_DATA": str(self.data),
            "RELIT_SERVER__LISTEN": f"127.0.0.1:{free_port()}",
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }

    def run(self, *words: str, text: str | None = None) -> Result:
        """``relit`` in this process."""
        return CliRunner(env=self._whole()).invoke(cli, list(words), input=text)

    def _whole(self) -> dict[str, str | None]:
        gone: dict[str, str | None] = {key: None for key in os.environ if key not in self.environment}
        return gone | self.environment

    def json(self, *words: str) -> Any:
        """The JSON answer of a command that must succeed or report trouble."""
        result = self.run("--json", *words)
        assert result.exit_code in (0, 3), result.output
        return json.loads(result.stdout)

    def spawn(self, *words: str, timeout: float = 50) -> subprocess.CompletedProcess[str]:
        """``relit`` in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "relit.cli", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def up(self) -> None:
        """Start it all."""
        done = self.spawn("up", "clerks")
        assert done.returncode == 0, done.stderr

    def down(self) -> None:
        """Stop it all."""
        done = self.spawn("down")
        assert done.returncode == 0, done.stderr
