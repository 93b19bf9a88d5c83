"""Unix sockets in folders of any depth: the kernel takes 107 bytes of path, a folder's descriptor stands for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A short name for ``path``, valid inside the block. Raises ``FileNotFoundError`` when its folder is missing."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
