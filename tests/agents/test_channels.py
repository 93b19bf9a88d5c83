"""Where an agent waits for messages on connections of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit.agents import channels
from relit.agents.kind import builtin


def openclaw(home: Path, text: str) -> list[str]:
    (home / "state").mkdir(exist_ok=True)
    (home / "state" / "openclaw.json").write_text(text)
    return channels.found(home, builtin()["openclaw"], {})


def test_channels_that_are_there_and_not_switched_off_count(tmp_path: Path) -> None:
    said = """{channels: {
        telegram: {botToken: 'x'},  // on, since it is there
        discord: {enabled: false, token: 'y'},
        slack: {},
        defaults: {heartbeatVisibility: {showOk: false}},
        modelByChannel: {telegram: {x: 'y'}},
    }}"""
    assert openclaw(tmp_path, said) == ["channels.telegram"]


@pytest.mark.parametrize("text", ["{}", "{channels: {}}", "{channels: 3}", "{ rubbish", ""])
def test_nothing_is_found_where_nothing_is_said(tmp_path: Path, text: str) -> None:
    assert openclaw(tmp_path, text) == []


def test_without_a_home_nothing_is_found(tmp_path: Path) -> None:
    assert [channels.found(tmp_path / "none", kind, {}) for kind in builtin().values()] == [[], []]


def test_variables_of_a_file_and_of_the_agents_table_count(tmp_path: Path) -> None:
    home, hermes = tmp_path / "home", builtin()["hermes"]
    home.mkdir()
    (home / "config.yaml").write_text("platforms:\n  api_server: {enabled: true}\n  matrix: {enabled: true}\n  x: {}\n")
    (home / ".env").write_text("# TELEGRAM_BOT_TOKEN=old\nexport SLACK_BOT_TOKEN='xoxb'\nWHATSAPP_ENABLED=false\n")
    found = channels.found(tmp_path, hermes, {"TELEGRAM_BOT_TOKEN": "secret:telegram"})
    assert sorted(found) == ["SLACK_BOT_TOKEN", "TELEGRAM_BOT_TOKEN", "platforms.matrix"]
