"""A relit with an agent that relit did not write, which answers word by word, beside two programs and SDK code."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli_house import House

# Says its session and the end of what it was told. "die" kills it once, in the middle, "change" too, and then it says
# something else; "wait" waits for a file.
PROGRAM = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Desk(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = asked["messages"][-1]["content"]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.say(self.headers["x-session"] + ":")
        self.say(" two " if "change" in text and os.path.exists("change") else " one ")
        for word in ("die", "change"):
            if word in text and not os.path.exists(word):
                Path(word).touch()
                os._exit(3)
        while "wait" in text and not os.path.exists("go"):
            time.sleep(0.02)
        for word in text.split("\\n")[-1].split(" "):
            self.say(word + " ")
        self.wfile.write(b"data: [DONE]\\n\\n")

    def say(self, text):
        self.wfile.write(b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\\n\\n")
        self.wfile.flush()

    def log_message(self, *words):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1].removeprefix("port="))), Desk).serve_forever()
"""

KIND = """
title = "Talker"
command = ["{python}", "{program}", "port={{port:http}}"]
cwd = "{{home}}/work"
folders = ["work"]
ports = ["http"]
startup = "30s"
grace = "5s"

[probes.ready]
http = "http://127.0.0.1:{{port:http}}/ready"
every = "200ms"

[inject]
url = "http://127.0.0.1:{{port:http}}/v1/chat/completions"
headers = {{ "x-session" = "{{session}}" }}
hangup = "cancels"
"""

CONFIG = """
[agents.talker]
kind = "talker"
sandbox = "off"

[agents.clerk]
entry = "clerks:clerk"
folder = "."

[agents.parent]
kind = "command"
command = ["sh", "-c", "{python} -c 'import time; much = bytes([7]) * 40_000_000; time.sleep(3600)'; true"]
sandbox = "off"

[agents.breaker]
kind = "command"
command = ["{python}", "-c", "import sys; sys.exit(7)"]
sandbox = "off"
"""


class TalkerHouse(House):
    """Its programs stand in a relit.toml."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        program = folder / "talker.py"
        program.write_text(PROGRAM)
        (folder / "kinds").mkdir()
        (folder / "kinds" / "talker.toml").write_text(KIND.format(python=sys.executable, program=program))
        (folder / "relit.toml").write_text(CONFIG.format(python=sys.executable))
        self.environment["RELIT_CONFIG"] = str(folder / "relit.toml")

    @property
    def work(self) -> Path:
        """Where the talker works."""
        return self.data / "agents" / "talker" / "home" / "work"

    def up(self) -> None:
        """Start it all; the breaker does not come up, which is told."""
        done = self.spawn("up")
        assert done.returncode in (0, 1), done.stderr
        for name in ("clerk", "talker"):
            self.seen(name, lambda row: row["workers"] == 1)
        for name in ("parent", "talker"):
            self.seen(name, lambda row: row["state"] in ("ready", "idle"))

    def seen(self, agent: str, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What `relit ps` says of an agent, as soon as it is as it should be."""
        deadline = time.monotonic() + 60
        while True:
            rows: list[dict[str, Any]] = self.json("ps")["agents"]
            row = next((each for each in rows if each["agent"] == agent), {})
            if row and what(row):
                return row
            assert time.monotonic() < deadline, row
