"""The gateway stays small: it loads nothing that only the server or a worker needs."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("httpx", "starlette", "uvicorn", "rich", "asyncpg", "relit.api.server", "relit.turns.chat", "relit.app.work")


def test_it_brings_neither_the_server_nor_a_client() -> None:
    program = f"import sys, relit.app.gateway; print([each for each in {HEAVY} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
