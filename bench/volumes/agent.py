"""An agent that edits its home when it is told to: one word a line on a socket, answered when it is done."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from homes import Editor


def main(home: Path, files: int, address: str) -> None:
    """Serve one client after the other, for ever."""
    editor = Editor(home, files, seed=11)
    door = socket.socket(socket.AF_UNIX)
    door.bind("\0" + address)  # no file: the home holds only what is backed up
    door.listen()
    while True:
        client, _ = door.accept()
        with client, client.makefile("rw") as lines:
            for line in lines:
                getattr(editor, line.strip())()
                lines.write("done\n")
                lines.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
