"""Commands in an agent's place: with its environment, its folder, its sandbox, and its kind's own programs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from relit.app.agents import kind_of, machine, runtime_of
from relit.app.specs import spec_of
from relit.drivers.base import Launch
from relit.drivers.boxed import boxed
from relit.node.launching import launch_of
from relit.settings import Environment, Settings

_BINS = ("node/bin", "node_modules/.bin", "venv/bin")
_TERMINAL = ("TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR")
_KILLED = 128


class Said(msgspec.Struct, frozen=True):
    """How a command ended, and what it wrote."""

    code: int
    text: str


def launch(settings: Settings, environment: Environment, name: str, argv: Sequence[str]) -> Launch:
    """What starts ``argv`` in the place of an agent of the configuration. ConfigError; StartFailed: no such program."""
    spec = spec_of(settings, environment, name)
    made = launch_of(spec, name=f"{name}.exec", argv=argv)
    seen = {each: value for each in _TERMINAL if (value := environment.get(each))}
    env = made.env | {"PATH": _path(settings, name, made.env)} | seen
    return boxed(msgspec.structs.replace(made, env=env), machine())


def _path(settings: Settings, name: str, env: Mapping[str, str]) -> str:
    """Its kind's programs come first."""
    kind, rest = kind_of(settings, name), env.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    if kind is None or not kind.installs:
        return rest
    runtime = runtime_of(settings, name, kind)
    return ":".join([*(str(runtime / each) for each in _BINS if (runtime / each).is_dir()), rest])


async def ask(made: Launch, timeout_s: float, env: Mapping[str, str] | None = None) -> Said:
    """Run it to its end, without a terminal. TimeoutError; nothing of it goes on then."""
    child = await asyncio.create_subprocess_exec(
        *made.argv,
        env={**made.env, **(env or {})},
        cwd=made.cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode is not None, "it has ended"
    return Said(exit_code(child.returncode), out.decode(errors="replace").strip())


def exit_code(code: int) -> int:
    """As a shell tells it."""
    return code if code >= 0 else _KILLED - code
