"""The gateway as the settings say: routes, keys, and tokens at the agents' doors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from relit.agents import door
from relit.app.gateway import doors, routes
from relit.errors import ConfigError
from relit.gateway.canned import answer, question
from relit.gateway.routes import Patience
from relit.settings import Environment, Settings, load

CONFIG = """
[gateway]
listen = "127.0.0.1:0"
[models.default]
url = "https://models.example/v1"
key = "secret:openai"
model = "big"
idle = "90s"
[models.claude]
url = "https://claude.example"
kind = "anthropic"
[agents.scout]
kind = "command"
command = ["true"]
[agents.poet]
kind = "command"
command = ["true"]
model = "claude"
"""


def settings(folder: Path, secret: str = 'openai = "k"') -> Settings:
    path = folder / "relit.toml"
    path.write_text(CONFIG)
    data = folder / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    (data / "secrets.toml").touch(mode=0o600)
    (data / "secrets.toml").write_text(secret)
    return load(path, environment=Environment({"HOME": str(folder), "RELIT_DATA": str(data)}))


def give(folder: Path, agent: str, token: str) -> Path:
    """A token at an agent's door."""
    place = door.place_of(folder / "data" / "agents" / agent)
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_suffix(".new")
    draft.write_text(json.dumps({"ports": {}, "tokens": {"gateway": "other", "model": token}}))
    draft.replace(place)
    return place


def test_routes_are_the_models_with_their_keys(tmp_path: Path) -> None:
    found = routes(settings(tmp_path))
    assert (found["default"].key, found["default"].model, found["default"].kind) == ("k", "big", "openai")
    assert found["default"].patience == Patience(connect=10, first_byte=600, idle=90)
    assert (found["claude"].key, found["claude"].kind) == (None, "anthropic")
    assert "'k'" not in repr(found)


@pytest.mark.parametrize(
    ("url", "more", "private"),
    [
        ("http://127.0.0.1:11434/v1", "", True), ("http://localhost:1/v1", "", True), ("http://[::1]/v1", "", True),
        ("http://ollama:11434/v1", "", False), ("http://ollama:11434/v1", "private = true", True),
        ("http://127.0.0.1/v1", "private = false", False), ("https://api.openai.com/v1", "", False),
    ],
)  # fmt: skip
def test_only_what_says_so_may_lie_on_this_machine(tmp_path: Path, url: str, more: str, private: bool) -> None:
    path = tmp_path / "relit.toml"
    path.write_text(f'[models.one]\nurl = "{url}"\n{more}\n')
    loaded = load(path, environment=Environment({"HOME": str(tmp_path), "RELIT_DATA": str(tmp_path / "data")}))
    assert routes(loaded)["one"].private is private


def test_a_key_that_is_not_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"models\.default.*openai"):
        routes(settings(tmp_path, ""))


def test_clones_have_a_token_of_their_own(tmp_path: Path) -> None:
    place = give(tmp_path, "scout", "one")
    place.write_text(json.dumps({"ports": {}, "tokens": {"model": "one", "clone": "two"}}))
    callers = doors(settings(tmp_path))
    found = [callers.find(each) for each in ("one", "two")]
    assert [(each.agent, each.clone) for each in found if each] == [("scout", False), ("scout", True)]


def test_tokens_are_found_at_the_doors(tmp_path: Path) -> None:
    give(tmp_path, "scout", "first")
    callers = doors(settings(tmp_path))
    found = callers.find("first")
    assert found is not None
    assert (found.agent, found.route) == ("scout", "default")
    assert "first" not in repr(found)
    assert callers.find("two") is None
    assert callers.find("other") is None  # what opens the agent's own door opens nothing here


def test_a_door_that_changes_is_read_again(tmp_path: Path) -> None:
    callers = doors(settings(tmp_path))
    assert callers.find("one") is None
    give(tmp_path, "poet", "one")
    give(tmp_path, "scout", "two")
    assert [each and each.route for each in (callers.find("one"), callers.find("two"))] == ["claude", "default"]
    give(tmp_path, "poet", "new")
    assert callers.find("one") is None  # replaced: good no longer
    assert callers.find("new") is not None
    give(tmp_path, "poet", "last").unlink()
    assert callers.find("new") is None
    assert callers.find("two") is not None


def test_a_broken_door_shuts_out_its_own_agent_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    give(tmp_path, "scout", "one")
    give(tmp_path, "poet", "two").write_text("{")
    callers = doors(settings(tmp_path))
    assert callers.find("one") is not None
    assert callers.find("two") is None
    assert "its agent cannot call its model" in caplog.text


@pytest.mark.slow
def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    settings(tmp_path)
    give(tmp_path, "scout", "one")
    ready = tmp_path / "ready"
    environment = {**os.environ, "RELIT_DATA": str(tmp_path / "data"), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "relit.cli", "--json", "--config", str(tmp_path / "relit.toml"), "gateway"]
    with subprocess.Popen(
        [*command, "--ready-file", str(ready)], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["listen"]
        assert ready.exists()
        asked = {"messages": [{"role": "user", "content": question("7")}]}
        told = httpx.post(
            f"{url}/openai/v1/chat/completions", json=asked, headers={"Authorization": "Bearer one"}, timeout=10
        )
        assert told.json()["choices"][0]["message"]["content"] == answer("7")
        assert set(httpx.get(f"{url}/healthz", timeout=10).json()["routes"]) == {"default", "claude"}
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 3


@pytest.mark.slow
def test_a_second_gateway_on_the_same_data_is_refused(tmp_path: Path) -> None:
    settings(tmp_path)
    environment = {**os.environ, "RELIT_DATA": str(tmp_path / "data"), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "relit.cli", "--config", str(tmp_path / "relit.toml"), "gateway"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "listening" in process.stdout.readline()
        second = subprocess.run(
            [*command, "--listen", "127.0.0.1:0"], env=environment, capture_output=True, text=True, check=False
        )
        assert second.returncode == 6
        assert "another gateway serves" in second.stderr
        process.terminate()
        assert process.wait(10) == 0
