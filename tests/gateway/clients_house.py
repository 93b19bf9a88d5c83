"""A scripted model behind a gateway, for the vendors' own clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway_house import KEY
from watched_house import PLENTY, Watched, watched

from relit.gateway.routes import Kind
from relit.testing.llm import Answer, Rule, ScriptedLLM, ToolCall, When

MODEL = "m"
TEXT = "It is sunny in Paris today."
TOOL = ToolCall("weather", {"city": "Paris", "days": 3, "why": "because it was asked for, and needs some length"})
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
STRUCTURED = '{"city": "Paris", "degrees": 21}'
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
RULES = (
    Rule(When(says="tool", step=1), Answer(calls=(TOOL,))),
    Rule(When(says="structure"), STRUCTURED),
    Rule(When(says="weather"), TEXT),
)
STATUSES = (400, 401, 403, 404, 413, 422, 429, 500, 503, 529)


def fails(status: int) -> Rule:
    """What is asked for by its number is refused with it."""
    code = "scripted" if status == 400 else None
    return Rule(When(says=f"fail {status}"), Answer(status=status, message="told so", code=code, retry_after=7))


@dataclass
class Served:
    """``url`` is the gateway's; ``kind``: whose clients may call it."""

    llm: ScriptedLLM
    seen: Watched

    @property
    def url(self) -> str:
        return self.seen.here.url

    @property
    def sent(self) -> dict[str, Any]:
        """What the provider was asked last."""
        return self.llm.requests[-1].ask.body

    async def states(self) -> list[str]:
        """Of all calls, the first one first."""
        await self.seen.settled()
        return [each.state for each in reversed(await self.seen.calls())]


@asynccontextmanager
async def served(
    folder: Path, kind: Kind, rules: Iterable[Rule] = RULES, *, limit: int = PLENTY, **options: Any
) -> AsyncIterator[Served]:
    """The provider takes no key but its own."""
    llm = ScriptedLLM([*rules, *map(fails, STATUSES)], models=(MODEL, "other"), key=KEY)
    async with llm:
        url = f"{llm.url}/v1" if kind == "openai" else llm.url
        async with watched(url, folder, limit, kind=kind, **options) as seen:
            yield Served(llm, seen)
