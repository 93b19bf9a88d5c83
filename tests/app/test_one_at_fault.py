"""One agent whose settings or folders are at fault keeps no other from starting."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from relit.app import parts
from relit.app.budgets import Purse
from relit.app.specs import specs
from relit.app.turns import definitions
from relit.control.values import InstanceSpec
from relit.settings import Environment, load

CONFIG = """
[agents.bad]
kind = "command"
command = ["sleep", "1"]
ports = ["web"]
{more}
[agents.good]
kind = "command"
command = ["sleep", "1"]
ports = ["web"]
front = {{ web = "127.0.0.1:1" }}
"""


def made(folder: Path, more: str = "") -> dict[str, InstanceSpec]:
    path = folder / "relit.toml"
    path.write_text(CONFIG.format(more=more))
    settings = load(path, environment=Environment({"HOME": str(folder), "RELIT_DATA": str(folder / "data")}))
    return {each.name: each for each in specs(settings, Environment({"PATH": "/bin"}))}


def test_a_secret_that_is_not_set(tmp_path: Path) -> None:
    found = made(tmp_path, 'env = { T = "secret:foo" }')
    assert found["bad"].fault == "the secret foo is not set: relit secret set foo"
    assert [name for name, each in found.items() if each.fault] == ["bad"]
    assert found["bad"].hold is not None, "a person can keep it stopped"


@pytest.mark.parametrize("damaged", ["home", "run/door.json", "log"])
def test_a_folder_or_file_that_cannot_be_used(tmp_path: Path, damaged: str) -> None:
    place = tmp_path / "data" / "agents" / "bad" / damaged
    place.parent.mkdir(parents=True)
    place.write_text("")
    found = made(tmp_path)
    assert [name for name, each in found.items() if each.fault] == ["bad"]


def test_a_front_at_a_port_that_an_agent_has(tmp_path: Path) -> None:
    taken = made(tmp_path)["good"].env["PORT_WEB"]
    found = made(tmp_path, f'front = {{ web = "127.0.0.1:{taken}" }}')
    assert found["front"].fault == f"agents.bad.front.web cannot be 127.0.0.1:{taken}: another port"
    assert [name for name, each in found.items() if each.fault] == ["front"]


async def test_messages_reach_all_others(tmp_path: Path) -> None:
    path = tmp_path / "relit.toml"
    path.write_text('[agents.bad]\nkind = "hermes"\nmodel = "own"\n[agents.good]\nkind = "hermes"\nmodel = "own"\n')
    settings = load(path, environment=Environment({"HOME": str(tmp_path), "RELIT_DATA": str(tmp_path / "data")}))
    home = tmp_path / "data" / "agents" / "bad" / "home"
    home.parent.mkdir(parents=True)
    home.write_text("")
    async with parts.engine(settings) as engine, httpx.AsyncClient() as http:
        found = definitions(settings, http, Purse(settings, engine.store))
    assert [each.name for each in found] == ["good"]
