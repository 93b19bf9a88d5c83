"""Other supervisors, each with the same child, at its quickest: no logs, no pause before a restart if it has a switch.

What stays is theirs: runsv waits a second when a life was shorter than that (the benchmark never kills so young),
s6-supervise at least a second after each start, supervisord looks once a second (``startsecs`` 1), circus each
``check_delay`` (0.1 s, a tenth of its default).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

from bells import Bells
from processes import descendants, pss_kb

BENCH = Path(__file__).resolve().parents[2] / ".bench"


class Peer(Protocol):
    """A supervisor with ``names`` as its children."""

    name: str
    names: list[str]

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Running:
    """What peers share: a folder, names, one process at the root of all."""

    def __init__(self, name: str, folder: Path, bells: Bells, count: int) -> None:
        self.folder = folder / name.replace(", ", "-")
        self.folder.mkdir(parents=True)
        self.names = [f"{self.folder.name}-{number}" for number in range(count)]
        self._bells = bells
        self._log = self.folder / "log"
        self._root: subprocess.Popen[bytes] | None = None

    def run(self, *command: str) -> None:
        """Start it, and wait for its children."""
        with self._log.open("ab") as log:
            self._root = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        self._bells.until(self.names)

    def command(self, *words: str, env: dict[str, str] | None = None) -> None:
        """One that must succeed."""
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=False, env=env)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")

    def over(self) -> None:
        """Wait for its end."""
        assert self._root is not None, "it was started"
        self._root.wait(60)

    @property
    def pid(self) -> int:
        """Of the process at the root."""
        assert self._root is not None, "it was started"
        return self._root.pid


def daemon_pss_mb(root: int, children: set[int]) -> float:
    """The supervisor's own processes: all below its root but the children that it keeps."""
    return pss_kb(pid for pid in descendants(root) if pid not in children) / 1024


class Services(Running):
    """A folder for each service, as runit and s6 have them, with a `run` script, as their documentation shows."""

    bare = False  # `run` is the child itself, without a shell before it

    def __init__(self, name: str, folder: Path, child: Path, bells: Bells, count: int) -> None:
        super().__init__(name, folder, bells, count)
        self.services = self.folder / "services"
        for each in self.names:
            (self.services / each).mkdir(parents=True)
            self._make(self.services / each, child)

    def _make(self, service: Path, child: Path) -> None:
        run, words = service / "run", f"{self._bells.path} {service.name}"
        if self.bare:
            run.symlink_to(child)
            (service / "ring").write_text(f"{words}\n")
        else:
            run.write_text(f"#!/bin/sh\nexec {child} {words}\n")
            run.chmod(0o700)


class Runit(Services):
    """runsvdir, one runsv for each service."""

    name = "runit"

    def start(self) -> None:
        self.run("runsvdir", "-P", str(self.services))

    def stop(self) -> None:
        self._root_hangup()
        self.over()

    def _root_hangup(self) -> None:
        os.kill(self.pid, 1)  # SIGHUP: TERM to each runsv, then exit


class BareRunit(Runit):
    """The same without shells: the least that runsv can need."""

    name = "runit, bare"
    bare = True


class S6(Services):
    """s6-svscan, one s6-supervise for each service."""

    name = "s6"

    def start(self) -> None:
        self.run("s6-svscan", str(self.services))

    def stop(self) -> None:
        self.command("s6-svscanctl", "-t", str(self.services))
        self.over()


class Supervisord(Running):
    """supervisord, of PyPI."""

    name = "supervisord"

    def __init__(self, name: str, folder: Path, child: Path, bells: Bells, count: int) -> None:
        super().__init__(name, folder, bells, count)
        text = f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={self.folder}/pid\n"
        text += "user=root\n" if os.getuid() == 0 else ""  # else it warns
        for each in self.names:
            text += (
                f"[program:{each}]\ncommand={child} {bells.path} {each}\nautorestart=true\nstartsecs=1\n"
                "startretries=1000000\nstdout_logfile=NONE\nstderr_logfile=NONE\n"
            )
        (self.folder / "conf").write_text(text)

    def start(self) -> None:
        self.run(str(BENCH / "supervisord-venv" / "bin" / "supervisord"), "-c", str(self.folder / "conf"))

    def stop(self) -> None:
        os.kill(self.pid, 15)
        self.over()


class Circus(Running):
    """circusd, of PyPI."""

    name = "circus"

    def __init__(self, name: str, folder: Path, child: Path, bells: Bells, count: int) -> None:
        super().__init__(name, folder, bells, count)
        points = "".join(f"{key} = ipc://{self.folder}/{key}\n" for key in ("endpoint", "pubsub_endpoint"))
        text = f"[circus]\ncheck_delay = 0.1\nwarmup_delay = 0\n{points}"
        for each in self.names:
            text += f"[watcher:{each}]\ncmd = {child} {bells.path} {each}\nmax_retry = -1\nwarmup_delay = 0\n"
        (self.folder / "ini").write_text(text)

    def start(self) -> None:
        self.run(str(BENCH / "circus-venv" / "bin" / "circusd"), str(self.folder / "ini"))

    def stop(self) -> None:
        os.kill(self.pid, 15)
        self.over()


class Pm2(Running):
    """pm2, of npm: its daemon in the foreground."""

    name = "pm2"

    def __init__(self, name: str, folder: Path, child: Path, bells: Bells, count: int) -> None:
        super().__init__(name, folder, bells, count)
        settings = {"interpreter": "none", "exec_mode": "fork", "autorestart": True, "restart_delay": 0}
        settings |= {"min_uptime": 0, "max_restarts": 1_000_000, "out_file": "/dev/null", "error_file": "/dev/null"}
        settings |= {"script": str(child)}
        apps = [{"name": each, "args": [str(bells.path), each], **settings} for each in self.names]
        (self.folder / "apps.json").write_text(json.dumps({"apps": apps}))
        self._env = {**os.environ, "PM2_HOME": str(self.folder / "home"), "PM2_DISCRETE_MODE": "true"}

    @property
    def pid(self) -> int:
        return int((self.folder / "home" / "pm2.pid").read_text())

    def start(self) -> None:
        self._pm2("start", str(self.folder / "apps.json"))
        self._bells.until(self.names)

    def stop(self) -> None:
        self._pm2("kill")

    def _pm2(self, *words: str) -> None:
        self.command(_node(), str(BENCH / "pm2" / "node_modules" / "pm2" / "bin" / "pm2"), *words, env=self._env)


def _node() -> str:
    """The system's Node.js, else relit's own."""
    own = sorted((BENCH / "runtimes" / "node").glob("*/bin/node"))
    return shutil.which("node") or (str(own[-1]) if own else "node")


PEERS = {"runit": Runit, "runit, bare": BareRunit, "s6": S6, "supervisord": Supervisord, "circus": Circus, "pm2": Pm2}
_PROGRAMS = {"runit": "runsvdir", "runit, bare": "runsvdir", "s6": "s6-svscan"}


def installed(name: str) -> bool:
    """Whether ``bench/setup.py node`` could install it."""
    if name in _PROGRAMS:
        return shutil.which(_PROGRAMS[name]) is not None
    return (BENCH / f"{name}-venv" / "installed.txt").exists()
