"""What an instance may see and use of its machine. Values only: ``relit.drivers`` makes them true."""

from __future__ import annotations

import msgspec


class Box(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A sandbox: the machine's files, read-only, and of them only what is not hidden. Paths are absolute.

    ``home`` stays at its own path (``stand_in``: another folder is seen there instead, as for a clone); ``tmp`` is a
    private folder that stands in for ``/tmp`` and ``/var/tmp``. Folders in ``hide`` are empty, files in it cannot be
    opened (relit's data folder above all, and what else is nobody's business: the operator's home, what only root may
    read when relit is root); ``home``, ``write`` and ``read`` below them are there. Of nested paths the deeper one
    counts. What of ``read`` and ``hide`` is not there when it starts is left out: a box is the same whatever comes and
    goes. ``/run``, with the sockets of the machine's services, is always hidden.

    ``ports`` and ``connect``: TCP ports that it may listen on and connect to (0: whatever the kernel picks); ``None``
    is no limit. Without ``network`` it has a loopback of its own and nothing else. ``pids``: it sees and signals its
    own processes only.
    """

    home: str
    tmp: str
    stand_in: str = ""
    read: list[str] = []
    write: list[str] = []
    hide: list[str] = []
    ports: list[int] | None = None
    connect: list[int] | None = None
    pids: bool = True
    network: bool = True


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Resource limits of each process of an instance, soft and hard; ``None`` leaves the machine's.

    They can be lowered, not raised. ``nproc`` counts all processes of the user, those of one box where it has a user
    namespace of its own (relit is not root), and is not enforced for root. ``fsize`` is in bytes.
    """

    nofile: int | None = None
    nproc: int | None = None
    fsize: int | None = None
    core: int = 0
