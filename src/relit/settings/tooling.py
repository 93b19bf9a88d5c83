"""Faults of meaning in ``[tools]``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from relit.settings.check import Fault, nearest
from relit.settings.kinds import Path
from relit.settings.model import Agent, File
from relit.settings.tools import OWN, Tool

_NAMED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HOST = re.compile(r"^https?://([^/?#]*)")
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_BODILESS = ("GET", "HEAD", "DELETE")


def faults(file: File) -> Iterator[Fault]:
    """Of every tool, and of those who may use it."""
    for name, agent in file.agents.items():
        if agent.kind == "python" and (agent.grants or agent.policies):
            why = "does nothing for code written with the SDK, which calls what it likes: remove it"
            yield Fault(("agents", name, "grants"), why)
        yield from _grants(("agents", name, "grants"), agent, file)
        if agent.tools == "strict" and agent.kind in ("python", "command"):
            why = f'kind = "{agent.kind}" has tools of its own, which relit cannot switch off'
            yield Fault(("agents", name, "tools"), why, '"native"')
    for name, tool in file.tools.items():
        path: Path = ("tools", name)
        if name in OWN:
            yield Fault(path, "is the name of a tool of relit's own: choose another")
        if (tool.url is None) == (tool.function is None):
            yield Fault(path, "needs exactly one of url and function")
        if tool.function is not None:
            yield from _function(path, tool)
            continue
        if not tool.description:
            yield Fault((*path, "description"), "is missing: a model must know what the tool does")
        yield from _address(path, tool)
        yield from _arguments(path, tool)
        yield from _effect(path, tool)
        if tool.key is not None and tool.key_header in tool.headers:
            yield Fault((*path, "headers"), f"has {tool.key_header}, which carries the key")


def _grants(path: Path, agent: Agent, file: File) -> Iterator[Fault]:
    """What is granted must be there."""
    known = [*file.tools, *OWN]
    for grant in agent.grants:
        pattern = grant.removeprefix("tool:")
        if not any(fnmatchcase(name, pattern) for name in known):
            meant = nearest(pattern, known)
            yield Fault(path, f'there is no tool "{pattern}"', "a table of [tools]", f"tool:{meant}" if meant else "")


def _function(path: Path, tool: Tool) -> Iterator[Fault]:
    """What a function says of itself."""
    if ":" not in str(tool.function):
        yield Fault((*path, "function"), "is not `module:object`", "tools:weather")
    for label in ("arguments", "effect", "headers", "key", "idempotency", "lookup", "query", "optional"):
        if getattr(tool, label):
            yield Fault((*path, label), "is said by the function: remove it")


def _address(path: Path, tool: Tool) -> Iterator[Fault]:
    each = {"url": tool.url or ""} | ({"lookup.url": tool.lookup.url} if tool.lookup else {})
    for label, url in each.items():
        host = _HOST.match(url)
        if host is None or not host[1] or set("{}@") & set(host[1]):
            yield Fault((*path, label), "is not an address", "a host that stands there, and no key in it")
        allowed = {*tool.arguments, *(["key"] if label != "url" else [])}
        for name in sorted({*_NAMED.findall(url)} - allowed):
            yield Fault((*path, label), f"names {{{name}}}, which is none of its arguments", ", ".join(tool.arguments))


def _arguments(path: Path, tool: Tool) -> Iterator[Fault]:
    for name, schema in tool.arguments.items():
        if not _ARGUMENT.fullmatch(name):
            yield Fault((*path, "arguments", name), "is not a name of an argument", "letters, digits, _ and -")
        elif not isinstance(schema, dict):
            yield Fault((*path, "arguments", name), "is not a JSON Schema", '{ type = "string" }')
        elif why := _wrong(schema):
            yield Fault((*path, "arguments", name), f"is not a JSON Schema: {why}", '{ type = "string" }')
    for label in ("optional", "query", "same"):
        for name in getattr(tool, label):
            if name not in tool.arguments:
                yield Fault((*path, label), f'"{name}" is none of its arguments', ", ".join(tool.arguments))
    named = {*_NAMED.findall(tool.url or "")}
    for name in sorted(named & {*tool.optional}):
        yield Fault((*path, "optional"), f'"{name}" stands in the url, and must be given')


def _wrong(schema: dict[str, object]) -> str:
    """Why a schema is none."""
    import jsonschema_rs  # most configurations have no tools

    try:
        jsonschema_rs.validator_for(schema)
    except ValueError as error:
        return str(error).splitlines()[0]
    return ""


def _effect(path: Path, tool: Tool) -> Iterator[Fault]:
    if tool.effect == "native-key" and not tool.idempotency:
        yield Fault((*path, "idempotency"), 'is missing: effect = "native-key" needs it', "header:Idempotency-Key")
    if tool.idempotency.startswith("field:") and (tool.method in _BODILESS):
        yield Fault((*path, "idempotency"), f"{tool.method} has no body", "header:NAME")
    if (tool.effect == "lookup") != (tool.lookup is not None):
        yield Fault((*path, "lookup"), 'and effect = "lookup" go together', '{ url = "https://…?key={key}" }')
