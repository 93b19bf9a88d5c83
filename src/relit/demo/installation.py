"""A whole relit of its own for the demo: real processes, a temporary folder, a free port."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from relit import documents
from relit.client import Client
from relit.demo import processes
from relit.demo.plan import Role
from relit.errors import RelitError
from relit.settings.environment import Environment

SNAPSHOTS_S = 1
_START_S = 60
_END_S = 30
_RESTORE_S = 60


class Installation:
    """``relit up`` with ``workers`` worker processes, each auditing one distribution at a time.

    ``environment`` is what the agent gets. Everything it starts carries a mark, and only that is ever killed.
    """

    def __init__(self, environment: dict[str, str], workers: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="relit-demo-"))
        self.data = self.folder / "data"
        self.url = f"http://127.0.0.1:{_free_port()}"
        self.home = self.data / "agents" / "auditor" / "home"
        self.witness = self.folder / "witness.jsonl"
        self._mark = secrets.token_hex(8)
        self._config = self.folder / "relit.toml"
        self._config.write_text(_config(self.url, {**environment, "AUDITOR_FOLDER": str(self.folder)}, workers))

    def command(self, *words: str) -> list[str]:
        """A command line of this installation's own."""
        return [sys.executable, "-m", "relit.cli", "--data", str(self.data), "--config", str(self._config), *words]

    def up(self) -> None:
        """Start everything, or what is missing of it. Back when the server answers."""
        log = self.folder / "up.log"
        with log.open("ab") as out:
            done = subprocess.run(self.command("up"), env=self._env(), stdout=out, stderr=out, timeout=_START_S)
        if done.returncode != 0:
            told = log.read_text(errors="replace")[-2000:]
            raise RelitError("the demo's relit did not start", why=told, fix=f"less {log}")

    def down(self) -> None:
        """Stop everything in good order; kill what did not stop."""
        try:
            subprocess.run(self.command("down"), env=self._env(), capture_output=True, timeout=_END_S)
        except subprocess.TimeoutExpired:
            pass  # it is killed below
        for left in processes.marked(self._mark):
            processes.kill(left.pid)

    def restore(self, agent: str, at: str) -> documents.Restored:
        """``relit restore``, as a person would, with whatever the agent finished since delivered again."""
        words = ["--json", "--yes", "restore", agent, "--at", at, "--messages", "redeliver"]
        done = subprocess.run(self.command(*words), env=self._env(), capture_output=True, timeout=_RESTORE_S)
        if done.returncode != 0:
            told = done.stderr.decode(errors="replace")[-2000:]
            raise RelitError(f"{agent} was not put back", why=told, fix=f"less {self.folder / 'up.log'}")
        return msgspec.json.decode(done.stdout, type=documents.Restored)

    def client(self) -> Client:
        """The API's client, with the token that the first start made."""
        return Client(self.url, (self.data / "token").read_text().strip())

    def alive(self, role: Role) -> list[int]:
        """The live processes of that role."""
        return [found.pid for found in processes.marked(self._mark) if processes.role(found) == role]

    def _env(self) -> dict[str, str]:
        """This process's environment, without what would configure another relit, with the mark."""
        kept = {name: value for name, value in Environment().all.items() if not name.startswith("RELIT_")}
        return kept | {processes.MARK: self._mark}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _config(url: str, environment: dict[str, str], workers: int) -> str:
    """relit.toml. JSON strings are TOML strings."""
    lines = [
        "[server]",
        f"listen = {json.dumps(url.removeprefix('http://'))}",
        "[worker]",
        "concurrency = 1  # one audit in a process: a kill interrupts at most one model call",
        "[agents.auditor]",
        'entry = "relit.demo.auditor"',
        f"workers = {workers}",
        f"mailbox = {{ concurrency = {workers} }}",
        "[agents.auditor.env]",
        *(f"{name} = {json.dumps(value)}" for name, value in environment.items()),
        "[agents.auditor.snapshots]",
        f'every = "{SNAPSHOTS_S}s"',
    ]
    return "\n".join(lines) + "\n"
