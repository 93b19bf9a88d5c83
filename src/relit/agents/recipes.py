"""What a kind of agent needs to be installed, and the recipes that relit brings along."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from relit.agents.versions import clauses
from relit.errors import ConfigError, NotFound

NODE = "node"  # not a kind of agent: its folder holds Node, which kinds share
_KINDS = Path(__file__).parent / "kinds"
_KIND = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")
_PYPI_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Recipe(msgspec.Struct, frozen=True):
    """What one version of a kind needs. ``ValueError`` when a part cannot be.

    ``{version}`` in ``npm`` and ``pip`` is the version; what is named with it must be there in that version afterwards.
    ``node`` and ``python`` are ranges. ``check`` must exit with 0; in it ``{runtime}`` is the runtime's folder.
    """

    kind: str
    version: str
    node: str = ""
    npm: list[str] = []
    pip: list[str] = []
    python: str = ""
    check: list[str] = []

    def __post_init__(self) -> None:
        checked(self.kind, self.version)
        clauses(self.node)
        clauses(self.python)
        if self.npm and not self.node:
            raise ValueError("npm needs a range of versions in `node`")

    @property
    def npm_packages(self) -> list[str]:
        return [each.replace("{version}", self.version) for each in self.npm]

    @property
    def pip_packages(self) -> list[str]:
        return [each.replace("{version}", self.version) for each in self.pip]

    @property
    def npm_pinned(self) -> list[str]:
        """The npm packages that must be there in the recipe's version."""
        return [each.rpartition("@")[0] for each in self.npm if "{version}" in each]

    @property
    def pip_pinned(self) -> list[str]:
        """The Python packages that must be there in the recipe's version, by normal name."""
        names = [_PYPI_NAME.match(each) for each in self.pip if "{version}" in each]
        return [normal(name[0]) for name in names if name]


def checked(kind: str, version: str) -> None:
    """Both become names of folders. Raises ``ValueError`` for what cannot be one."""
    if not _KIND.fullmatch(kind):
        raise ValueError(f"{kind!r} is not a kind of agent")
    if not _VERSION.fullmatch(version):
        raise ValueError(f"{version!r} is not a version")


def normal(name: str) -> str:
    """A Python package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def recipe_of(kind_table: Mapping[str, Any], version: str = "") -> Recipe:
    """The recipe in a kind's table ``[install]``, for the given version, else for the table's own."""
    table = dict(kind_table.get("install", {}))
    try:
        if unknown := sorted(table.keys() - set(Recipe.__struct_fields__)):
            raise ValueError(f"there is no key {', '.join(unknown)}")
        return msgspec.convert({**table, **({"version": version} if version else {})}, Recipe)
    except ValueError as error:  # msgspec's, too
        name = table.get("kind", "?")
        raise ConfigError(f"no recipe for kind {name} can be made of [install]", why=str(error)) from error


def kinds() -> list[str]:
    """The kinds that relit brings a recipe for."""
    return sorted(path.stem for path in _KINDS.glob("*.toml"))


def kind_table(kind: str) -> dict[str, Any]:
    """All that relit brings along about a kind: its TOML file."""
    if kind not in kinds():
        raise NotFound(f"relit has no recipe for kind {kind!r}", why=f"it has: {', '.join(kinds())}")
    return tomllib.loads((_KINDS / f"{kind}.toml").read_text(encoding="utf-8"))
