"""A box as bubblewrap's command line. Pure: paths are settled before (``boxed``), the machine was looked at.

In front of the program there is nothing but what its box and limits ask for::

    [python fence.py …] bwrap … [prlimit …] PROGRAM …

Each of them becomes the next one; only bubblewrap stays, as the parent of its program (see ``tenant``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from relit.control.box import Box, Limits
from relit.drivers.machine import LANDLOCK_PORTS, Found
from relit.errors import ConfigError

__all__ = ["Box", "Limits", "View", "gated", "limited", "view", "wrap"]

_FENCE = str(Path(__file__).with_name("fence.py"))
# Root's own files of the kernel: their owner may write them, whatever capabilities were dropped. Through
# /proc/sys/kernel/core_pattern alone a program becomes root outside. bubblewrap covers irq, bus and sysrq-trigger.
_KERNEL = ["/proc/sys", "/proc/fs"]

Kind = Literal["hidden", "masked", "tmp", "read", "write"]  # a hidden folder is empty, a masked file cannot be opened
_ORDER: list[Kind] = ["hidden", "masked", "tmp", "read", "write"]  # of one path named twice the last counts
_OUT_OF_SIGHT = ("hidden", "masked")


class Part(msgspec.Struct, frozen=True):
    """One folder (or file) of a box: where it is inside, and what is there."""

    path: str
    kind: Kind
    source: str = ""

    def holds(self, path: str) -> bool:
        """Whether ``path`` is this part's or below it."""
        return path == self.path or path.startswith(self.path.rstrip("/") + "/")


class View(msgspec.Struct, frozen=True):
    """What is seen from inside: the machine's root, read-only, and these parts on it, outer ones first."""

    parts: list[Part]

    def behind(self, path: str) -> str | None:
        """The file of this machine that ``path`` (absolute, without links) is inside; ``None`` when it is hidden."""
        part = _innermost(self.parts, path)
        if part is None:
            return path
        return None if part.kind in _OUT_OF_SIGHT else part.source + path[len(part.path) :]


def view(box: Box, found: Found, files: Collection[str] = ()) -> View:
    """The parts of a settled box. ``files`` are those in its ``hide`` that are no folders."""
    parts = [Part(path, "masked" if path in files else "hidden") for path in [*found.sockets, *box.hide]]
    parts += [Part(path, "tmp", box.tmp) for path in found.tmps]
    parts += [Part(path, "read", path) for path in box.read]
    parts += [Part(path, "write", path) for path in box.write] + [Part(box.home, "write", box.stand_in or box.home)]
    kept: list[Part] = []
    for part in sorted(parts, key=lambda part: (part.path.count("/"), _ORDER.index(part.kind))):
        outer = _innermost(kept, part.path)
        if part.kind not in _OUT_OF_SIGHT or outer is None or outer.kind not in _OUT_OF_SIGHT:
            kept.append(part)  # else it is out of sight already
    return View(kept)


def _innermost(parts: Sequence[Part], path: str) -> Part | None:
    return next((part for part in reversed(parts) if part.holds(path)), None)


def wrap(argv: Sequence[str], box: Box, found: Found, *, cwd: str = "/", files: Collection[str] = ()) -> list[str]:
    """The command that runs ``argv`` in a settled box. Raises ``ConfigError`` when this machine has no such boxes."""
    _check(box, found)
    command = [found.bwrap, "--ro-bind", "/", "/", "--dev", "/dev", "--unshare-ipc"]
    if box.pids:
        command += ["--unshare-pid", "--proc", "/proc"]
    if not box.network:
        command.append("--unshare-net")
    if found.root:
        command += ["--cap-drop", "ALL"]
        command += [word for path in _KERNEL if box.pids for word in ("--ro-bind-try", path, path)]
    return [*_fence(box, found), *command, *_mounts(view(box, found, files)), "--chdir", cwd, "--", *argv]


def gated(argv: Sequence[str], found: Found, descriptor: int) -> list[str]:
    """A command of ``wrap`` that makes its box and then reads a byte before its program begins."""
    at = list(argv).index(found.bwrap) + 1
    return [*argv[:at], "--block-fd", str(descriptor), *argv[at:]]


def _mounts(seen: View) -> list[str]:
    words: list[str] = []
    for part in seen.parts:
        match part.kind:
            case "hidden":
                words += ["--tmpfs", part.path]
            case "masked":
                words += ["--ro-bind", "/dev/null", part.path]
            case "read":
                words += ["--ro-bind", part.source, part.path]
            case "tmp" | "write":
                words += ["--bind", part.source, part.path]
    for part in seen.parts:  # last: the places of the others are made in it
        words += ["--remount-ro", part.path] if part.kind == "hidden" else []
    return words


def _fence(box: Box, found: Found) -> list[str]:
    """Ports need no limit where there is no network, and have none where the kernel has no Landlock."""
    limits = {"--bind": box.ports, "--connect": box.connect}
    options = [
        word for name, ports in limits.items() if ports is not None for word in (name, ",".join(map(str, ports)))
    ]
    if not options or not box.network or found.landlock < LANDLOCK_PORTS:
        return []
    return [found.python, "-I", "-S", _FENCE, *options, "--"]


def _check(box: Box, found: Found) -> None:
    what = "no sandbox can be made here"
    if not found.works:
        raise ConfigError(what, why=found.why, fix='apt-get install bubblewrap, or set sandbox = "off"')
    if box.pids and not found.pids:
        why = f"processes cannot be hidden from each other: {found.why}"
        raise ConfigError(what, why=why, fix='run relit outside of this container, or set sandbox = "off"')
    if not box.network and not found.network:
        raise ConfigError(what, why=f"no network namespace: {found.why}", fix="leave the network on for this agent")


def limited(argv: Sequence[str], limits: Limits | None, found: Found) -> list[str]:
    """``argv`` under resource limits. Raises ``ConfigError`` where nothing can set them."""
    if limits is None:
        return list(argv)
    if not found.prlimit:
        raise ConfigError("limits cannot be set here", why="prlimit is not installed", fix="apt-get install util-linux")
    named = {"nofile": limits.nofile, "nproc": limits.nproc, "fsize": limits.fsize, "core": limits.core}
    return [found.prlimit, *(f"--{name}={most}" for name, most in named.items() if most is not None), "--", *argv]
