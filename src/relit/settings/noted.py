"""What the processes of a data folder leave there for commands and clients of this machine: address, token, start."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

from relit.errors import ConfigError

_URL = "server.url"
_START = "up.command"
_TOKEN = "token"  # the file's name, not a secret


def note_url(run_dir: Path, url: str) -> None:
    """Leave the address, which a flag may have chosen; whole or not at all. Raises ``OSError``."""
    _note(run_dir / _URL, url)


def forget_url(run_dir: Path) -> None:
    """The server has ended in good order. Safe twice."""
    (run_dir / _URL).unlink(missing_ok=True)


def noted_url(data: Path) -> str | None:
    """What the last server of this data folder noted; ``None`` when there is nothing that can be read."""
    return _noted(data / "run" / _URL)


def note_start(run_dir: Path, words: Sequence[str]) -> None:
    """Leave the command line that started everything, for hints. Raises ``OSError``."""
    _note(run_dir / _START, shlex.join(words))


def noted_start(data: Path) -> str:
    """The command that starts again what was last started here."""
    return _noted(data / "run" / _START) or "relit up"


def _note(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text + "\n")
    os.replace(fresh, path)


def _noted(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def noted_token(data: Path) -> str | None:
    """The token made at the first start; ``None`` before that. Raises ``ConfigError`` when it is not safe to use."""
    path = data / _TOKEN
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(
                f"the token file {path} can be read by others",
                why="whoever reads it rules this server",
                fix=f"chmod 600 {path}",
            )
        return path.read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise locked(data, f"its token cannot be read: {error.strerror}") from error


def locked(data: Path, why: str) -> ConfigError:
    """The data folder is somebody else's."""
    return ConfigError(f"the data folder {data} cannot be used", why=why, fix="--data DIR, with a folder of your own")
