"""The whole demo, small: real processes, real kills, every bound kept."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from relit.demo import figures, prompt
from relit.demo.main import Demo
from relit.demo.model import ScriptedModel
from relit.demo.serving import Served

NAMES = ["anyio", "certifi", "click", "h11", "httpx", "msgspec", "obstore", "rich", "starlette", "uvicorn"]


@pytest.fixture(autouse=True)
def _no_model_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def _folder(told: io.StringIO) -> Path:
    found = re.search(r"/\S*relit-demo-\S+", told.getvalue())
    assert found is not None
    return Path(found[0])


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_work_survives_kills_and_a_deletion_of_its_notes_and_nothing_stays_behind() -> None:
    told = io.StringIO()
    demo = Demo(NAMES, kills=3, workers=2, seed=5, console=Console(file=told, width=200), seconds=90, work_s=6)
    measured = demo.run()
    folder = _folder(told)
    try:
        assert figures.kept(measured), told.getvalue()
        assert (measured.kills, measured.completed) == (3, len(NAMES))
        assert {blow.role for blow in measured.blows} == {"worker", "server"}
        assert measured.mishap is not None
        assert measured.mishap.notes >= 3
        assert len(measured.versions.freezes_ms) >= 3
        assert "deleted the agent's" in told.getvalue()
        left = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True)
        assert left.stdout == ""
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_model_that_the_environment_names_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    model, told = ScriptedModel(prompt.answer), io.StringIO()
    with Served(model.app) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        demo = Demo(NAMES[:3], kills=0, workers=1, seed=1, console=Console(file=told, width=200), seconds=60)
        measured = demo.run()
    shutil.rmtree(_folder(told))
    assert (measured.completed, measured.bought_twice, measured.mishap) == (3, 0, None)
    assert sum(model.calls.values()) == 3
    assert measured.delivered == measured.findings
