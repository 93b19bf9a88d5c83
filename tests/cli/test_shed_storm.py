"""Many agents where few fit: who rests makes way, a message wakes its agent, and each is answered once."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_house import House, free_port

PROGRAM = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

kept = bytearray(24 << 20)
kept[::4096] = bytes(len(kept[::4096]))


class Desk(BaseHTTPRequestHandler):
    def do_GET(self):
        self.say(b"{}")

    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        with open(sys.argv[2], "a") as file:
            file.write(text.split()[-1] + "\\\\n")
        self.say(json.dumps({"choices": [{"message": {"content": "heard " + text.split()[-1]}}]}).encode())

    def say(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Desk).serve_forever()
""".replace("\\\\n", "\\n")
KIND = """
title = "Listener"
command = ["{python}", "-I", "{program}", "{{port:http}}", "{heard}"]
cwd = "{{home}}"
ports = ["http"]
grace = "2s"
footprint = {{ peak = "40M", settled = "36M", cpu = 0.1 }}

[probes.ready]
http = "http://127.0.0.1:{{port:http}}/"
every = "100ms"

[inject]
url = "http://127.0.0.1:{{port:http}}/v1/chat/completions"
"""


def config(count: int, memory: str) -> str:
    agents = "".join(
        f'[agents.a{number:02}]\nkind = "listener"\nsandbox = "off"\npriority = {number}\nidle = {{ then = "stop" }}\n'
        for number in range(count)
    )
    return f'[gateway]\nlisten = "127.0.0.1:{free_port()}"\n[node]\nmemory = "{memory}"\nreserve = "8M"\n{agents}'


@pytest.fixture
def listeners(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    count, memory = request.param
    house = House(tmp_path)
    program = tmp_path / "listener.py"
    program.write_text(PROGRAM)
    (tmp_path / "kinds").mkdir()
    kind = KIND.format(python=sys.executable, program=program, heard=tmp_path / "heard")
    (tmp_path / "kinds" / "listener.toml").write_text(kind)
    (tmp_path / "relit.toml").write_text(config(count, memory))
    house.environment["RELIT_CONFIG"] = str(tmp_path / "relit.toml")
    done = house.spawn("up", "--timeout", "60s", timeout=90)
    assert done.returncode in (0, 1), done.stderr  # not all have room
    try:
        yield house
    finally:
        house.down()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("listeners", [(12, "220M")], indirect=True)
def test_every_message_is_answered_once_though_few_agents_fit(listeners: House) -> None:
    storm(listeners, 12, 5)


@pytest.mark.crash
@pytest.mark.timeout(900)
@pytest.mark.parametrize("listeners", [(50, "600M")], indirect=True)
def test_a_thousand_messages_to_fifty_agents(listeners: House) -> None:
    storm(listeners, 50, 20)


def storm(house: House, agents: int, each: int) -> None:
    sent = [send(house, f"a{number:02}", f"{number:02}-{turn}") for turn in range(each) for number in range(agents)]
    for run, word in sent:
        assert house.json("wait", run, "--timeout", "800s")["output"] == f"heard {word}"
    heard = Counter((Path(house.folder) / "heard").read_text().split())
    assert heard == Counter({word: 1 for _, word in sent})
    told = house.run("--json", "tail", "--from-start", "--no-follow", "--name", "instance.parked").stdout
    parked = [json.loads(line) for line in told.splitlines()]
    assert parked, "they did not all fit"
    assert {event["data"]["deed"] for event in parked} == {"stop"}, "nobody had to be killed"


def send(house: House, agent: str, word: str) -> tuple[str, Any]:
    return str(house.json("send", agent, f"Hear: {word}")["id"]), word
