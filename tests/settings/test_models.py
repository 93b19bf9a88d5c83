"""Models, and which agent may do without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit.errors import ConfigError
from relit.settings import Environment, Settings, load, show


def read(folder: Path, text: str) -> Settings:
    path = folder / "relit.toml"
    path.write_text(text)
    return load(path, environment=Environment({"HOME": str(folder)}))


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return str(caught.value)


def test_a_model_needs_no_more_than_an_address(tmp_path: Path) -> None:
    settings = read(tmp_path, '[models.default]\nurl = "http://127.0.0.1:11434/v1"\n')
    model = settings.models["default"]
    assert (model.key, model.model, model.kind) == (None, "", "openai")
    assert (model.connect_ms, model.first_byte_ms, model.idle_ms) == (10_000, 600_000, 300_000)
    assert settings.gateway_url == "http://127.0.0.1:7718"


def test_a_key_is_not_shown(tmp_path: Path) -> None:
    settings = read(tmp_path, '[models.default]\nurl = "https://x"\nkey = "sk-1"\n')
    assert "sk-1" not in str(show.tree(settings))


@pytest.mark.parametrize("url", ["https://key@host/v1", "https://host/v1?key=1", "https://host/#x", "https://:80/"])
def test_a_url_is_an_address_and_no_more(tmp_path: Path, url: str) -> None:
    assert "is not a base address" in refused(tmp_path, f'[models.default]\nurl = "{url}"\n')


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    text = refused(tmp_path, '[gateway]\nlisten = "here"\n[models.default]\nurl = "https://x"\nidle = "0s"\n')
    assert 'relit.toml:2: gateway.listen: "here" is not an address' in text
    assert "relit.toml:5: models.default.idle: must be longer than nothing" in text
    assert "there is no such setting" in refused(tmp_path, '[models.default]\nurl = "https://x"\nkee = "y"\n')


@pytest.mark.parametrize("budget", ['day = "5"', 'day = "5 EUR"', 'day = "-5 USD"', "day = 5", 'week = "5 USD"'])
def test_a_budget_that_is_none_is_refused(tmp_path: Path, budget: str) -> None:
    text = refused(tmp_path, f'[models.default]\nurl = "https://x"\nbudget = {{ {budget} }}\n')
    assert "models.default.budget" in text


def test_an_agent_whose_kind_needs_a_model_has_one(tmp_path: Path) -> None:
    text = refused(tmp_path, '[models.defaults]\nurl = "https://x"\n[agents.a]\nkind = "hermes"\n')
    assert "agents.a.model: there is no [models.default]" in text
    assert "did you mean defaults?" in text
    read(tmp_path, '[agents.a]\nkind = "command"\ncommand = ["x"]\n')
    read(tmp_path, '[agents.a]\nentry = "x"\n')


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ('fallback = ["defualt"]', "did you mean default?"),
        ('fallback = ["other"]', "cannot stand in for itself"),
        ('fallback = ["claude"]', "speaks another protocol"),
        ("retries = 11", "models.other.retries"),
    ],
)
def test_who_stands_in_is_another_one_of_the_same_protocol(tmp_path: Path, table: str, why: str) -> None:
    text = refused(
        tmp_path,
        '[models.default]\nurl = "https://x"\n[models.claude]\nurl = "https://y"\nkind = "anthropic"\n'
        f'[models.other]\nurl = "https://z"\n{table}\n',
    )
    assert why in text


def test_who_replays_works_on_one_message_at_a_time(tmp_path: Path) -> None:
    table = '[models.default]\nurl = "https://x"\n[agents.a]\nkind = "hermes"\nresume = "replay"\n'
    read(tmp_path, table)
    assert "agents.a.resume" in refused(tmp_path, table + "mailbox = { concurrency = 2 }\n")


def test_only_who_a_message_starts_again_is_stopped_while_idle(tmp_path: Path) -> None:
    table = '[models.default]\nurl = "https://x"\n[agents.a]\nkind = "hermes"\n'
    found = read(tmp_path, table + 'idle = { then = "stop", after = "10m" }\n').agents["a"].idle
    assert (found.then, found.after) == ("stop", "10m")
    assert "agents.a.idle.after" in refused(tmp_path, table + 'idle = { after = "10m" }\n')
    command = '[agents.a]\nkind = "command"\ncommand = ["x"]\nidle = { then = "stop" }\n'
    assert "nothing would start it again" in refused(tmp_path, command)
    read(tmp_path, command + 'ports = ["web"]\nfront = { web = "127.0.0.1:8080" }\n')


def test_who_has_channels_of_its_own_is_not_parked(tmp_path: Path) -> None:
    table = '[models.default]\nurl = "https://x"\n[agents.a]\nkind = "openclaw"\nchannels = "inbound"\n'
    read(tmp_path, table)
    assert "agents.a.idle.then" in refused(tmp_path, table + 'idle = { then = "freeze" }\n')


def test_a_front_is_of_a_port_that_there_is_and_has_an_address_of_its_own(tmp_path: Path) -> None:
    table = '[agents.a]\nkind = "command"\ncommand = ["x"]\nports = ["web"]\n'
    assert read(tmp_path, table + 'front = { web = ":8080" }\n').agents["a"].front == {"web": ":8080"}
    assert 'no port "wep"' in refused(tmp_path, table + 'front = { wep = ":8080" }\n')
    assert "agents.a.front.web" in refused(tmp_path, table + 'front = { web = "8080" }\n')
    assert "server.listen" in refused(tmp_path, table + 'front = { web = "127.0.0.1:7717" }\n')
    other = '[agents.b]\nkind = "command"\ncommand = ["x"]\nports = ["web"]\nfront = { web = ":8080" }\n'
    assert "agents.a.front.web" in refused(tmp_path, table + 'front = { web = ":8080" }\n' + other)
    python = '[agents.a]\nentry = "x"\nfront = { web = ":8080" }\n'
    assert "has no ports" in refused(tmp_path, python)


def test_a_pool_is_of_code_and_says_how_many(tmp_path: Path) -> None:
    table = '[agents.a]\nentry = "x"\n'
    assert read(tmp_path, table + "pool = { max = 4 }\n").agents["a"].most_workers == 4
    assert "agents.a.pool.min" in refused(tmp_path, table + "pool = { min = 5, max = 4 }\n")
    assert "agents.a.workers" in refused(tmp_path, table + "workers = 2\npool = { max = 4 }\n")
    command = '[agents.a]\nkind = "command"\ncommand = ["x"]\npool = { max = 2 }\n'
    assert 'kind = "python"' in refused(tmp_path, command)
