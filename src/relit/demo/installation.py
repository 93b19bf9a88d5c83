"""A whole relit of its own for the demo: real processes, a temporary folder, a free port."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from relit import documents
from relit.client import Client
from relit.demo import processes
from relit.demo.plan import Role
from relit.errors import RelitError
from relit.node import status
from relit.settings.environment import Environment

_START_S = 60
_END_S = 60
_RESTORE_S = 60


class Installation:
    """``relit up`` in a folder of its own. ``mark``: what everything it starts carries in its environment; only that
    is ever killed."""

    def __init__(self, start_s: float = _START_S) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="relit-demo-"))
        self.data = self.folder / "data"
        self.url = f"http://{free_address()}"
        self.witness = self.folder / "witness.jsonl"
        self.glut = self.folder / "glut"
        self.mark = {processes.MARK: secrets.token_hex(8)}
        self._config = self.folder / "relit.toml"
        self._start_s = start_s

    def configure(self, tables: str, kinds: Mapping[str, str] | None = None) -> None:
        """Write relit.toml, and files of ``kinds`` beside it."""
        listen = json.dumps(self.url.removeprefix("http://"))
        self._config.write_text(f"[server]\nlisten = {listen}\n{tables}")
        for name, text in (kinds or {}).items():
            (self.folder / "kinds").mkdir(exist_ok=True)
            (self.folder / "kinds" / f"{name}.toml").write_text(text)

    def home(self, agent: str) -> Path:
        """The agent's own folder."""
        return self.data / "agents" / agent / "home"

    def pid(self, agent: str) -> int | None:
        """The agent's process, if it is ready."""
        found = status.read(self.data / "run").instances
        return next((each.pid for each in found if each.name == agent and each.state == "ready"), None)

    def command(self, *words: str) -> list[str]:
        """A command line of this installation's own."""
        return [sys.executable, "-m", "relit.cli", "--data", str(self.data), "--config", str(self._config), *words]

    def up(self) -> None:
        """Start everything, or what is missing of it. Back when the server answers."""
        log = self.folder / "up.log"
        with log.open("ab") as out:
            words = self.command("up", "--timeout", f"{self._start_s:.0f}s")
            done = subprocess.run(words, env=self._env(), stdout=out, stderr=out, timeout=self._start_s + 10)
        if done.returncode != 0:
            told = log.read_text(errors="replace")[-2000:]
            raise RelitError("the demo's relit did not start", why=told, fix=f"less {log}")

    def down(self) -> None:
        """Stop everything in good order; kill what did not stop."""
        try:
            subprocess.run(self.command("down"), env=self._env(), capture_output=True, timeout=_END_S)
        except subprocess.TimeoutExpired:
            pass  # it is killed below
        for left in processes.marked(self.mark[processes.MARK]):
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
        return [found.pid for found in processes.marked(self.mark[processes.MARK]) if processes.role(found) == role]

    def _env(self) -> dict[str, str]:
        """This process's environment, without what would configure another relit, with the mark."""
        kept = {name: value for name, value in Environment().all.items() if not name.startswith("RELIT_")}
        return kept | self.mark


def free_address() -> str:
    """``host:port`` on this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
