"""A swap file of this machine, for as long as a test lasts. Root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def swap_file(folder: Path, size: int) -> Iterator[None]:
    """Skips the test where none can be switched on."""
    place = folder / "swap"
    if os.geteuid() != 0 or shutil.which("mkswap") is None:
        pytest.skip("a swap file needs root and mkswap")
    with place.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    place.chmod(0o600)
    try:
        subprocess.run(["mkswap", place], check=True, capture_output=True)
        if subprocess.run(["swapon", place], capture_output=True).returncode:
            pytest.skip("no swap can be switched on here")
        try:
            yield
        finally:
            subprocess.run(["swapoff", place], check=True)
    finally:
        place.unlink()
