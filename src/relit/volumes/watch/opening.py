"""Chooses how homes are watched: the best way that this machine permits, for each home anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from relit.errors import VolumeError
from relit.volumes.base import Watch, Watcher
from relit.volumes.watch.fanotify import Fanotify
from relit.volumes.watch.inotify import Inotify
from relit.volumes.watch.maps import Mappings
from relit.volumes.watch.reading import log
from relit.volumes.watch.sweeping import Sweeping

Kind = Literal["auto", "fanotify", "inotify", "sweep"]


class _Way(Protocol):
    def watch(self, home: Path, skip: Sequence[bytes] = ()) -> Watch: ...

    def close(self) -> None: ...


_WAYS: dict[str, Callable[[Mappings], _Way]] = {"fanotify": Fanotify, "inotify": Inotify}


class OpenWatcher:
    """Tries one way after the other; the last one always works. ``ways``: what is in use, best first."""

    def __init__(self, ways: dict[str, _Way], mappings: Mappings) -> None:
        self._ways = ways
        self._last = Sweeping(mappings)

    @property
    def ways(self) -> tuple[str, ...]:
        """Best first."""
        return (*self._ways, "sweep")

    def watch(self, home: Path, skip: Sequence[bytes] = ()) -> Watch:
        """Begin."""
        for name, way in self._ways.items():
            try:
                return way.watch(home, skip)
            except OSError as error:
                log.warning("%s cannot be watched with %s: %s", home, name, error.strerror)
        return self._last.watch(home, skip)

    def close(self) -> None:
        """Safe twice."""
        for way in self._ways.values():
            way.close()


def open_watcher(kind: Kind = "auto") -> OpenWatcher:
    """``auto``: fanotify, inotify, sweeps, whatever works first. A kind that is named must work: else VolumeError."""
    mappings = Mappings()
    ways: dict[str, _Way] = {}
    for name in _WAYS if kind == "auto" else [kind] if kind in _WAYS else []:
        try:
            ways[name] = _WAYS[name](mappings)
        except OSError as error:
            if kind != "auto":
                raise VolumeError(
                    f"homes cannot be watched with {name}",
                    why=f"the kernel refuses: {error.strerror}",
                    fix='run relit as root, or let it choose: kind "auto"',
                ) from error
            log.info("homes are not watched with %s: %s", name, error.strerror)
    return OpenWatcher(ways, mappings)


_IS: type[Watcher] = OpenWatcher
