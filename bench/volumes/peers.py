"""restic and borg, as their users run them: encrypted, a repository in a folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path


class Peer:
    """A backup program with a repository of its own. Every call answers seconds of wall time."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / f"{self.name}-repository"
        self.cache = folder / f"{self.name}-cache"

    def _timed(self, *command: str, cwd: Path | None = None) -> float:
        begin = time.perf_counter()
        done = subprocess.run(command, env=self._environment(), cwd=cwd, capture_output=True, text=True)
        took = time.perf_counter() - begin
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        return took

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    def size(self) -> int:
        """Bytes of the repository."""
        return sum(path.stat().st_size for path in self.repository.rglob("*") if path.is_file())


class Restic(Peer):
    """restic, with its cache."""

    name = "restic"

    def version(self) -> str:
        """As it says itself."""
        out = subprocess.run(["restic", "version"], capture_output=True, text=True, check=True).stdout
        return out.split()[1]

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "RESTIC_PASSWORD": "bench",
            "RESTIC_REPOSITORY": str(self.repository),
            "RESTIC_CACHE_DIR": str(self.cache),
        }

    def init(self) -> None:
        self._timed("restic", "init", "-q")

    def backup(self, home: Path) -> float:
        return self._timed("restic", "backup", "-q", "--exclude", "*-shm", ".", cwd=home)

    def restore(self, target: Path) -> float:
        """Into a folder; what is there is written over."""
        return self._timed("restic", "restore", "-q", "latest", "--target", str(target))


class Borg(Peer):
    """borg, with its cache."""

    name = "borg"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.number = 0

    def version(self) -> str:
        """As it says itself."""
        out = subprocess.run(["borg", "--version"], capture_output=True, text=True, check=True).stdout
        return re.sub(r"[^0-9.]", "", out)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "BORG_PASSPHRASE": "bench",
            "BORG_BASE_DIR": str(self.cache),
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }

    def init(self) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        self._timed("borg", "init", "-e", "repokey", str(self.repository))

    def backup(self, home: Path) -> float:
        self.number += 1
        where = f"{self.repository}::{self.number}"
        return self._timed("borg", "create", "--exclude", "*-shm", where, ".", cwd=home)

    def restore(self, target: Path) -> float:
        target.mkdir(parents=True, exist_ok=True)
        return self._timed("borg", "extract", f"{self.repository}::{self.number}", cwd=target)


def installed(name: str) -> bool:
    """Whether the program is there."""
    return shutil.which(name) is not None
