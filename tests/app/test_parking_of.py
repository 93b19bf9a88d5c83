"""Who may be parked while idle."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit.app.agents import parking_of
from relit.app.instances import home_of
from relit.settings import Environment, Settings, load

FILE = """
[models.default]
url = "https://x"

[agents.claw]
kind = "openclaw"
idle = { then = "freeze", after = "10m" }
"""


def settings_of(folder: Path, more: str = "") -> Settings:
    (folder / "relit.toml").write_text(FILE + more)
    settings = load(folder / "relit.toml", environment=Environment({}), data=folder / "data")
    state = home_of(settings, "claw") / "state"
    state.mkdir(parents=True)
    (state / "openclaw.json").write_text('{"channels": {"telegram": {"botToken": "x"}}}')
    return settings


@pytest.mark.parametrize(("more", "then"), [("", "keep"), ('channels = "none"\n', "freeze")])
def test_one_with_a_channel_stays_awake_unless_it_may_be_deaf(tmp_path: Path, more: str, then: str) -> None:
    parking = parking_of(settings_of(tmp_path, more), "claw")
    assert (parking.then, parking.after_ms) == (then, None if then == "keep" else 600_000)


def test_one_without_a_channel_is_parked(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    (home_of(settings, "claw") / "state" / "openclaw.json").write_text("{}")
    assert parking_of(settings, "claw").then == "freeze"
