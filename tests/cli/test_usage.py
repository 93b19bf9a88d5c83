"""``relit usage`` and ``relit turn show``: what an agent's turns asked of its model, and a budget that ends it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cli_house import House, free_port

pytestmark = pytest.mark.slow

PROGRAM = """
import json, os, sys, urllib.error, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

URL, KEY, MARKER = sys.argv[2:]


def ask(text):
    body = json.dumps({"model": "default", "max_tokens": 200, "messages": [{"role": "user", "content": text}]})
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(URL, body.encode(), headers)) as answer:
            return json.load(answer)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        return f"{error.code} " + json.load(error)["error"]["type"]


class Desk(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        with open("diary", "a") as diary:
            diary.write(text + "\\n")
        said = ask(text)
        if "die" in text and not os.path.exists(MARKER):
            open(MARKER, "w").close()
            os._exit(3)
        said += " " + ask(text + " And then?")
        body = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1].removeprefix("port="))), Desk).serve_forever()
"""

KIND = """
title = "Asker"
command = ["{python}", "{program}", "port={{port:http}}", "{{model:url}}/chat/completions", "{{model:key}}", "{marker}"]
cwd = "{{home}}"
ports = ["http"]
tokens = ["model"]

[probes.ready]
http = "http://127.0.0.1:{{port:http}}/ready"
every = "200ms"

[inject]
url = "http://127.0.0.1:{{port:http}}/v1/chat/completions"
"""

CONFIG = """
[gateway]
listen = "127.0.0.1:{gateway}"

[models.default]
url = "http://127.0.0.1:{provider}/v1"
model = "bespoke-1"
budget = {{ day = "0.01 USD", warn = 50 }}

[prices.bespoke-1]
input = 1.0
output = 10.0

[agents.asker]
kind = "asker"
sandbox = "off"

[models.free]
url = "http://127.0.0.1:{provider}/v1"
model = "bespoke-1"

[agents.again]
kind = "asker"
model = "free"
resume = "replay"
sandbox = "off"
"""


class Provider(BaseHTTPRequestHandler):
    """Each answer costs 100 × 1 + 200 × 10 millionths of a dollar."""

    heard: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"])
        usage = {"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300}
        body = json.dumps(
            {"model": "bespoke-1", "usage": usage, "choices": [{"message": {"role": "assistant", "content": "Yes."}}]}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture(scope="module")
def askers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("askers")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    house = House(folder)
    program = folder / "asker.py"
    program.write_text(PROGRAM)
    (folder / "kinds").mkdir()
    (folder / "kinds" / "asker.toml").write_text(
        KIND.format(python=sys.executable, program=program, marker=folder / "died")
    )
    (folder / "relit.toml").write_text(CONFIG.format(gateway=free_port(), provider=server.server_port))
    house.environment["RELIT_CONFIG"] = str(folder / "relit.toml")
    done = house.spawn("up", "--timeout", "60s", timeout=90)
    assert done.returncode == 0, done.stderr
    try:
        yield house
    finally:
        house.down()
        server.shutdown()
        server.server_close()


def ask(house: House, text: str, agent: str = "asker") -> tuple[str, str]:
    """(run, answer)."""
    run = str(house.json("send", agent, text)["id"])
    return run, str(house.json("wait", run, "--timeout", "30s")["output"])


def test_a_turns_calls_are_counted_and_a_spent_budget_ends_them(askers: House, tmp_path: Path) -> None:
    run, said = ask(askers, "Is it so?")
    assert said == "Yes. Yes."
    calls = askers.json("turn", "show", "asker", run)["calls"]
    assert [(each["number"], each["state"], each["model"], each["input"], each["output"]) for each in calls] == [
        (1, "done", "bespoke-1", 100, 200), (2, "done", "bespoke-1", 100, 200),
    ]  # fmt: skip
    assert [round(each["cost"], 6) for each in calls] == [0.0021, 0.0021]
    shown = askers.run("turn", "show", "asker", run).output
    assert "2 calls to models, 0.0042 USD" in shown

    _, said = ask(askers, "And this?")
    assert said == "Yes. Yes."
    run, said = ask(askers, "And that?")
    assert said.endswith("402 insufficient_quota"), "the day's hundredth of a dollar is spent"
    states = [each["state"] for each in askers.json("turn", "show", "asker", run)["calls"]]
    assert states.count("refused") == 1
    assert ", 1 refused for want of money" in askers.run("turn", "show", "asker", run).output
    [row] = [each for each in askers.json("usage", "asker", "--by", "run")["runs"] if each["run"] == run]
    assert (row["calls"], row["replayed"], row["failed"]) == (len(states) - 1, 0, 0)

    report = askers.json("usage", "--days", "2")
    [total] = report["usage"]
    assert (total["agent"], total["route"], total["failed"]) == ("asker", "default", 0)
    assert total["cost"] <= 0.01
    [budget] = report["budgets"]
    assert (budget["scope"], budget["reserved"]) == ("model:default", 0)
    assert round(budget["spent"] - total["cost"], 9) == 0
    told = askers.run("usage").output
    assert "asker" in told
    assert "model:default" in told
    events = askers.run("tail", "--from-start", "--no-follow", "--name", "budget.*").output
    assert "budget.warned" in events
    assert "budget.spent" in events


def test_a_turn_of_somebody_else_is_not_found(askers: House) -> None:
    run, _ = ask(askers, "Once more?")
    assert askers.run("turn", "show", "nobody", run).exit_code == 4
    assert askers.json("turn", "show", "asker", "-")["calls"] == []


def test_a_turn_that_is_replayed_buys_nothing_twice(askers: House) -> None:
    run, said = ask(askers, "Please die.", "again")
    assert said == "Yes. Yes."
    assert [each for each in Provider.heard if "die" in each] == ["Please die.", "Please die. And then?"]
    calls = askers.json("turn", "show", "again", run)["calls"]
    assert [each["state"] for each in calls] == ["done", "replayed", "done"]
    assert calls[1]["saved"] == calls[0]["cost"] > 0
    home = askers.data / "agents" / "again" / "home"
    assert (home / "diary").read_text() == "Please die.\n", "it went back, and did it once"
    assert "replayed" in askers.run("turn", "show", "again", run).output
    assert "replayed" in askers.run("show", run).output
    [row] = [each for each in askers.json("usage", "again", "--by", "run")["runs"] if each["run"] == run]
    assert (row["calls"], row["replayed"], row["input"], row["failed"]) == (2, 1, 200, 0)
    assert row["saved"] == calls[0]["cost"]
    shown = next(line for line in askers.run("usage", "again", "--by", "run").stdout.splitlines() if run[-8:] in line)
    assert shown.split()[1:4] == ["2", "0", "1"]
    assert askers.run("usage", "--by", "run").exit_code == 2
