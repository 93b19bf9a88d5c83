"""A kind's Python packages: a virtual environment ``venv`` in the runtime's folder, which may be moved.

It has no pip of its own: what agents share is not for one of them to change, and making the environment takes a quarter
of a second instead of many.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec

from relit.agents.recipes import normal
from relit.agents.runtime_failures import wrong
from relit.agents.runtime_record import Artifact
from relit.agents.runtime_steps import Steps
from relit.agents.versions import fits
from relit.errors import RelitError

_ASK = "import platform; print(platform.python_version())"
_MINORS = range(29, 7, -1)  # of Python 3, newest first
# How pip begins a script: with its interpreter, or with a shell that calls it, where a #! line cannot hold that path.
_BEGINNING = re.compile(rb"#!(?:/bin/sh\n'''exec' [^\n]*\n' '''|[^\n]*)\n")
_MOVABLE = b'#!/bin/sh\n\'\'\'exec\' "$(dirname -- "$(realpath -- "$0")")/python" "$0" "$@"\n\' \'\'\'\n'


class Python(msgspec.Struct, frozen=True):
    """An interpreter."""

    path: str
    version: str


def running() -> Python:
    """The interpreter that relit runs in."""
    return Python(sys.executable, platform.python_version())


async def pip(steps: Steps, place: Path, scratch: Path) -> list[str]:
    """A pip: this interpreter's, or one made for the purpose where it has none (uv and pipx leave it out)."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    venv = scratch / "pip"
    if not venv.exists():
        await steps.run("venv", [sys.executable, "-I", "-m", "venv", str(venv)], place)
    return [str(venv / "bin/python"), "-I", "-m", "pip"]


async def install(steps: Steps, place: Path, scratch: Path, first: Python) -> tuple[Python, list[Artifact]]:
    """Make the environment with ``first`` or another fitting interpreter; the recipe's packages go into it."""
    steps.begin("python", "making a virtual environment")
    python, venv, report = await _interpreter(steps, place, first), place / "venv", scratch / "report.json"
    await steps.run("venv", [python.path, "-I", "-m", "venv", "--without-pip", str(venv)], place)
    steps.begin("packages", f"installing {', '.join(steps.recipe.pip_packages)}")
    argv = [*await pip(steps, place, scratch), "--python", str(venv / "bin/python"), "install"]
    options = ["--report", str(report), "--progress-bar", "off"]
    await steps.run("pip", [*argv, *options, *steps.recipe.pip_packages], place)
    artifacts = [_artifact(each) for each in msgspec.json.decode(report.read_bytes())["install"]]
    for name in steps.recipe.pip_pinned:
        _see_version(steps, name, artifacts)
    _free(venv, place)
    return python, artifacts


async def _interpreter(steps: Steps, place: Path, first: Python) -> Python:
    """``first`` if it fits, else the newest on PATH that does."""
    wanted, seen = steps.recipe.python, [first.version]
    if fits(wanted, first.version):
        return first
    for minor in _MINORS:
        path = shutil.which(f"python3.{minor}", path=steps.env.get("PATH", ""))
        version = await _version(steps, place, path) if path else ""
        if path and version and fits(wanted, version):
            return Python(path, version)
        seen += [version] if version else []
    raise wrong(
        steps.recipe,
        f"it needs Python {wanted}; here are {', '.join(seen)}",
        f"install a Python {wanted} as python3.N on PATH, then: relit agent install NAME",
    )


async def _version(steps: Steps, place: Path, path: str) -> str:
    """Empty for what stands on PATH but does not run (version switchers leave such stand-ins)."""
    try:
        said = await steps.run("python", [path, "-I", "-c", _ASK], place)
    except RelitError:
        return ""
    return said[-1] if said and said[-1][:1].isdigit() else ""


def _artifact(installed: dict[str, Any]) -> Artifact:
    meta, hashes = installed["metadata"], installed["download_info"].get("archive_info", {}).get("hashes", {})
    digest = hashes.get("sha256", "")
    return Artifact(meta["name"], meta["version"], f"sha256:{digest}" if digest else "")


def _see_version(steps: Steps, name: str, artifacts: list[Artifact]) -> None:
    found = {normal(each.name): each.version for each in artifacts}.get(name, "none")
    if found != steps.recipe.version:
        raise wrong(steps.recipe, f"pip installed {name} {found} instead of {steps.recipe.version}")


def _free(venv: Path, place: Path) -> None:
    """Let nothing name the folder that it was made in."""
    for script in (venv / "bin").iterdir():
        if script.name.lower().startswith("activate"):
            script.unlink()
        elif script.is_file() and not script.is_symlink():  # packages put folders there, too
            _free_script(script, bytes(place))
    config = venv / "pyvenv.cfg"
    lines = [line for line in config.read_text().splitlines(keepends=True) if not line.startswith("command")]
    config.write_text("".join(lines))


def _free_script(script: Path, place: bytes) -> None:
    text = script.read_bytes()
    match = _BEGINNING.match(text)
    if match and place in match[0]:
        script.write_bytes(_MOVABLE + text[match.end() :])
