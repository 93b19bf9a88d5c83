"""Agents of the benchmark: ``programs.py hold MB``, ``hog``, ``work MB SECONDS READY``, ``heap MB PORT``."""

import http.server
import mmap
import os
import sys
import time

MB = 1 << 20
SHARED = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
POPULATE = 0x8000
TOUCHED = 3  # tenths of a heap, in a turn


def filled(size: int) -> mmap.mmap:
    """Memory that is really there."""
    kept = mmap.mmap(-1, size, flags=SHARED)
    for at in range(0, size, 4096):
        kept[at] = 1
    return kept


def hold(size: int) -> None:
    """And nothing else."""
    kept = filled(size * MB)
    time.sleep(1 << 20)
    del kept


def hog() -> None:
    """As fast as the machine allows, without an end."""
    kept = []
    while True:
        kept.append(mmap.mmap(-1, 16 * MB, flags=SHARED | POPULATE))


def work(size: int, seconds: float, ready: str) -> None:
    """A start that costs CPU and memory; then it is ready, and rests."""
    kept = filled(size * MB)
    until = time.process_time() + seconds
    while time.process_time() < until:
        sum(range(1000))
    os.close(os.open(ready, os.O_CREAT | os.O_WRONLY))
    time.sleep(1 << 20)
    del kept


class Turns(http.server.BaseHTTPRequestHandler):
    """GET: whether it lives. POST: a turn."""

    kept: mmap.mmap

    def do_GET(self) -> None:
        self._say()

    def do_POST(self) -> None:
        size = len(self.kept) * TOUCHED // 10
        for at in range(0, size, 4096):
            self.kept[at] = (self.kept[at] + 1) % 256
        self._say()

    def _say(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *words: object) -> None:
        pass


def heap(size: int, port: int) -> None:
    """An agent that answers."""
    Turns.kept = filled(size * MB)
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Turns).serve_forever()


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "hold":
        hold(int(words[0]))
    elif what == "hog":
        hog()
    elif what == "work":
        work(int(words[0]), float(words[1]), words[2])
    else:
        heap(int(words[0]), int(words[1]))
