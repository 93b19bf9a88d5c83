"""A program that holds as much memory as a file tells it to: ``glutton.py FILE`` (bytes, as text; no file: nothing)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

_LOOK_S = 0.1
_PAGE = 4096
_STEP = 16 << 20  # bytes at a time


def main() -> None:
    """For ever."""
    asked = Path(sys.argv[1])
    kept: list[bytearray] = []
    while True:
        wanted = int(asked.read_text() or 0) if asked.exists() else 0
        while len(kept) * _STEP > wanted:
            kept.pop()
        if len(kept) * _STEP + _STEP <= wanted:
            kept.append(bytearray(_STEP))
            kept[-1][::_PAGE] = b"x" * (_STEP // _PAGE)
        else:
            time.sleep(_LOOK_S)


if __name__ == "__main__":
    main()
