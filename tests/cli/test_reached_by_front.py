"""An agent with a front is reached at its address whether it runs or not."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cli_house import House, free_port

PROGRAM = """
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Desk(BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Desk).serve_forever()
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    (tmp_path / "desk.py").write_text(PROGRAM)
    made.environment["RELIT_CONFIG"] = str(tmp_path / "relit.toml")
    try:
        yield made
    finally:
        made.down()


def configure(house: House, listen: str, idle: str) -> None:
    command = json.dumps([sys.executable, "-I", str(house.folder / "desk.py"), "{port:web}"])
    (house.folder / "relit.toml").write_text(
        f'[agents.desk]\nkind = "command"\ncommand = {command}\nports = ["web"]\nsandbox = "off"\n'
        f'front = {{ web = "{listen}" }}\nidle = {{ {idle} }}\n'
    )


def up(house: House) -> None:
    done = house.spawn("up", "--timeout", "60s", timeout=90)
    assert done.returncode == 0, done.stderr


def until_state(house: House, state: str) -> None:
    until = time.monotonic() + 60
    while not any(each["name"] == "desk" and each["state"] == state for each in instances(house)):
        assert time.monotonic() < until, instances(house)
        time.sleep(0.1)


def until_listens(listen: str) -> None:
    host, _, port = listen.partition(":")
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((host, int(port))).close()
            return
        except OSError:
            assert time.monotonic() < until, listen
            time.sleep(0.05)


def instances(house: House) -> list[dict[str, object]]:
    record = json.loads((house.data / "run" / "node.json").read_bytes())
    return list(record["instances"])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_request_starts_it_and_a_person_who_stopped_it_is_heeded(house: House) -> None:
    listen = f"127.0.0.1:{free_port()}"
    configure(house, listen, 'then = "stop", after = "1s"')
    up(house)
    first = httpx.get(f"http://{listen}/", timeout=60).text
    for _ in range(2):
        until_state(house, "stopped")
        now = httpx.get(f"http://{listen}/", timeout=60).text
        assert now != first, "another process"
        first = now
    house.run("agent", "stop", "desk")
    told = httpx.get(f"http://{listen}/", timeout=60)
    assert told.status_code == 503
    assert "stopped" in told.text
    house.run("agent", "start", "desk")
    assert httpx.get(f"http://{listen}/", timeout=60).status_code == 200


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_change_of_the_front_is_no_matter_of_the_agent(house: House) -> None:
    first, second = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    configure(house, first, 'then = "keep"')
    up(house)
    pid = httpx.get(f"http://{first}/", timeout=60).text
    configure(house, second, 'then = "keep"')
    up(house)
    until_listens(second)
    assert httpx.get(f"http://{second}/", timeout=60).text == pid
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{first}/", timeout=60)
