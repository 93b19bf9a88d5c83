"""An agent that never rests: ``counting.py FILE THREADS CHILDREN [escape]``. Every thread of every process counts.

Each has eight bytes of FILE. With ``escape`` the children leave the session and lose their parent.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import threading


def count(memory: mmap.mmap, slot: int) -> None:
    number = 0
    while True:
        number += 1
        struct.pack_into("<Q", memory, 8 * slot, number)


def main() -> None:
    path, threads, children = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    me = 0
    for child in range(1, children + 1):
        if os.fork() == 0:
            me = child
            if "escape" in sys.argv:
                os.setsid()
                if os.fork() != 0:
                    os._exit(0)
            break
    for thread in range(1, threads):
        threading.Thread(target=count, args=(memory, me * threads + thread), daemon=True).start()
    count(memory, me * threads)


main()
