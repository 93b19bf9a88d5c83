"""What is killed, and when: drawn before the storm begins, so that a seed tells the whole of it. Pure."""

from __future__ import annotations

from random import Random
from typing import Literal

import msgspec

Role = Literal["worker", "server", "node"]


class Strike(msgspec.Struct, frozen=True):
    """Kill a process of ``role`` once this share of the work has begun, and ``pause`` seconds more have passed."""

    share: float
    role: Role
    pause: float


def draw(kills: int, chance: Random) -> list[Strike]:
    """``kills`` strikes at random moments: a fifth at the server, one in ten at the node, the rest at workers."""
    roles: list[Role] = []
    for role, count in _counts(kills):
        roles += [role] * count
    chance.shuffle(roles)
    shares = sorted(chance.uniform(0.04, 0.85) for _ in roles)
    return [Strike(share, role, chance.uniform(0.0, 1.5)) for share, role in zip(shares, roles, strict=True)]


def _counts(kills: int) -> list[tuple[Role, int]]:
    nodes = kills // 10
    servers = max(1, kills // 5) if kills > 1 else 0
    return [("node", nodes), ("server", servers), ("worker", kills - nodes - servers)]
