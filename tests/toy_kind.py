"""A kind of agent for tests: thirty lines of HTTP server, as wheels of several versions, and the kind's file."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

PROGRAM = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

VERSION = "@VERSION@"
STATE = Path(os.environ.get("TOY_STATE", "state"))


def settings():
    tree = json.loads(Path(os.environ.get("TOY_CONFIG", STATE / "toy.json")).read_text())
    for key in tree:
        if key not in ("port", "heartbeat", "channels", "workspace", "mood"):
            print(f"toy.json: there is no setting {key}", file=sys.stderr)
            sys.exit(78)
    return tree


class Desk(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"ready": True, "version": VERSION}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


def main():
    tree = settings()
    if sys.argv[1:] == ["check"]:
        return
    if VERSION.startswith("6"):
        print("key: sk-ant-api03-" + "x1Y2" * 24, flush=True)
        sys.exit("version 6 tells its key")
    if VERSION.startswith("5"):
        Path(os.environ["RELIT_HOME"], "who").open("a").write(f"{os.environ.get('BOT_TOKEN')}\\n")
        time.sleep(3)
    (STATE / "starts").open("a").write(f"{VERSION} {tree.get('channels', True)}\\n")
    if (STATE / "poison").exists():
        sys.exit("it was poisoned")
    if VERSION.startswith("3"):
        sys.exit("version 3 does not start")
    if VERSION.startswith("4") and tree.get("channels", True):
        sys.exit("version 4 starts in clones alone")
    (STATE / "toy.pid").write_text(json.dumps({"pid": os.getpid()}))
    print("serving", VERSION, flush=True)
    HTTPServer(("127.0.0.1", tree["port"]), Desk).serve_forever()


if __name__ == "__main__":
    main()
"""

KIND = """
title = "Toy"
command = ["{runtime}/venv/bin/python", "-m", "toyagent"]
cwd = "{home}/work"
folders = ["state", "work"]
ports = ["http"]
startup = "20s"
grace = "5s"
stale = ["state/toy.pid"]

[install]
version = "1.0"
pip = ["toyagent=={version}"]
check = ["{runtime}/venv/bin/python", "-c", "import toyagent"]

[env]
TOY_STATE = "{home}/state"

[[config]]
path = "state/toy.json"
format = "json"
validate = ["{runtime}/venv/bin/python", "-m", "toyagent", "check"]
draft = { TOY_CONFIG = "{draft}" }

[config.keep]
port = "{port:http}"
heartbeat = "off"
workspace = "{home}/work"

[config.silent]
channels = false

[probes.ready]
http = "http://127.0.0.1:{port:http}/ready"
every = "200ms"

[adopt]
marks = ["toy.json"]
into = "state"
folders = [
  { key = "workspace", into = "work", usual = "workspace" },
  { key = "rooms.*.folder", into = "rooms/{n}", usual = "room-{id}" },
]
without = ["cache/", "**/*.sock"]
pids = ["toy.pid"]
ports = { http = "port" }
stop = "kill it"
start = "TOY_STATE={dest} python -m toyagent"
"""


def wheels(folder: Path, *versions: str) -> Path:
    """A folder of wheels that pip finds packages in."""
    folder.mkdir(parents=True, exist_ok=True)
    for version in versions:
        _wheel(folder, version)
    return folder


def _wheel(folder: Path, version: str) -> None:
    info = f"toyagent-{version}.dist-info"
    files = {
        "toyagent.py": PROGRAM.replace("@VERSION@", version),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: toyagent\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: toy\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_digest(text)},{len(text.encode())}\n" for name, text in files.items())
    with zipfile.ZipFile(folder / f"toyagent-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(name, text)


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def install(config: Path) -> None:
    """The kind's file beside the configuration in that folder."""
    (config / "kinds").mkdir(parents=True, exist_ok=True)
    (config / "kinds" / "toy.toml").write_text(KIND)
