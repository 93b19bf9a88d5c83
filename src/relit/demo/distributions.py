"""The distributions installed beside relit: their real metadata and licence files."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from relit.demo.prompt import Facts

_LICENCE_NAMES = ("LICEN", "COPYING", "UNLICENSE")


def names() -> list[str]:
    """Every installed distribution, each once, sorted."""
    return sorted({each.name for each in metadata.distributions() if each.name}, key=str.lower)


def facts(name: str) -> Facts:
    """What ``name``'s metadata says, and the licence files it ships."""
    found = metadata.distribution(name)
    files = [str(file) for file in found.files or [] if _is_licence(file)]
    declared = found.metadata.get_all("License-Expression") or [None]
    return Facts(name, found.version, declared[0], sorted(files))


def _is_licence(file: metadata.PackagePath) -> bool:
    in_metadata = any(part.endswith((".dist-info", ".egg-info")) for part in file.parts)
    return in_metadata and file.name.upper().startswith(_LICENCE_NAMES)


def text(name: str, file: str) -> str:
    """One licence file of ``name``."""
    return Path(str(metadata.distribution(name).locate_file(file))).read_text(encoding="utf-8", errors="replace")
