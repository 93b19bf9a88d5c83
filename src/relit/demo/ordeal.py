"""A real agent is asked a question, and broken three ways; after each it must answer again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from relit.agents.kind import Kind
from relit.client import Client
from relit.demo import conversation, processes
from relit.demo.breakdown import known_good, ready
from relit.demo.conversation import EXCHANGES, Script
from relit.demo.installation import Installation
from relit.demo.recovery import recovered
from relit.demo.trials import Blow, Trial, sentence
from relit.errors import RelitError
from relit.lib.clock import SYSTEM_CLOCK

PATIENCE_S = 400  # of a busy machine; a quiet one needs a tenth
_LOOK_S = 0.02
_INTO_S = 1.0  # so much of an answer has come when its agent is killed
_RUBBISH = b"this was a database" * 4096
Strike = Callable[[], Awaitable[tuple[int, str]]]


class Ordeal:
    """One agent. ``tell`` gets lines for people."""

    def __init__(
        self, agent: str, kind: Kind, house: Installation, client: Client, script: Script, tell: Callable[[str], None]
    ) -> None:
        self._agent = agent
        self._kind = kind
        self._house = house
        self._client = client
        self._script = script
        self._tell = tell
        self._number = 0

    async def pass_through(self) -> list[Trial]:
        """All of it."""
        blows: dict[Blow, Strike] = {
            "killed in a turn": self._kill_in_a_turn,
            "config emptied + kill": lambda: self._kill_over(self._empty_config),
            "database ruined + kill": lambda: self._kill_over(self._ruin_database),
        }
        if not await self._is_well():
            return [Trial(agent=self._agent, blow=blow) for blow in blows]
        return [await self._trial(blow, strike) for blow, strike in blows.items()]

    async def _is_well(self) -> bool:
        """Whether it answers, and has something to go back to."""
        began = SYSTEM_CLOCK.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await self._client.result(await self._ask(), type=str)
                self._tell(f"{self._agent} answers after {SYSTEM_CLOCK.monotonic() - began:.1f} s: {answer}")
                await known_good(self._client, self._agent)
        except (TimeoutError, RelitError) as error:
            self._tell(f"{self._agent} does not answer: {str(error) or type(error).__name__}")
            return False
        return True

    async def _trial(self, blow: Blow, strike: Strike) -> Trial:
        """Strike, wait until it is back, and for its answer."""
        recovery = answered_ms = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                struck_ms, run = await strike()
                recovery = await recovered(self._client, self._agent, struck_ms)
                answer = await self._client.result(run, type=str)
                if EXCHANGES[self._number - 1].answer in answer:
                    answered_ms = SYSTEM_CLOCK.now_ms() - struck_ms
        except (TimeoutError, RelitError) as error:
            self._tell(f"{self._agent}, {blow}: {str(error) or type(error).__name__}")
        trial = Trial(agent=self._agent, blow=blow, recovery=recovery, answered_ms=answered_ms)
        self._tell(sentence(trial))
        return trial

    # --- blows: each answers when it was struck, and the run that must be answered all the same ------------------

    async def _kill_in_a_turn(self) -> tuple[int, str]:
        pid = await ready(self._house, self._agent)
        run, asked = await self._ask(), conversation.tag(self._agent, self._number - 1)
        while asked not in self._script.heard:  # noqa: ASYNC110 - in another thread
            await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(_INTO_S)
        return self._kill(pid), run

    async def _kill_over(self, damage: Callable[[Path], None]) -> tuple[int, str]:
        pid = await ready(self._house, self._agent)
        await asyncio.to_thread(damage, self._house.home(self._agent))
        return self._kill(pid), await self._ask()

    def _kill(self, pid: int) -> int:
        struck_ms = SYSTEM_CLOCK.now_ms()
        processes.kill(pid)
        return struck_ms

    def _empty_config(self, home: Path) -> None:
        """As a full disk does it."""
        (home / self._kind.config[0].path).write_bytes(b"")

    def _ruin_database(self, home: Path) -> None:
        """And what is still to go into it."""
        file = home / self._kind.databases[0]
        for each in (file, file.with_name(f"{file.name}-wal")):
            each.write_bytes(_RUBBISH)

    async def _ask(self) -> str:
        """The next question; answers its run."""
        sent = await self._client.send(self._agent, conversation.message(self._agent, self._number))
        self._number += 1
        return sent.id
