"""An agent behind a front: woken by taking its file away, but not before its time, and never at its own port."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit.app.front import LocalResident, stamp
from relit.errors import ConfigError
from relit.lib.clock import SYSTEM_CLOCK
from relit.node import parked
from relit.node.parked import Parked
from relit.settings import Environment, load

AGENT = '[agents.desk]\nkind = "command"\ncommand = ["x"]\nports = ["web"]\nfront = {{ web = "127.0.0.1:{port}" }}\n'


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    return tmp_path / "hold"


def park(hold: Path, deed: str) -> Path:
    place = parked.beside(str(hold))
    parked.write(place, Parked(reason="a test", deed=deed, at_ms=SYSTEM_CLOCK.now_ms()))  # type: ignore[arg-type]
    return place


def test_one_that_makes_room_in_good_order_is_woken(hold: Path) -> None:
    place, resident = park(hold, "stop"), LocalResident(hold)
    assert resident.rests()
    resident.wake()
    assert not place.exists()
    assert not resident.rests()
    resident.wake()


def test_one_that_was_killed_for_want_of_memory_waits_for_its_time(hold: Path) -> None:
    place = park(hold, "kill")
    LocalResident(hold).wake()
    assert place.exists()


def test_a_use_is_seen_by_its_node(hold: Path) -> None:
    assert not parked.is_used(str(hold))
    LocalResident(hold).used()
    assert parked.is_used(str(hold))


def test_one_that_a_person_stopped_refuses(hold: Path) -> None:
    resident = LocalResident(hold)
    assert resident.refusal() is None
    hold.write_text("stopped by hand\n")
    assert resident.refusal() == "it is stopped: stopped by hand"


def test_a_front_at_an_agents_own_port_is_refused(tmp_path: Path) -> None:
    def settings(port: int) -> str:
        (tmp_path / "relit.toml").write_text(AGENT.format(port=port))
        found = load(tmp_path / "relit.toml", environment=Environment({"RELIT_DATA": str(tmp_path / "data")}))
        return stamp(found)

    first = settings(8080)
    assert settings(8081) != first
    own = int(
        (tmp_path / "data" / "agents" / "desk" / "run" / "door.json").read_text().split('"web":')[1].split("}")[0]
    )
    with pytest.raises(ConfigError, match="listens on that port itself"):
        settings(own)
