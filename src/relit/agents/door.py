"""The ports and tokens of one agent, and which runtime it has: chosen once, kept in ``run/door.json`` (0600) of its
folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from relit.errors import Conflict

FIRST, COUNT = 20_000, 10_000  # where agents' ports are looked for: below those that the kernel gives out
_TOKEN_BYTES = 32


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """By name. ``runtime``: the kind and version that it has; empty where nothing is installed."""

    ports: dict[str, int] = {}
    tokens: dict[str, str] = {}
    runtime: str = ""


def place_of(folder: Path) -> Path:
    """The file, in an agent's folder."""
    return folder / "run" / "door.json"


def read(folder: Path) -> Door:
    """What is known; empty when nothing is."""
    try:
        return msgspec.json.decode(place_of(folder).read_bytes(), type=Door)
    except FileNotFoundError:
        return Door()


def settle(folder: Path, ports: Sequence[str], tokens: Sequence[str], runtime: str = "") -> Door:
    """What is known, with this ``runtime``, and whatever is missing chosen now. Ports stay the same from then on: an
    agent's clients know them. Conflict when none is free."""
    known = read(folder)
    missing = [name for name in ports if name not in known.ports]
    taken = ports_of_all(folder.parent) if missing else set()
    chosen = dict(known.ports)
    for name in missing:
        chosen[name] = _free(taken, f"{folder}/{name}")
        taken.add(chosen[name])
    made = {name: secrets.token_urlsafe(_TOKEN_BYTES) for name in tokens if name not in known.tokens}
    door = Door(ports=chosen, tokens=known.tokens | made, runtime=runtime or known.runtime)
    if door != known:
        _write(place_of(folder), msgspec.json.encode(door))
    return door


def spare(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """Ports for a while, beside those of all agents; nothing is noted."""
    taken, found = ports_of_all(folder.parent), dict[str, int]()
    for name in names:
        found[name] = _free(taken, f"{folder}/{name}/spare")
        taken.add(found[name])
    return found


def take(folder: Path, ports: Mapping[str, int], tokens: Mapping[str, str]) -> Door:
    """Those of an agent that had a door before it came to relit, where no other agent has the port."""
    taken = ports_of_all(folder.parent)
    door = Door(ports={name: port for name, port in ports.items() if port not in taken}, tokens=dict(tokens))
    _write(place_of(folder), msgspec.json.encode(door))
    return door


def ports_of_all(agents: Path) -> set[int]:
    """Ports of all agents here, whether they run or not."""
    found: set[int] = set()
    for each in agents.glob("*/run/door.json"):
        with contextlib.suppress(msgspec.MsgspecError, OSError):  # a damaged one is told of its own agent
            found.update(read(each.parent.parent).ports.values())
    return found


def _free(taken: Collection[int], seed: str) -> int:
    """Looked for from a place of its own on: other installations on this machine must not choose the same ones."""
    first = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=4).digest()) % COUNT
    for port in (FIRST + (first + step) % COUNT for step in range(COUNT)):
        if port not in taken and is_free(port):
            return port
    raise Conflict(
        f"no port from {FIRST} to {FIRST + COUNT - 1} is free for an agent",
        why="each agent with a door of its own needs one",
        fix="relit agent rm NAME frees those of an agent",
    )


def is_free(port: int) -> bool:
    """Whether nobody listens there. Connections of the dead that linger do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    draft.replace(path)
