"""Record what a real agent asks its model, for tests of the matcher: python tests/real/record_bodies.py openclaw

The same message is worked on six times, each time in the home from before it: as it is; again; with a provider that
fails; with a death in the middle; and twice after so much was said that the agent had summed it up.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from real_house import RealHouse, about
from redacting import Redactor

from relit.agents.recipes import kind_table
from relit.testing.llm import Answer, Rule, ToolCall
from relit.testing.llm.ask import MODEL_CALLS, Ask

SHELL = {"openclaw": "exec", "hermes": "terminal"}
RUNTIMES = Path(__file__).parents[2] / ".bench" / "runtimes"  # as `make demo-agents` or a test installs them
PLACE = Path(__file__).parents[1] / "gateway" / "bodies"
FULL = 190_000  # tokens: as near to the limit as no agent lets it come
STORIES = 12  # after which it should have summed up
STORY = "Once a keeper lost his lamp, and the sea gave it back. " * 600  # what is kept of the end is less than this
TALES = 4  # that are long
ENOUGH = 8  # answers in a conversation, of which the older ones can be summed up


class Recording:
    """One agent, and what it asked in each scene."""

    def __init__(self, house: RealHouse, kind: str) -> None:
        self.house = house
        self.scenes: dict[str, list[Any]] = {}
        look = Answer(calls=(ToolCall(SHELL[kind], {"command": "echo seen"}),))
        self.rules = [
            Rule(_sums_up, "Stories of keepers were told."),
            Rule(about("lighthouse", tool=False), look),
            Rule(about("lighthouse"), "It is dark."),
            Rule(about("story", tool=False), lambda ask: msgspec.structs.replace(look, prompt_tokens=_told(ask))),
            Rule(about("story"), lambda ask: Answer(STORY, prompt_tokens=_told(ask))),
        ]
        self._before = 0

    async def begin(self) -> None:
        """Each scene begins from here."""
        await self.house.ready("one")
        taken = json.loads(await self.house.relit("volume", "snapshot", "one", "--note", "before", "--json"))
        self._before = taken["snapshot"]["number"]

    async def again(self) -> None:
        await self.house.relit("restore", "one", "--at", str(self._before), "--yes", timeout=400)
        await self.house.ready("one")

    async def fill(self) -> None:
        """Talk until the agent has summed up what was said."""
        for number in range(STORIES):
            await self.house.answer(await self.house.send("one", f"Tell me story {number}."))
            if any(_sums_up(each.ask) for each in self.house.llm.requests):
                return
        raise SystemExit(f"{STORIES} stories, and nothing was summed up")

    async def compact(self) -> None:
        """OpenClaw refuses a prompt that is told to be so long, and sums up what is. Its stricter way wants a summary
        with sections of its own."""
        own = ("agent", "exec", "one", "--", "openclaw")
        for key, value in {"mode": "default", "keepRecentTokens": "2000"}.items():
            await self.house.relit(*own, "config", "set", f"agents.defaults.compaction.{key}", value, timeout=120)
        for number in range(TALES):
            await self.house.answer(await self.house.send("one", f"Tell me story {number}."))
        if not any(_sums_up(each.ask) for each in self.house.llm.requests):
            raise SystemExit("nothing was summed up")

    async def scene(self, name: str, text: str, *, dies: bool = False) -> None:
        first = len(self.house.llm.requests)
        if dies:
            await self._die(text)
        else:
            await self.house.answer(await self.house.send("one", text))
        asked = [each.ask for each in self.house.llm.requests[first:] if each.ask.protocol in MODEL_CALLS]
        self.scenes[name] = [{"protocol": each.protocol, "body": each.body} for each in asked]
        print(name, len(asked), "calls", flush=True)

    async def _die(self, text: str) -> None:
        pid = await self.house.ready("one")
        with self.house.llm.hold(about("lighthouse", tool=True)) as hold:
            run = await self.house.send("one", text)
            await hold.caught(timeout=180)
            self.house.kill(pid)
            await self.house.ready("one", not_pid=pid)
        await self.house.answer(run)


def _told(ask: Ask) -> int | None:
    """Tokens: as many as there are, until there is enough to sum up."""
    return FULL if ask.nth >= ENOUGH else None


def _sums_up(ask: Ask) -> bool:
    """Whether it asks for a summary: nothing may be done then but to speak."""
    return ask.protocol in MODEL_CALLS and not ask.tools


async def record(kind: str, folder: Path) -> dict[str, list[Any]]:
    house = RealHouse(folder, RUNTIMES, {"one": kind})
    made = Recording(house, kind)
    text = "Is the lighthouse lit? Look, then say it."
    try:
        house.llm.rules[:] = made.rules
        await house.start()
        await made.begin()
        await made.scene("first", text)
        await made.again()
        await made.scene("again", text)
        await made.again()
        house.llm.rules[:] = [
            Rule(about("lighthouse"), Answer(status=500, message="we are down"), times=6),
            *made.rules,
        ]
        await made.scene("failing", text)
        house.llm.rules[:] = made.rules
        await made.again()
        await made.scene("interrupted", text, dies=True)
        await made.again()
        await (made.fill() if kind == "hermes" else made.compact())
        await made.begin()
        await made.scene("compacted", text)
        await made.again()
        await made.scene("compacted-again", text)
        return made.scenes
    finally:
        await house.stop()


def main() -> None:
    kind = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        scenes = asyncio.run(record(kind, Path(folder)))
    redactor = Redactor(kind_table(kind).get("masks", []))
    PLACE.mkdir(exist_ok=True)
    (PLACE / f"{kind}.json").write_text(json.dumps(redactor.value(scenes), indent=0, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
