"""`server.codec` names what seals payloads."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit.app import modules
from relit.errors import ConfigError
from relit.settings import Environment, Settings, load

MODULE = """
class Reversed:
    name = "reversed"
    def seal(self, data): return data[::-1]
    def open(self, data): return data[::-1]
codec = Reversed()
plain = object()
"""


def _settings(folder: Path, codec: str) -> Settings:
    (folder / "relit.toml").write_text(f'[server]\ncodec = "{codec}"\n')
    return load(folder / "relit.toml", environment=Environment({}), data=folder / "data")


def test_the_named_object_is_the_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sealer_good.py").write_text(MODULE)
    found = modules.codec(_settings(tmp_path, "sealer_good:codec"))
    assert found is not None
    assert found.open(found.seal(b"abc")) == b"abc"


@pytest.mark.parametrize("wrong", ["sealer_bad", "sealer_bad:nothing", "sealer_bad:plain", "no_such_module:codec"])
def test_what_is_not_a_codec_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sealer_bad.py").write_text(MODULE)
    with pytest.raises(ConfigError):
        modules.codec(_settings(tmp_path, wrong))
