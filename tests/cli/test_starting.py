"""What ``relit up`` waits for, and what not."""

from __future__ import annotations

import pytest

from relit.cli.starting import _settled
from relit.control.values import PARKED, WAITS, InstanceState, InstanceStatus


@pytest.mark.parametrize(
    ("state", "reason", "settled"),
    [
        ("ready", "", True),
        ("starting", "", False),
        ("starting", f"{WAITS}it needs 900 MB", True),
        ("stopped", f"{PARKED}memory was amber", True),
        ("frozen", f"{PARKED}memory was amber", True),
        ("backing-off", "it failed", False),
    ],
)
def test_it_does_not_wait_for_those_that_wait_or_make_room(state: InstanceState, reason: str, settled: bool) -> None:
    assert _settled(InstanceStatus(name="a", state=state, reason=reason)) is settled
