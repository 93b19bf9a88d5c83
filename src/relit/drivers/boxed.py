"""A launch in a box: its paths are looked at, its command is wrapped."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

import msgspec

from relit.control.box import Box
from relit.drivers.base import Launch
from relit.drivers.machine import Found
from relit.drivers.sandbox import View, limited, view, wrap
from relit.errors import ConfigError, StartFailed

_RESOLVER = "/etc/resolv.conf"


def boxed(launch: Launch, found: Found) -> Launch:
    """The same life with nothing left to do for its box and limits.

    Raises ``ConfigError`` when this machine cannot make the box or a folder of it is not there, ``StartFailed`` when
    program or working folder cannot be seen inside.
    """
    argv = limited(launch.argv, launch.limits, found)
    if launch.box is None:
        _see(launch, View([]))
        return msgspec.structs.replace(launch, argv=argv, limits=None)
    box = settle(launch.box, found)
    files = {path for path in box.hide if not os.path.isdir(path)}
    _see(launch, view(box, found, files))
    argv = wrap(argv, box, found, cwd=launch.cwd, files=files)
    return msgspec.structs.replace(launch, argv=argv, cwd="/", box=None, limits=None)


def settle(box: Box, found: Found) -> Box:
    """The box with real paths: links resolved, everything there. What is to be read and is not there, and what is to be
    hidden and cannot be read anyway, is left out. Raises ``ConfigError``."""
    resolver = os.path.realpath(_RESOLVER)
    names = [resolver] if any(resolver.startswith(folder + "/") for folder in found.sockets) else []
    return msgspec.structs.replace(
        box,
        home=_own(box.home, "home"),
        tmp=_own(box.tmp, "tmp"),
        stand_in=_own(box.stand_in, "stand_in") if box.stand_in else "",
        read=_there(box.read, "read", os.F_OK) + [path for path in names if os.path.exists(path)],
        write=[_real(path, "write") for path in box.write],
        hide=_there(box.hide, "hide", os.R_OK),
    )


def _there(paths: Sequence[str], name: str, how: int) -> list[str]:
    return [real for path in paths if os.access(real := _plain(path, name), how)]


def _own(path: str, name: str) -> str:
    """A folder that is the agent's alone. It may not be a link: whoever could put one there chooses what is bound."""
    if os.path.islink(path.rstrip("/")):
        raise _wrong(path, name, "it is a symbolic link", "put a folder in its place")
    return _folder(path, name)


def _folder(path: str, name: str) -> str:
    real = _real(path, name)
    if not os.path.isdir(real):
        raise _wrong(path, name, "it is not a folder", f"name a folder under {name}")
    return real


def _real(path: str, name: str) -> str:
    real = _plain(path, name)
    if not os.path.exists(real):
        raise _wrong(path, name, "it does not exist", f"create it, or take it out of {name}")
    return real


def _plain(path: str, name: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise _wrong(path, name, "it is not an absolute path", f"write it from / on, under {name}")
    real = os.path.realpath(path)
    if real == "/":
        raise _wrong(path, name, "it is the root of all files", f"name a folder below it under {name}")
    return real


def _wrong(path: str, name: str, why: str, fix: str) -> ConfigError:
    return ConfigError(f"no sandbox can be made with {path!r} as {name}", why=why, fix=fix)


# --- what must be seen from inside ---------------------------------------------------------------------------------


def _see(launch: Launch, seen: View) -> None:
    """Raises ``StartFailed`` when its program or working folder is not there. Else only its log would tell."""
    try:
        cwd = seen.behind(os.path.realpath(launch.cwd))
        if cwd is None or not os.path.isdir(cwd):
            raise StartFailed(f"{launch.name} is not started", why=f"there is no folder {launch.cwd} for it")
        program = launch.argv[0] if launch.argv else ""
        folders = [""] if "/" in program else launch.env.get("PATH", os.defpath).split(os.pathsep)
        if not any(_runs(os.path.join(launch.cwd, folder, program), seen) for folder in folders):
            raise StartFailed(f"{launch.name} is not started", why=f"there is no program {program} for it")
    except ValueError as error:
        raise StartFailed(f"{launch.name} is not started", why=str(error)) from error


def _runs(path: str, seen: View) -> bool:
    file = seen.behind(os.path.realpath(path))
    return file is not None and os.access(file, os.X_OK) and stat.S_ISREG(os.stat(file).st_mode)
