"""The steps of one installation: tools that run one after the other, and how far it is."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from relit.agents.recipes import Recipe
from relit.agents.runtime_failures import tool_failed, tool_late
from relit.lib.clock import Clock
from relit.lib.durations import human
from relit.lib.proc import MARK, kill_marked
from relit.lib.service import finished

LIMIT_S = 900.0  # of one tool
_KEPT = 200  # last lines of a tool
_LONGEST = 1000  # characters of a line
_END_OF_LINE = re.compile(rb"[\r\n]+")
# Where the user's own commands install to, or whom they load: never meant for a runtime.
_FOREIGN = {
    "NODE_OPTIONS",
    "NODE_PATH",
    "PIP_PREFIX",
    "PIP_PYTHON",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_ROOT",
    "PIP_TARGET",
    "PIP_USER",
    "PYTHONHOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
}
Phase = Literal["wait", "node", "python", "packages", "check", "record"]


class Progress(msgspec.Struct, frozen=True):
    """How far an installation is. ``elapsed_ms`` since it began; ``line`` is the last that the phase's tool printed."""

    kind: str
    version: str
    phase: Phase
    text: str
    elapsed_ms: int
    line: str = ""


class Steps:
    """Runs the tools that make a runtime in ``place``, and tells about it."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        env: Mapping[str, str],
        say: Callable[[Progress], None],
        clock: Clock,
        limit_s: float = LIMIT_S,
    ) -> None:
        self.recipe = recipe
        self.env = {name: value for name, value in env.items() if name not in _FOREIGN}
        self._say = say
        self.clock = clock
        self._limit_s = limit_s
        self._began = clock.monotonic()
        self._phase: Phase = "wait"
        self._text = ""

    def begin(self, phase: Phase, text: str) -> None:
        """The next phase begins."""
        self._phase, self._text = phase, text
        self._tell("")

    def _tell(self, line: str) -> None:
        elapsed = round((self.clock.monotonic() - self._began) * 1000)
        self._say(Progress(self.recipe.kind, self.recipe.version, self._phase, self._text, elapsed, line))

    async def run(
        self, tool: str, argv: Sequence[str], place: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> list[str]:
        """Run a tool in ``place`` (or ``cwd``), with the user's environment (or ``env``), to its end; its last lines.

        Raises when it fails or takes too long. Nothing that it started outlives the call.
        """
        lines: deque[str] = deque(maxlen=_KEPT)
        child = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd or place,
            env={**(self.env if env is None else env), MARK: place.name},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._limit_s):
                await self._read(child, lines)
                code = await child.wait()
        except TimeoutError as error:
            raise tool_late(self.recipe, tool, human(self._limit_s * 1000), [*lines]) from error
        finally:
            await finished(_end(child, place.name))
        if code:
            raise tool_failed(self.recipe, tool, code, [*lines])
        return [*lines]

    async def _read(self, child: asyncio.subprocess.Process, lines: deque[str]) -> None:
        assert child.stdout is not None
        rest = b""
        while data := await child.stdout.read(1 << 16):
            *whole, rest = _END_OF_LINE.split(rest[-_LONGEST:] + data)
            self._keep(whole, lines)
        self._keep([rest], lines)

    def _keep(self, whole: Sequence[bytes], lines: deque[str]) -> None:
        for line in (each[:_LONGEST].decode(errors="replace").rstrip() for each in whole):
            if line:
                lines.append(line)
                self._tell(line)


async def _end(child: asyncio.subprocess.Process, mark: str) -> None:
    """Nothing of the tool's goes on: neither its group nor what left the group."""
    if child.returncode is None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended by itself since
    await asyncio.to_thread(kill_marked, mark)
    assert child.stdout is not None
    await child.stdout.read()  # nobody writes any more; a pipe that is not read to its end is never closed
    await child.wait()
