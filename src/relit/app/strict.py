"""Tools that stand in for an agent's own: a shell, files and the web, all on record. They run in the agent's place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from relit.app.agent_place import exit_code, launch
from relit.app.beside import Beside
from relit.app.vaulted import for_agent
from relit.errors import ConfigError, StartFailed
from relit.gateway.tools.base import NotSent, Outcome, Tool, schema, text
from relit.gateway.tools.http import HttpTools
from relit.gateway.tools.plan import Sending
from relit.settings import Environment, Settings
from relit.store.tools import ToolCall

_SHELL_S, _SHELL_MOST_S = 600, 6 * 3600
_OUTPUT_MOST = 1 << 20  # bytes that are kept
_LINES = 2000
_READ = 'sed -n -e "$2,$3p" -e "$3q" -- "$1"'
_WRITE = (
    'mkdir -p -- "$(dirname -- "$1")" && { [ ! -e "$1" ] || cp -p -- "$1" "$2"; } && cat > "$2" && mv -f -- "$2" "$1"'
)
_CUT = (
    "[relit: this command was cut short, with the gateway that ran it. Part of it may have been done: look before you "
    "run it again.]"
)
_ENDED = "[relit: it was ended before its time: the agent's home was put back, or put away]"


class StrictTools:
    """For all agents with ``tools = "strict"``."""

    def __init__(self, settings: Settings, environment: Environment, http: HttpTools) -> None:
        self._settings = settings
        self._environment = environment
        self._http = http

    @property
    def tools(self) -> Sequence[Tool]:
        return _TOOLS

    async def stop(self) -> None:
        """Nothing is kept between calls."""

    async def send(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        match call.tool:
            case "shell":
                return await self._shell(call, arguments)
            case "read_file":
                first = arguments.get("offset", 1)
                last = first + arguments.get("limit", _LINES) - 1
                return await self._file(call, _READ, [arguments["path"], str(first), str(last)])
            case "write_file":
                path, content = arguments["path"], arguments["content"]
                return await self._file(call, _WRITE, [path, f"{path}.{call.id}"], content.encode(), "written")
            case _:
                return await self._web(call.agent, arguments)

    async def look(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome | None:
        raise AssertionError("none of these is looked up")

    async def clear(self, call: ToolCall) -> Outcome | None:
        if call.tool == "http":
            return None
        await asyncio.to_thread(Beside(self._settings, call.agent, call.id).over)
        return text(_CUT, failed=True) if call.tool == "shell" else None

    async def _shell(self, call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        seconds = arguments.get("timeout", _SHELL_S)
        try:
            code, said = await self._run(call, ["/bin/sh", "-c", arguments["command"]], seconds)
        except TimeoutError:
            return text(f"[relit: it was ended after {seconds} seconds]", failed=True)
        return text(said + ("" if code == 0 else f"\n[exit code {code}]"), failed=code != 0)

    async def _file(
        self, call: ToolCall, script: str, words: list[str], content: bytes = b"", done: str = ""
    ) -> Outcome:
        try:
            code, said = await self._run(call, ["/bin/sh", "-c", script, "sh", *words], 60, content)
        except TimeoutError as error:
            raise NotSent("it took longer than 60 seconds") from error
        return text(said or done if code == 0 else said, failed=code != 0)

    async def _run(self, call: ToolCall, argv: Sequence[str], seconds: float, content: bytes = b"") -> tuple[int, str]:
        """(exit code, output) of a program in the agent's place. Nothing of it goes on afterwards. TimeoutError."""
        try:
            await for_agent(self._settings, call.agent, "gateway")
            made = await asyncio.to_thread(launch, self._settings, self._environment, call.agent, argv)
        except (ConfigError, StartFailed) as error:
            raise NotSent(str(error)) from error
        beside = Beside(self._settings, call.agent, call.id)
        async with beside.starting():
            child = await asyncio.create_subprocess_exec(
                *made.argv, env={**made.env, **beside.marks}, cwd=made.cwd, stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            async with asyncio.timeout(seconds):
                _, said = await asyncio.gather(_feed(child, content), _output(child))
                code = exit_code(await child.wait())
        finally:
            cut = await asyncio.shield(asyncio.to_thread(beside.over))
            await child.wait()
        return (code, said) if not cut else (code, f"{said}\n{_ENDED}")

    async def _web(self, name: str, arguments: dict[str, Any]) -> Outcome:
        """What its sandbox may connect to holds for this, too."""
        agent = self._settings.agents.get(name)
        body = arguments.get("body")
        sending = Sending(
            arguments.get("method", "GET"), arguments["url"], dict(arguments.get("headers", {})),
            None if body is None else body.encode(),
        )  # fmt: skip
        status, answer, headers = await self._http.fetch(
            sending,
            private=False,
            ports=agent.connect if agent is not None else None,
            once=sending.method not in ("GET", "HEAD"),
        )
        kind = headers.get("content-type", "")
        return text(f"HTTP status {status}\ncontent-type: {kind}\n\n{answer.decode('utf-8', 'replace')}")


async def _feed(child: asyncio.subprocess.Process, content: bytes) -> None:
    assert child.stdin is not None, "it has a pipe"
    if content:
        # It did not want to read it. The last one is uvloop's word for that.
        with suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
            child.stdin.write(content)
            await child.stdin.drain()
    child.stdin.close()


async def _output(child: asyncio.subprocess.Process) -> str:
    """What it writes, until its end; of more than is kept the end is missing, and that is said."""
    assert child.stdout is not None, "it has a pipe"
    kept, size = bytearray(), 0
    while piece := await child.stdout.read(1 << 16):
        size += len(piece)
        kept += piece[: max(0, _OUTPUT_MOST - len(kept))]
    cut = f"\n[relit: the first {_OUTPUT_MOST >> 20} MB of {size} bytes]" if size > len(kept) else ""
    return kept.decode("utf-8", "replace") + cut


def _word(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


_TOOLS = (
    Tool(
        name="shell",
        description="Run a command with /bin/sh in your own place (your home, your working folder). It is on record: "
        "what has ended is never run again by itself.",
        schema=schema(
            ["command"],
            command=_word("The command."),
            timeout={"type": "integer", "minimum": 1, "maximum": _SHELL_MOST_S, "description": "Seconds. Default 600."},
        ),
        timeout=_SHELL_MOST_S + 60.0,
    ),
    Tool(
        name="read_file",
        description="Read lines of a text file.",
        schema=schema(
            ["path"],
            path=_word("Absolute, or below your working folder."),
            offset={"type": "integer", "minimum": 1, "description": "The first line. Default 1."},
            limit={"type": "integer", "minimum": 1, "maximum": 20 * _LINES, "description": "How many. Default 2000."},
        ),
        effect="read",
        timeout=90.0,
    ),
    Tool(
        name="write_file",
        description="Write a whole file; folders are made, and what was in it is replaced.",
        schema=schema(
            ["path", "content"], path=_word("Absolute, or below your working folder."), content=_word("Text.")
        ),
        effect="natural-key",
        timeout=90.0,
    ),
    Tool(
        name="http",
        description="Ask an address on the internet. Addresses of this machine and its network are refused.",
        schema=schema(
            ["url"],
            url=_word("http:// or https://"),
            method={"enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"], "description": "Default GET."},
            headers={"type": "object", "additionalProperties": {"type": "string"}},
            body=_word("Sent as it is."),
        ),
        timeout=120.0,
        reads=lambda arguments: arguments.get("method", "GET") in ("GET", "HEAD"),
    ),
)
