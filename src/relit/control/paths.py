"""Unix sockets in folders of any depth: the kernel takes 107 bytes of path, a folder's descriptor stands for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio  # `relit ps` reads sockets without it


NODE_RECORD = "node.json"  # in the run folder, while a node runs there or has ended without a word


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A short name for ``path``, valid inside the block. Raises ``FileNotFoundError`` when its folder is missing."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


async def hang_up(writer: asyncio.StreamWriter | None) -> None:
    """Close a connection and wait until its socket is closed; it may be broken already."""
    if writer is not None:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
