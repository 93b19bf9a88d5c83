"""Clients find this machine's server as the command line does."""

from __future__ import annotations

from pathlib import Path

import pytest

import relit
from relit.errors import ConfigError
from relit.settings.noted import forget_url, note_start, note_url, noted_start, noted_url


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder in which a server with a token runs; nothing else is set."""
    for name in ("RELIT_SERVER", "RELIT_TOKEN", "RELIT_CONFIG", "RELIT_SERVER__LISTEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RELIT_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("own\n")
    return tmp_path


def _token(client: relit.Client) -> str:
    return client._link._token


def test_the_address_that_the_server_noted_is_used(data: Path) -> None:
    note_url(data / "run", "http://127.0.0.1:9")
    client = relit.connect()
    assert (client.url, _token(client)) == ("http://127.0.0.1:9", "own")


def test_without_a_note_relit_toml_says_where(data: Path) -> None:
    note_url(data / "run", "http://127.0.0.1:9")
    forget_url(data / "run")
    forget_url(data / "run")
    assert noted_url(data) is None
    (data / "relit.toml").write_text('[server]\nlisten = "127.0.0.1:8"\n')
    assert relit.connect().url == "http://127.0.0.1:8"


def test_the_environment_is_stronger(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note_url(data / "run", "http://127.0.0.1:9")
    monkeypatch.setenv("RELIT_SERVER", "http://127.0.0.1:7")
    monkeypatch.setenv("RELIT_TOKEN", "other")
    client = relit.connect()
    assert (client.url, _token(client)) == ("http://127.0.0.1:7", "other")


def test_the_folders_token_is_not_sent_to_another_address(data: Path) -> None:
    assert _token(relit.connect("http://relit.example")) == ""
    assert _token(relit.connect("http://relit.example", "theirs")) == "theirs"


def test_a_token_that_others_can_read_is_refused(data: Path) -> None:
    (data / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        relit.connect()


def test_what_was_started_last_is_the_hint_for_starting_again(data: Path) -> None:
    assert noted_start(data) == "relit up"
    note_start(data / "run", ["relit", "up", "my module.py"])
    assert noted_start(data) == "relit up 'my module.py'"
