"""`relit demo --agents`: a real OpenClaw and a real Hermes are broken three ways each, and come back each time."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rich.console import Console
from rich.table import Table

from relit.agents.kind import Kind, builtin
from relit.agents.recipes import kind_table, recipe_of
from relit.agents.runtimes import Progress, Runtimes
from relit.client import Client
from relit.demo import configuration, trials
from relit.demo.conversation import Script
from relit.demo.installation import Installation, free_address
from relit.demo.model import ScriptedModel
from relit.demo.ordeal import Ordeal
from relit.demo.serving import Served
from relit.demo.trials import Trial
from relit.documents.postmortem import postmortem
from relit.lib.clock import SYSTEM_CLOCK
from relit.settings.environment import Environment

T = TypeVar("T")
AGENTS = {"claw": "openclaw", "hermes": "hermes"}
_ANSWER_S = 3.0
_START_S = 240.0  # OpenClaw alone computes for 20 s, on a machine that may be busy
_LOG_LINES = 5  # of an incident's page
_HEADS = ("agent", "what was done to it", "seen", "healed by", "ready", "answered", "")


class Demo:
    """``runtimes``: the folder in which the agents are installed, and found again the next time."""

    def __init__(self, runtimes: Path, console: Console) -> None:
        self._runtimes = runtimes.absolute()
        self._console = console
        self._began = SYSTEM_CLOCK.monotonic()
        self._phases: set[tuple[str, str]] = set()

    def run(self) -> list[Trial]:
        """The whole of it."""
        asyncio.run(self._install())
        script, house = Script(), Installation(_START_S)
        with Served(ScriptedModel(script, seconds=_ANSWER_S).app) as model:
            self._configure(house, f"{model}/v1")
            self._tell(f"relit starts {' and '.join(AGENTS)}. Its folder: {house.folder}")
            try:
                house.up()
                found = asyncio.run(self._strike(house, script))
            finally:
                self._tell("relit stops")
                house.down()
        self._print(found, house)
        return found

    async def _install(self) -> None:
        """What is not there yet."""
        runtimes = Runtimes(self._runtimes, self._phase, env=Environment().all)
        await _together(runtimes.install(recipe_of(kind_table(kind))) for kind in AGENTS.values())
        versions = [f"{each.kind} {each.version}" for each in runtimes.list()]
        self._tell(f"installed in {self._runtimes}: {', '.join(versions)}")

    def _configure(self, house: Installation, model: str) -> None:
        tables = configuration.strangers(
            AGENTS, house.mark, gateway=free_address(), runtimes=str(self._runtimes), model=model
        )
        house.configure(tables)

    async def _strike(self, house: Installation, script: Script) -> list[Trial]:
        """Both at the same time; then the pages of their incidents."""
        kinds: dict[str, Kind] = builtin()
        self._tell("both are ready")
        async with house.client() as client:
            ordeals = [
                Ordeal(name, kinds[kind], house, client, script, self._tell).pass_through()
                for name, kind in AGENTS.items()
            ]
            found = [trial for each in await _together(ordeals) for trial in each]
            await self._pages(client, found)
        return found

    async def _pages(self, client: Client, found: list[Trial]) -> None:
        zone = datetime.fromtimestamp(SYSTEM_CLOCK.now_ms() / 1000).astimezone().tzinfo
        assert zone is not None, "it was asked for"
        for id in dict.fromkeys(each.recovery.incident for each in found if each.recovery):
            self._console.rule(f"incident {id}")
            whole = await client.incident(id)
            whole.log = whole.log[-_LOG_LINES:]
            page = postmortem(whole, SYSTEM_CLOCK.now_ms(), zone)
            self._console.print(page, highlight=False, markup=False, soft_wrap=True)

    # --- what a person sees --------------------------------------------------------------------------------------

    def _tell(self, text: str) -> None:
        at = SYSTEM_CLOCK.monotonic() - self._began
        self._console.print(f"{at:6.1f} s  {text}", highlight=False, markup=False, soft_wrap=True)

    def _phase(self, now: Progress) -> None:
        if (now.kind, now.text) not in self._phases:
            self._phases.add((now.kind, now.text))
            self._tell(f"{now.kind} {now.version}: {now.text}")

    def _print(self, found: list[Trial], house: Installation) -> None:
        table = Table(*_HEADS, box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for each in found:
            table.add_row(*trials.cells(each), "[green]kept[/]" if each.passed else "[red]BROKEN[/]")
        self._console.print()
        self._console.print(table)
        relit = f"relit --data {house.data} --config {house.folder / 'relit.toml'}"
        look = "\n".join(f"  {relit} {words}" for words in ("runs", "volume log claw", "logs claw"))
        self._console.print(
            f"\nEverything is still there. To look further (the model is gone with the demo):\n  {relit} up\n{look}\n"
            f"  {relit} down\n  rm -r {house.folder}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


async def _together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each answers. Raises the first failure."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in works]
    except ExceptionGroup as several:
        raise several.exceptions[0] from several
    return [each.result() for each in tasks]


def run(*, runtimes: Path, as_json: bool = False) -> int:
    """The exit code: 0, or 1 when an agent did not come back as it should."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that nothing stays behind
    found = Demo(runtimes, Console(stderr=as_json)).run()
    if as_json:
        print(msgspec.json.encode(found).decode())
    return 0 if all(each.passed for each in found) else 1
