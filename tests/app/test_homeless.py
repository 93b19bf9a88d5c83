"""An agent whose files are still to be laid down does not start on an empty home."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit.app import specs
from relit.app.holding import hold_homeless
from relit.app.homes import Mounts
from relit.app.instances import hold_of, home_of, homes_of, join, make_home
from relit.errors import Conflict
from relit.settings import Environment, Settings, load
from relit.volumes import due
from relit.volumes.due import Due

CONFIG = '[agents.ada]\nkind = "command"\ncommand = ["true"]\n'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "relit.toml").write_text(CONFIG)
    return load(tmp_path / "relit.toml", data=tmp_path / "data")


def lost(settings: Settings, agent: str) -> Path:
    """A home that was to be laid when its process was killed."""
    home = home_of(settings, agent)
    due.note(home, Due(volume="v", number=1, newest=1))
    return home


def test_nobody_makes_a_home_for_it(settings: Settings) -> None:
    home = lost(settings, "ada")
    [spec] = [each for each in specs.specs(settings, Environment({"PATH": "/bin"})) if each.name == "ada"]
    assert spec.env["RELIT_HOME"] == str(home)
    with pytest.raises(Conflict, match="ada has no home yet"):
        make_home(settings, "ada")
    assert not home.exists()


def test_it_is_held_before_anything_starts(settings: Settings) -> None:
    lost(settings, "ada")
    lost(settings, "bob")
    join(settings, "module", ["bob"])
    make_home(settings, "eve")
    hold_homeless(settings)
    held = [owner for owner in ("ada", "bob", "eve", "module") if hold_of(settings, owner).exists()]
    assert held == ["ada", "bob", "module"]
    assert hold_of(settings, "module").read_text() == "its files are to be laid down first\nbob\n"


def test_a_hold_for_another_agent_is_left_to_it(settings: Settings) -> None:
    lost(settings, "bob")
    join(settings, "ada", ["bob"])
    hold = hold_of(settings, "ada")
    hold.parent.mkdir(parents=True)
    hold.write_text("restore of snapshot 3\nada\n")
    hold_homeless(settings)
    assert hold.read_text() == "restore of snapshot 3\nada\n"


def test_it_is_known_to_who_keeps_the_volumes_though_nothing_else_of_it_is_there(settings: Settings) -> None:
    lost(settings, "bob")
    assert homes_of(settings) == ["ada", "bob"]
    mounts = Mounts(settings)()
    assert [mounts[name].declared for name in ("ada", "bob")] == [True, False]
