"""The demo's second agent, of the kind that relit did not write: it reads a configuration, answers at /healthz, and
counts its rounds in a file. It knows nothing of relit, and does not start when its configuration is damaged."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Door(BaseHTTPRequestHandler):
    """Says that the watchman is there."""

    def do_GET(self) -> None:
        """Answers whatever is asked."""
        body = b'{"well": true}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def rounds(file: Path) -> int:
    """How many it has made in all its lives."""
    return int(json.loads(file.read_bytes())["rounds"]) if file.exists() else 0


def make_rounds(file: Path, every_s: float) -> None:
    """For ever; each is written down whole or not at all."""
    draft = file.with_suffix(".part")
    while True:
        draft.write_text(json.dumps({"rounds": rounds(file) + 1}))
        os.replace(draft, file)
        time.sleep(every_s)


def main(home: Path) -> None:
    """Serve until killed."""
    settings = json.loads((home / "config" / "watchman.json").read_text())
    server = HTTPServer(("127.0.0.1", settings["port"]), Door)
    threading.Thread(target=server.serve_forever, name="door", daemon=True).start()
    make_rounds(home / "state" / "rounds.json", settings["every_s"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
