"""The whole demo, small: real processes, real kills, every bound kept."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from relit.demo import figures
from relit.demo.main import Demo

NAMES = ["anyio", "certifi", "click", "h11", "httpx", "msgspec", "obstore", "rich", "starlette", "uvicorn"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_work_survives_kills_of_worker_and_server_and_nothing_stays_behind() -> None:
    told = io.StringIO()
    demo = Demo(NAMES, kills=3, workers=2, seed=5, console=Console(file=told, width=200), seconds=90, work_s=6)
    measured = demo.run()
    folder = Path(re.search(r"/\S*relit-demo-\S+", told.getvalue())[0])  # type: ignore[index]
    try:
        assert figures.kept(measured), told.getvalue()
        assert (measured.kills, measured.completed) == (3, len(NAMES))
        assert {blow.role for blow in measured.blows} == {"worker", "server"}
        left = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True)
        assert left.stdout == ""
    finally:
        shutil.rmtree(folder)
