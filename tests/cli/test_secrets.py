"""``relit secret``: the vault, from the command line to the agents that use it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from agent_house import AgentHouse
from cli_house import until

from relit.cli import exits

CONFIG = """
[agents.tick]
kind = "command"
command = ["sh", "-c", "printenv KEY > $RELIT_HOME/key; exec sleep 1000"]
env = { KEY = "secret:tick" }

[models.default]
url = "http://127.0.0.1:9/v1"
key = "secret:provider"
"""


@pytest.fixture
def house(tmp_path: Path) -> AgentHouse:
    made = AgentHouse(tmp_path)
    made.config.write_text(CONFIG)
    return made


def put(house: AgentHouse, name: str, value: str) -> None:
    done = house.run("secret", "set", name, text=f"{value}\n")
    assert done.exit_code == 0, done.output


def places(house: AgentHouse) -> dict[str, str]:
    return {each["name"]: each["place"] for each in house.json("secret", "ls")["secrets"]}


def file_of(house: AgentHouse, text: str) -> Path:
    house.data.mkdir(mode=0o700, exist_ok=True)
    place = house.data / "secrets.toml"
    place.touch(mode=0o600)
    place.write_text(text)
    return place


def test_what_relit_toml_wants_is_listed_and_asked_for(house: AgentHouse) -> None:
    assert places(house) == {"provider": "missing", "tick": "missing"}
    checked = house.run("config", "check")
    assert checked.exit_code == exits.CONFIG
    assert "relit secret set" in checked.output
    put(house, "provider", "sk-1")
    put(house, "tick", "tick-secret-1")
    assert places(house) == {"provider": "vault", "tick": "vault"}
    assert house.run("config", "check").exit_code == 0


def test_no_value_is_shown_or_lies_in_plain_sight(house: AgentHouse) -> None:
    put(house, "provider", "sk-very-secret")
    told = "".join(
        house.run(*words).output for words in (["secret", "ls"], ["secret", "audit"], ["config", "show", "--all"])
    )
    assert "sk-very-secret" not in told
    for place in house.data.rglob("*"):
        if place.is_file():
            assert b"sk-very-secret" not in place.read_bytes(), place


def test_every_use_is_in_the_trail(house: AgentHouse) -> None:
    put(house, "provider", "sk-1")
    put(house, "tick", "tick-secret-1")
    house.run("config", "check")
    entries = house.json("secret", "audit", "tick")["entries"]
    assert [(each["what"], each["who"], each["whom"]) for each in entries] == [
        ("read", "config check", "agents.tick"), ("set", "relit secret", ""),
    ]  # fmt: skip


def test_what_is_in_use_is_not_removed_by_chance(house: AgentHouse) -> None:
    put(house, "tick", "tick-secret-1")
    refused = house.run("--yes", "secret", "rm", "tick")
    assert refused.exit_code == exits.CONFLICT
    assert "agents.tick" in refused.output
    assert house.run("--yes", "secret", "rm", "tick", "--force").exit_code == 0
    assert house.run("--yes", "secret", "rm", "tick", "--force").exit_code == exits.NOT_FOUND


def test_the_file_moves_into_the_vault(house: AgentHouse) -> None:
    place = file_of(house, 'provider = "sk-1"\ntick = "old"\n')
    put(house, "tick", "new")
    assert places(house) == {"provider": "secrets.toml", "tick": "vault"}
    assert house.run("secret", "import").exit_code == 0
    assert not place.exists()
    assert places(house) == {"provider": "vault", "tick": "vault"}


def test_what_opens_the_vault_stays_in_the_file(house: AgentHouse) -> None:
    place = file_of(house, 'master = "horse \\"x\\""\nprovider = "sk-1"\n')
    house.config.write_text(CONFIG + '[vault]\npassphrase = "secret:master"\n')
    assert house.run("secret", "set", "master", text="x").exit_code == exits.CONFLICT
    assert house.run("secret", "import").exit_code == 0
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert house.run("secret", "rotate").exit_code == 0
    assert places(house) == {"master": "secrets.toml", "provider": "vault", "tick": "missing"}


def test_from_the_key_to_a_passphrase_and_to_another(house: AgentHouse, tmp_path: Path) -> None:
    put(house, "provider", "sk-1")
    put(house, "tick", "tick-secret-1")
    house.environment["RELIT_VAULT__PASSPHRASE"] = "horse"
    assert "does not open the vault" in house.run("config", "check").output
    assert house.run("secret", "rotate").exit_code == 0
    assert house.run("config", "check").exit_code == 0
    (tmp_path / "was").write_text("horse\n")
    house.environment["RELIT_VAULT__PASSPHRASE"] = "house"
    assert house.run("config", "check").exit_code != 0
    assert house.run("secret", "rotate", "--was", str(tmp_path / "was")).exit_code == 0
    assert house.run("config", "check").exit_code == 0


@pytest.mark.slow
def test_an_agent_and_the_gateway_use_a_new_value_at_once(house: AgentHouse) -> None:
    put(house, "provider", "sk-1")
    put(house, "tick", "tick-secret-1")
    house.up()
    try:
        key = house.home("tick") / "key"
        until(lambda: key.exists() and key.read_text() == "tick-secret-1\n")
        before = {each["name"]: each["pid"] for each in pids(house)}
        put(house, "tick", "tick-secret-2")
        until(lambda: key.read_text() == "tick-secret-2\n")
        put(house, "provider", "sk-2")
        until(lambda: {each["name"]: each["pid"] for each in pids(house)}["gateway"] not in (None, before["gateway"]))
        after = {each["name"]: each["pid"] for each in pids(house)}
        assert after["volumes"] is not None
        assert "tick-secret-1" not in (house.data / "run" / "node.json").read_text()
    finally:
        house.down()


def pids(house: AgentHouse) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((house.data / "run" / "node.json").read_bytes())["instances"]
    return found
