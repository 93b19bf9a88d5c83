from __future__ import annotations

from pathlib import Path

import pytest

from relit.cli.session import Session
from relit.settings import Environment


@pytest.fixture
def data(tmp_path: Path) -> Path:
    token = tmp_path / "token"
    token.write_text("own")
    token.chmod(0o600)
    return tmp_path


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:1", "http://localhost:7717", "http://[::1]:7717"])
def test_the_folders_token_is_for_servers_of_this_machine(data: Path, url: str | None) -> None:
    assert Session({"data": str(data), "server": url}, Environment({})).token() == "own"


@pytest.mark.parametrize(
    "url", ["http://elsewhere.example:7717", "http://127.0.0.1.elsewhere.example", "http://10.0.0.7"]
)
def test_the_folders_token_is_never_sent_elsewhere(data: Path, url: str) -> None:
    assert Session({"data": str(data), "server": url}, Environment({})).token() is None
    assert Session({"data": str(data)}, Environment({"RELIT_SERVER": url})).token() is None
    assert Session({"data": str(data), "server": url}, Environment({"RELIT_TOKEN": "theirs"})).token() == "theirs"
