"""Lives that stand ready to follow others: what the keeper needs to start them at once. Standard library only.

A client that knows already what it will do when a life ends says so in advance (``stand_by``). With a ``gate`` the
program is started then and there, and reads a byte from that descriptor before it goes on: bubblewrap makes the sandbox
first (``--block-fd``). Any other program costs nothing until it is started.
"""

import os

from relit.node.keeper_lives import Life
from relit.node.keeper_requests import Peer, Refused


class Spare:
    """One that stands ready for when the life ``after`` ends, unless by one of the exit codes ``unless``."""

    def __init__(self, life: Life, request: dict[str, object], peer: Peer, unless: list[int]) -> None:
        self.life, self.request, self.peer = life, request, peer
        self.after = request["after"]
        self.unless = frozenset(unless)
        self.armed = True  # false: only a start with its key starts it

    @property
    def hold(self) -> object:
        """The file whose presence keeps it from starting."""
        return self.request.get("hold")

    def follows(self, ended: Life) -> bool:
        """Whether it is to start by itself now."""
        return self.armed and ended.key == self.after and ended.code not in self.unless


def gate() -> int:
    """A pipe that is its own other end: who reads from it waits until a byte comes, even when its writer is gone."""
    reader, writer = os.pipe()
    try:
        return os.open(f"/proc/self/fd/{reader}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(reader)
        os.close(writer)


def descriptor(request: dict[str, object]) -> int | None:
    """The field ``gate``: where the program will look for its byte."""
    value = request.get("gate")
    if value is not None and (not isinstance(value, int) or not 3 <= value < 256):
        raise Refused("request", "gate must be a descriptor from 3 on")
    return value


def codes(request: dict[str, object]) -> list[int]:
    """The field ``unless``."""
    value = request.get("unless", [])
    if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
        raise Refused("request", "unless must be a list of exit codes")
    return value
