"""Who may use which tools, and how: grants and policies. Pure, but for schemas that are compiled once."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jsonschema_rs

from relit.gateway.tools.base import Policy, Source, Tool
from relit.gateway.tools.results import READ


@dataclass(frozen=True)
class Grant:
    """What one agent may use: patterns of names (``mail.*``), and policies that go before the tools' own."""

    tools: tuple[str, ...] = ()
    policies: Mapping[str, Policy] = field(default_factory=dict)

    def holds(self, name: str) -> bool:
        """Whether a tool is granted."""
        return any(fnmatch.fnmatchcase(name, each) for each in self.tools)

    def policy(self, tool: Tool) -> Policy:
        """The strictest of those that name it; else its own."""
        said = [policy for pattern, policy in self.policies.items() if fnmatch.fnmatchcase(tool.name, pattern)]
        return max(said, key=_STRICT.index) if said else tool.policy


_STRICT: Sequence[Policy] = ("allow", "ask", "deny")


class Shelf:
    """All tools of all sources, and what each agent is granted of them."""

    def __init__(self, sources: Iterable[Source], grants: Mapping[str, Grant]) -> None:
        self._sources = {tool.name: source for source in sources for tool in source.tools}
        self._tools = {tool.name: tool for source in sources for tool in source.tools}
        self._grants = grants
        self._checks: dict[str, jsonschema_rs.Validator] = {}

    async def stop(self) -> None:
        """Of all sources."""
        for source in {*self._sources.values()}:
            await source.stop()

    def of(self, agent: str) -> list[Tool]:
        """What an agent is offered: all that is granted and not denied."""
        found = (self.tool(agent, name) for name in self._tools)
        return [each for each in found if each is not None and each.policy != "deny"]

    def tool(self, agent: str, name: str) -> Tool | None:
        """A tool that is granted, with the agent's policy; ``None``: it is not, or there is none."""
        tool, grant = self._tools.get(name), self._grants.get(agent, Grant())
        if tool is None or not (grant.holds(name) or (name == READ and grant.tools)):
            return None
        return replace(tool, policy=grant.policy(tool))

    def serves(self, agent: str) -> bool:
        """Whether anything is granted to it."""
        return bool(self._grants.get(agent, Grant()).tools)

    def source(self, name: str) -> Source:
        """Who carries its calls out."""
        return self._sources[name]

    def faults(self, name: str, arguments: dict[str, Any]) -> list[str]:
        """What is wrong with arguments, where, and what would be right."""
        if name not in self._checks:
            self._checks[name] = jsonschema_rs.validator_for(dict(self._tools[name].schema))
        found = self._checks[name].iter_errors(arguments)
        return [
            f"{'.'.join(str(part) for part in each.instance_path) or 'arguments'}: {each.message}" for each in found
        ]
