"""``relit node setup-swap`` says what it would do, and does nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from relit.cli.main import cli


@pytest.mark.parametrize("name", ["swap", "../swap"])
def test_a_file_is_meant_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    words = ["--data", str(tmp_path / "data"), "--json", "node", "setup-swap", "--size", "1M", "--file", name]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["done"], told["bytes"]) == (False, 1 << 20)
    path = (here / name).resolve()
    assert told["steps"][0]["argv"] == ["fallocate", "-l", str(1 << 20), str(path)]
    assert not path.exists()


def test_the_screen_shows_each_command(tmp_path: Path) -> None:
    words = ["--data", str(tmp_path / "data"), "node", "setup-swap", "--size", "1M", "--file", str(tmp_path / "swap")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    for each in ("COMMAND", "fallocate", "mkswap", "swapon"):
        assert each in result.output
