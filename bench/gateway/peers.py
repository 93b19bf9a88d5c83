"""LiteLLM's proxy and the bare one, each in the environment that bench/setup.py made for it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from bench.gateway.load import Door
from bench.gateway.upstream import Script
from bench.node.processes import descendants, free_ports

BENCH = Path(__file__).resolve().parents[2] / ".bench"
START_S = 180
MASTER = "sk-scripted"  # LiteLLM does not start without a key


def python_of(name: str) -> Path:
    """Its interpreter. SystemExit when it is not installed."""
    found = BENCH / f"{name}-venv" / "bin" / "python"
    if not found.exists():
        raise SystemExit(f"{name} is not installed: python bench/setup.py gateway")
    return found


def spoken(*command: str | Path) -> tuple[subprocess.Popen[str], str]:
    """A process, and the line that it says first."""
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None, "it is a pipe"
    if not (line := process.stdout.readline().strip()):
        raise SystemExit(f"{command[-1]} did not start")
    return process, line


def ended(process: subprocess.Popen[Any]) -> None:
    """At once."""
    process.kill()
    process.wait()


class Bare:
    """bare.py."""

    def __init__(self, upstream: str) -> None:
        self._process, self._url = spoken(python_of("bare"), Path(__file__).with_name("bare.py"), upstream)

    @property
    def pids(self) -> list[int]:
        """Its process."""
        return [self._process.pid]

    def door(self, script: Script) -> Door:
        """It passes paths on as they are."""
        return Door(self._url, f"{script.path}/v1")

    def stop(self) -> None:
        """At once. Safe twice."""
        ended(self._process)


class LiteLLM:
    """One model, one worker, one key, no database, nothing reported. ``ready`` waits for it."""

    def __init__(self, folder: Path, upstream: str, script: Script) -> None:
        folder.mkdir()
        (config := folder / "config.json").write_text(json.dumps(_config(f"{upstream}{script.path}/v1")))
        [port] = free_ports(1)
        self._url = f"http://127.0.0.1:{port}"
        self._log = folder / "log"
        command = [python_of("litellm").with_name("litellm"), "--config", config, "--host", "127.0.0.1", "--port", port]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*map(str, command), "--num_workers", "1", "--telemetry", "False"],
                cwd=folder, env=_environment(folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def ready(self) -> None:
        """Until it answers. SystemExit when it does not."""
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"LiteLLM did not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self._url}/health/liveliness", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return descendants(self._process.pid)

    def door(self) -> Door:
        """It knows its model's place."""
        return Door(self._url, "/v1", MASTER)

    def stop(self) -> None:
        """At once. Safe twice."""
        ended(self._process)


def _config(upstream: str) -> dict[str, object]:
    """In JSON, which is YAML."""
    model = {"model": "openai/m", "api_base": upstream, "api_key": "scripted"}
    return {
        "model_list": [{"model_name": "default", "litellm_params": model}],
        "litellm_settings": {"telemetry": False, "num_retries": 0},
    }


def _environment(folder: Path) -> dict[str, str]:
    """Production's, and no list of prices from the network."""
    return {
        "PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": MASTER,
    }  # fmt: skip
