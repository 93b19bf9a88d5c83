"""What relit.toml declares works: webhooks in and out, schedules, limits."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cli_house import House
from standardwebhooks import Webhook

from relit.testing.sink import Served, Sink

CONFIG = """
[agents.clerk]
entry = "clerks:clerk"
folder = "."
mailbox = {{ depth = 7 }}

[agents.clerk.schedules.hourly]
every = "1h"
message = "look"

[webhooks.git]
agent = "clerk"
scheme = "hmac"
secret = "secret:git"

[subscribers.pager]
url = "{url}/pager"
events = ["run.completed"]
secret = "secret:pager"
"""
GIT = "git-secret"
PAGER = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU="


def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of a POST."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    connection.request("POST", parts.path, body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.slow
def test_the_whole_file_is_obeyed(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.data.mkdir(mode=0o700)
    secrets = house.data / "secrets.toml"
    secrets.touch(mode=0o600)
    secrets.write_text(f'git = "{GIT}"\npager = "{PAGER}"\n')
    sink = Sink()
    with Served(sink.app) as url:
        (tmp_path / "relit.toml").write_text(CONFIG.format(url=url))
        started = house.spawn("up")
        assert started.returncode == 0, started.stderr
        try:
            listen = house.environment["RELIT_SERVER__LISTEN"]
            body = json.dumps({"pushed": 1}).encode()
            signed = "sha256=" + hmac.new(GIT.encode(), body, hashlib.sha256).hexdigest()
            assert post(f"http://{listen}/v1/webhooks/git", body, {"X-Signature-256": "sha256=00"}) == 401
            assert post(f"http://{listen}/v1/webhooks/git", body, {"X-Signature-256": signed}) == 202
            id = house.json("runs")["runs"][0]["id"]
            assert "PUSHED" in house.run("wait", id, "--timeout", "20s").stdout
            assert house.json("mailbox", "ls")["mailboxes"][0]["depth"] == 7
            assert house.json("schedule", "ls")["schedules"][0]["name"] == "clerk.hourly"
            assert _delivered(sink)
            (first, *_) = sink.requests
            told = Webhook(PAGER).verify(first.body, first.headers)
            assert told["type"] == "run.completed"
            assert told["run"] == id
            assert GIT not in house.run("config", "show").stdout
        finally:
            house.down()


def _delivered(sink: Sink) -> bool:
    """Whether a delivery came within ten seconds."""

    came = threading.Event()
    for _ in range(200):
        if sink.requests:
            return True
        came.wait(0.05)
    return False
