"""The data folder: made private, and refused where data would not be safe."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from relit.errors import ConfigError
from relit.lib.clock import EARLIEST_PLAUSIBLE_MS, Clock, iso
from relit.settings import Settings

VOLUMES_SOCKET = "volumes.sock"  # where the process that keeps the volumes answers

# Locks and shared memory of SQLite's WAL do not hold across machines.
NETWORK = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ncpfs", "ocfs2", "gfs2",
        "fuse.sshfs", "fuse.glusterfs", "fuse.cephfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse",
        "fuse.davfs", "davfs", "fuse.goofys", "fuse.juicefs", "beegfs", "gpfs",
    }
)  # fmt: skip


def run_dir(settings: Settings) -> Path:
    """Where sockets and records of this machine's processes are."""
    return settings.data / "run"


def prepare(folder: Path) -> Path:
    """Make the data folder, for its owner alone. Raises ``ConfigError`` when it cannot be used."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)  # it holds tokens and everything that agents know
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise _unusable(folder, "it cannot be read and written by this user")
    return folder


def mark(folder: Path) -> str:
    """Tells the server of this data folder from any other: two folders may be told to listen at one address."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


def _unusable(folder: Path, why: str) -> ConfigError:
    return ConfigError(
        f"the data folder {folder} cannot be used",
        why=why,
        fix=f"make it a folder of your own (sudo chown -R $(id -un) {folder}), or choose another one: --data DIR",
    )


def check_clock(clock: Clock) -> None:
    """Raises ``ConfigError`` when the machine's clock was never set: timers and schedules would all be wrong."""
    now = clock.now_ms()
    if now < EARLIEST_PLAUSIBLE_MS:
        raise ConfigError(
            f"this machine's clock says {iso(now)}",
            why="it was never set; schedules and timers would fire at the wrong time",
            fix="sudo timedatectl set-ntp true, or sudo date -s …; then start again",
        )


def check_local(path: Path, mounts: str) -> None:
    """Raises ``ConfigError`` when ``path`` is on a network filesystem. ``mounts``: /proc/self/mountinfo."""
    kind = filesystem(path, mounts)
    if kind in NETWORK:
        raise ConfigError(
            f"{path} is on a network filesystem ({kind})",
            why="SQLite's locks do not hold there: two machines could write at once and damage the database",
            fix='--data with a folder on a local disk, or server.database = "postgresql://…" in relit.toml',
        )


def mounts() -> str:
    """What is mounted where, as the kernel says it."""
    return Path("/proc/self/mountinfo").read_text()


def filesystem(path: Path, mounts: str) -> str:
    """The type of the filesystem that holds ``path``; empty when nobody knows."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        point = Path(_unescaped(fields[4]))
        # Of several mounts on one point the last is the one that is seen.
        if (path == point or point in path.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), right.split()[0]
    return kind


def _unescaped(text: str) -> str:
    return text.encode().decode("unicode_escape") if "\\" in text else text
