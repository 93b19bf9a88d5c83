"""A kind's npm packages: ``package.json``, ``package-lock.json`` and ``node_modules`` in the runtime's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from relit.agents.runtime_failures import wrong
from relit.agents.runtime_node import NPM
from relit.agents.runtime_record import Artifact
from relit.agents.runtime_steps import Steps

_OPTIONS = (
    "--no-audit",
    "--no-fund",
    "--ignore-scripts",
    "--no-global",
    "--package-lock",
    "--save",
    "--save-exact",
    "--no-progress",
    "--loglevel=http",  # a line for each package: it is seen to go on
)


async def install(steps: Steps, place: Path) -> list[Artifact]:
    """Install the recipe's packages by the Node that ``place/node`` leads to. Their install scripts are not run."""
    recipe = steps.recipe
    (place / "package.json").write_bytes(msgspec.json.encode({"name": f"{recipe.kind}-runtime", "private": True}))
    node = place / "node"
    env = {**steps.env, "PATH": f"{node / 'bin'}:{steps.env.get('PATH', os.defpath)}"}
    argv = [str(node / "bin/node"), str(node / NPM), "install", "--prefix", str(place), *_OPTIONS]
    await steps.run("npm", [*argv, *recipe.npm_packages], place, env)
    for name in recipe.npm_pinned:
        _see_version(steps, place, name)
    return _artifacts(place)


def _see_version(steps: Steps, place: Path, name: str) -> None:
    """npm takes another version, and says nothing, where the Node at hand is too old for the one that was meant."""
    found = _read(place / "node_modules" / name / "package.json").get("version", "none")
    if found != steps.recipe.version:
        raise wrong(steps.recipe, f"npm installed {name} {found} instead of {steps.recipe.version}")


def _artifacts(place: Path) -> list[Artifact]:
    """What the lock file names and this machine got: it also names what other machines would get."""
    packages = _read(place / "package-lock.json").get("packages", {})
    return [
        Artifact(
            each.get("name") or path.rpartition("node_modules/")[2], each.get("version", ""), each.get("integrity", "")
        )
        for path, each in packages.items()
        if path and (place / path).exists()
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return {}
