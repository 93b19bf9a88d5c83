"""Tools of relit's own: notes, schedules, questions to a person, messages to other agents, versions of the home."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from relit.api.volumes_port import Volumes
from relit.durable import schedule
from relit.durable.definitions import MESSAGE
from relit.durable.engine import Engine
from relit.errors import ConfigError, MailboxFull, NotFound, RelitError
from relit.gateway.tools import results
from relit.gateway.tools.base import NotSent, Outcome, Tool, Unsure, schema, text
from relit.lib.ids import derived_id
from relit.lib.moments import fixed
from relit.settings import Settings
from relit.store.tools import ToolCall
from relit.store.values import Schedule

_NOTES_MOST = 500
_NOTE = 8192  # characters
_NAME = {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,40}$"}
Doing = Callable[[ToolCall, dict[str, Any]], Awaitable[str]]


class HouseTools:
    """For all agents that are granted one. ``secrets``: what is written down nowhere (``results.without``)."""

    def __init__(
        self, settings: Settings, engine: Engine, volumes: Callable[[], AbstractAsyncContextManager[Volumes]],
        secrets: Sequence[bytes] = (),
    ) -> None:  # fmt: skip
        self._secrets = secrets
        self._settings = settings
        self._engine = engine
        self._store = engine.store
        self._volumes = volumes
        self._doing: dict[str, Doing] = {
            "remember": self._remember, "recall": self._recall, "schedule": self._schedule,
            "ask_human": self._ask, "send_to_agent": self._send, "snapshot": self._snapshot,
            "restore_file": self._restore,
        }  # fmt: skip

    @property
    def tools(self) -> Sequence[Tool]:
        return _TOOLS

    async def stop(self) -> None:
        """Nothing is kept between calls."""

    async def clear(self, call: ToolCall) -> Outcome | None:
        return None

    async def look(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome | None:
        raise AssertionError("none of these is looked up")

    async def send(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        if results.holds(arguments, self._secrets):
            raise NotSent("its arguments hold a secret, which would be written down")
        try:
            return text(await self._doing[call.tool](call, arguments))
        except (NotFound, ConfigError, MailboxFull) as error:
            raise NotSent(f"{error.what}: {error.why}" if error.why else error.what) from error
        except RelitError as error:
            raise Unsure(str(error)) from error

    async def _remember(self, call: ToolCall, asked: dict[str, Any]) -> str:
        known = {each.name for each in await self._store.tools.notes(call.agent)}
        if asked["name"] not in known and len(known) >= _NOTES_MOST:
            raise NotSent(f"there are {_NOTES_MOST} notes: forget one first (with an empty text)")
        await self._store.tools.note(call.agent, asked["name"], asked["text"])
        return "remembered" if asked["text"] else "forgotten"

    async def _recall(self, call: ToolCall, asked: dict[str, Any]) -> str:
        words = asked.get("words", "").casefold()
        found = [each for each in await self._store.tools.notes(call.agent)
                 if words in each.name or words in each.text.casefold()]  # fmt: skip
        return "\n\n".join(f"{each.name}: {each.text}" for each in found) or "there is no such note"

    async def _schedule(self, call: ToolCall, asked: dict[str, Any]) -> str:
        """Kept apart from those of relit.toml, which are called AGENT.NAME."""
        name = f"{call.agent}--{asked['name']}"
        if any(each.name == name and each.agent != call.agent for each in await self._store.schedules()):
            raise NotSent(f"{asked['name']} is taken: call it by another name")
        if asked.get("cancel"):
            await self._store.remove_schedule(name)
            return "it is no more"
        if "message" not in asked:
            raise NotSent("a schedule needs a message")
        spec = schedule.parse({key: asked[key] for key in ("every", "cron", "zone") if key in asked})
        due = schedule.next_after(spec, name, await self._store.now_ms())
        data = await self._engine.payloads.encode({"args": [asked["message"]], "kwargs": {}})
        await self._store.put_schedule(
            Schedule(
                name=name, agent=call.agent, workflow=MESSAGE, input=data, spec=msgspec.json.encode(spec), next_at=due
            )
        )
        return f"{name} sends you that message"

    async def _ask(self, call: ToolCall, asked: dict[str, Any]) -> str:
        """Held until a person has said something: that is the answer."""
        return call.why or "yes"

    async def _send(self, call: ToolCall, asked: dict[str, Any]) -> str:
        if asked["agent"] not in self._settings.agents:
            raise NotSent(f"there is no agent {asked['agent']}: there are {', '.join(self._settings.agents)}")
        message = f"[from the agent {call.agent}]\n\n{asked['message']}"
        sent = await self._engine.send(asked["agent"], message, id=derived_id("tool.sent", call.key))
        return f"sent, as run {sent.id}"

    async def _snapshot(self, call: ToolCall, asked: dict[str, Any]) -> str:
        async with self._volumes() as volumes:
            taken = await volumes.snapshot(call.agent, note=asked.get("note", ""))
        return f"snapshot {taken.snapshot.number}"

    async def _restore(self, call: ToolCall, asked: dict[str, Any]) -> str:
        try:
            at = fixed(asked["at"], call.started_at)  # of when it was asked for: a person may have said yes much later
        except ValueError as error:
            raise NotSent(str(error)) from error
        async with self._volumes() as volumes:
            done = await volumes.restore(call.agent, at, [asked["path"].encode()])
        return f"{asked['path']} is as it was in snapshot {done.to}"


def _words(description: str, most: int = 100_000) -> dict[str, Any]:
    return {"type": "string", "description": description, "maxLength": most}


_TOOLS = (
    Tool(
        name="remember",
        description="Keep a note. It outlives restarts and restores of your home. An empty text forgets it.",
        schema=schema(["name", "text"], name=_NAME, text=_words("The note.", _NOTE)),
        effect="natural-key",
    ),
    Tool(
        name="recall",
        description="Read your notes: all, or those with some words in them.",
        schema=schema([], words=_words("Part of a note, or of its name.")),
        effect="read",
    ),
    Tool(
        name="schedule",
        description="Have a message sent to you again and again: every 30m, 2h, 1d …, or by five cron fields.",
        schema=schema(
            ["name"],
            name=_NAME,
            message=_words("What is sent."),
            every=_words("An interval: 30m."),
            cron=_words("As `0 9 * * MON-FRI`."),
            zone=_words("Time zone of cron, as Europe/Berlin. Default UTC."),
            cancel={"type": "boolean", "description": "End the schedule of that name."},
        ),
        effect="natural-key",
    ),
    Tool(
        name="ask_human",
        description="Ask the person who runs you. The answer comes as the result, or later as a message.",
        schema=schema(["question"], question=_words("Say all that they need to answer it.")),
        policy="ask",
        effect="natural-key",
    ),
    Tool(
        name="send_to_agent",
        description="Send a message to another agent's mailbox. It does not answer here.",
        schema=schema(["agent", "message"], agent=_words("Its name."), message=_words("What is sent.")),
        effect="native-key",
    ),
    Tool(
        name="snapshot",
        description="Take a snapshot of your home now, to go back to.",
        schema=schema([], note=_words("Why.", 500)),
        effect="natural-key",
        timeout=120.0,
    ),
    Tool(
        name="restore_file",
        description="Put a file or folder of your home back to what it was.",
        schema=schema(
            ["path", "at"],
            path=_words("Below your home."),
            at=_words('When, as "10 minutes ago" or "14:02", or the number of a snapshot.'),
        ),
        effect="natural-key",
        timeout=600.0,
    ),
)
