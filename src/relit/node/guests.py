"""Commands that run beside an agent, in its place: its strict tools. They belong to no life, since they outlive one;
but they write into the same home. So they stand still with it, and end before it is put back. Standard library only.

Each instance has a folder with a note for each such command, named by its id; the processes carry the folder's name as
their mark. Whoever starts one holds the folder's lock with others until it runs; whoever freezes or ends them holds it
alone.
"""

import fcntl
import os

NAME = "tools"  # of the life that they are, as far as a freeze is concerned


def folder_of(run_dir: str, instance: str) -> str:
    """Where the notes are, and what the processes are marked with."""
    return os.path.join(os.path.realpath(run_dir), "guests", f"{instance}.{NAME}")


def listed(folder: str) -> list[str]:
    """Ids of those that run, or are about to. None: there never was one."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


class Lock:
    """With others, or ``alone``: then it is waited for until those that are being started run."""

    def __init__(self, folder: str, *, alone: bool = False) -> None:
        self._folder = folder
        self._how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        self._fd = -1

    def take(self) -> None:
        """Blocks while somebody has it alone. Raises ``OSError``."""
        os.makedirs(self._folder, 0o700, exist_ok=True)
        self._fd = _opened(self._folder)
        fcntl.flock(self._fd, self._how)

    def leave(self) -> None:
        """Safe twice."""
        fd, self._fd = self._fd, -1
        if fd != -1:
            os.close(fd)


def note(folder: str, id: str) -> None:
    """One is about to run; its folder is locked. Raises ``OSError``."""
    os.close(os.open(os.path.join(folder, id), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def over(folder: str, id: str) -> bool:
    """It has ended. False: somebody else had ended it."""
    try:
        os.unlink(os.path.join(folder, id))
    except FileNotFoundError:
        return False
    return True


def alone(folder: str) -> int | None:
    """A descriptor: until it is closed none starts. ``None``: there never was one. Raises ``BlockingIOError`` while one
    is being started."""
    try:
        fd = _opened(folder)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _opened(folder: str) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
