"""An agent without an SDK is killed at every boundary of a turn of twelve calls to a model and six to tools, and in the
middle of each: three of those write, and a sink counts. Six cells are in `make test`, all in `make test-crash`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cli_house import House, free_port, until

from relit.node import status

PROGRAM = """
import http.client, json, os, sys, time, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL, MCP, KEY, PLACE = sys.argv[2:6]
STEPS = "mm look mm mail mm look mm order mm look mm post".split()


def calls():
    number = 0
    for step in STEPS:
        if step == "mm":
            yield number, "model"
            yield number + 1, "model"
            number += 2
        else:
            yield number, step
            number += 1


def die(point):
    if WANTED in (point, "stay-" + point, "wait-" + point) and not os.path.exists(marker()):
        open(marker(), "w").close()
        while WANTED != point and not os.path.exists(os.path.join(PLACE, "go-" + NAME)):
            time.sleep(0.01)
        if not WANTED.startswith("wait-"):
            os._exit(9)


def marker():
    return os.path.join(PLACE, "died-" + NAME)


def asked(url, body):
    parts = urllib.parse.urlsplit(url)
    way = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    headers = {"Authorization": "Bearer " + KEY, "Content-Type": "application/json"}
    way.request("POST", parts.path, json.dumps(body), headers)
    return way


def think(talk, number):
    way = asked(MODEL + "/chat/completions", {"model": "m", "stream": True, "messages": talk, "tools": TOOLS})
    answer = way.getresponse()
    text = ""
    for line in answer:
        if line.startswith(b"data: {"):
            text += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
            die(f"in-{number}")
    return text


def use(step, number):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    way = asked(MCP, {**body, "params": {"name": step, "arguments": {"what": f"{NAME}-{number}"}}})
    die(f"in-{number}")
    return json.load(way.getresponse())["result"]["content"][0]["text"]


TOOLS = [{"type": "function", "function": {"name": "look"}}]


class Desk(BaseHTTPRequestHandler):
    def do_GET(self):
        self.say(b"{}")

    def do_POST(self):
        global NAME, WANTED
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        NAME, WANTED = text.split()[-2:]
        talk = [{"role": "user", "content": text}]
        for number, step in calls():
            die(f"before-{number}")
            if step == "model":
                talk.append({"role": "assistant", "content": think(talk, number)})
            else:
                call = {"id": f"c{number}", "type": "function"}
                call["function"] = {"name": step, "arguments": json.dumps({"what": f"{NAME}-{number}"})}
                talk.append({"role": "assistant", "tool_calls": [call]})
                talk.append({"role": "tool", "tool_call_id": f"c{number}", "content": use(step, number)})
            talk.append({"role": "user", "content": "go on"})
        self.say(json.dumps({"choices": [{"message": {"content": "Finished " + NAME}}]}).encode())

    def say(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1].removeprefix("port="))), Desk).serve_forever()
"""
CALLS = 18
WRITES = (5, 11, 17)
KIND = """
title = "Worker"
command = ["{python}", "{program}", "port={{port:http}}", "{{model:url}}", "{{tools:url}}", "{{model:key}}", "{place}"]
cwd = "{{home}}"
ports = ["http"]
tokens = ["model"]

[probes.ready]
http = "http://127.0.0.1:{{port:http}}/ready"
every = "100ms"

[inject]
url = "http://127.0.0.1:{{port:http}}/v1/chat/completions"
"""
CONFIG = """
[gateway]
listen = "127.0.0.1:{gateway}"

[models.default]
url = "http://127.0.0.1:{port}/v1"

[tools.look]
description = "Look."
method = "GET"
url = "http://127.0.0.1:{port}/look/{{what}}"
arguments = {{ what = {{ type = "string" }} }}
private = true

[tools.mail]
description = "Mail."
url = "http://127.0.0.1:{port}/mail/{{what}}"
arguments = {{ what = {{ type = "string" }} }}
effect = "native-key"
idempotency = "header:Idempotency-Key"
private = true

[tools.order]
description = "Order."
url = "http://127.0.0.1:{port}/order/{{what}}"
arguments = {{ what = {{ type = "string" }} }}
effect = "lookup"
idempotency = "header:X-Reference"
lookup = {{ url = "http://127.0.0.1:{port}/orders/{{key}}", found = "0" }}
timeout = "5s"
private = true

[tools.post]
description = "Post."
url = "http://127.0.0.1:{port}/post/{{what}}"
arguments = {{ what = {{ type = "string" }} }}
private = true

[agents.replay]
kind = "worker"
sandbox = "off"
resume = "replay"
grants = ["tool:*"]
heal = {{ retry = "100ms", good_after = "1d" }}

[agents.continue]
kind = "worker"
sandbox = "off"
grants = ["tool:*"]
heal = {{ retry = "100ms", good_after = "1d" }}
"""


class World(BaseHTTPRequestHandler):
    """The model and the services."""

    bought: ClassVar[Counter[str]] = Counter()
    writes: ClassVar[Counter[str]] = Counter()
    keys: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        _, kind, what = self.path.split("/")
        self._say([self.keys[what]] if what in self.keys else [] if kind == "orders" else {"ok": what})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/chat/completions"):
            self._think(json.loads(body)["messages"])
            return
        what = self.path.rpartition("/")[2]
        key = self.headers.get("Idempotency-Key") or self.headers.get("X-Reference") or ""
        if not key or key not in self.keys:
            self.writes[what] += 1
            self.keys[key] = what
        self._say({"ok": what})

    def _think(self, talk: list[dict[str, Any]]) -> None:
        self.bought[str(talk[0]["content"]).split()[-2]] += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for word in ("Thought ", f"number {len(talk)} ", "done."):
            chunk = {"choices": [{"index": 0, "delta": {"content": word}}]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()
            time.sleep(0.01)
        self.wfile.write(b"data: [DONE]\n\n")

    def _say(self, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("workers")
    server = ThreadingHTTPServer(("127.0.0.1", 0), World)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    house = House(folder)
    program = folder / "worker.py"
    program.write_text(PROGRAM)
    (folder / "kinds").mkdir()
    (folder / "kinds" / "worker.toml").write_text(KIND.format(python=sys.executable, program=program, place=folder))
    (folder / "relit.toml").write_text(CONFIG.format(gateway=free_port(), port=server.server_port))
    house.environment["RELIT_CONFIG"] = str(folder / "relit.toml")
    done = house.spawn("up", "--timeout", "60s", timeout=90)
    assert done.returncode == 0, done.stderr
    try:
        yield house
    finally:
        house.down()
        server.shutdown()
        server.server_close()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_turn_whose_home_goes_back_to_before_it_is_answered_from_the_record(workers: House) -> None:
    """Whatever ``resume`` says: the agent does not know of it any more, so it is told as if for the first time."""
    before = workers.json("volume", "snapshot", "continue", "--note", "before")["snapshot"]["number"]
    name = f"back-{time.monotonic_ns()}"
    run = str(workers.json("send", "continue", f"Do it: {name} stay-before-9")["id"])
    deadline = time.monotonic() + 60
    while not (Path(workers.folder) / f"died-{name}").exists():
        assert time.monotonic() < deadline, "it got there"
        time.sleep(0.05)
    workers.json("restore", "continue", "--at", str(before), "--yes")
    assert workers.json("wait", run, "--timeout", "150s")["output"] == f"Finished {name}"
    assert [World.writes[f"{name}-{number}"] for number in WRITES] == [1, 1, 1]
    assert World.bought[name] == 12


def kill(house: House, victim: str) -> None:
    """As the kernel would. Of what relit does not start again itself, a person does."""
    run = Path(house.folder) / "data" / "run"

    def gateways() -> list[int]:
        return [each.pid for each in status.read(run).instances if each.name == "gateway" and each.pid]

    if victim == "gateway":
        until(gateways, "it is back from the last time")
        os.kill(gateways()[0], signal.SIGKILL)
        return
    known = status.read(run)
    for pid in (known.keeper, known.node, *(each.pid for each in known.instances)):
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    until(lambda: status.read(run).node is None, "the node is dead")
    done = house.spawn("up", "--timeout", "5s", timeout=90)
    assert done.returncode in (0, 1, 5), done.stderr  # the other agent, which dies as often, may still be waited for

    def served() -> bool:
        now = status.read(run)
        return now.node is not None and any(each.name == "server" and each.state == "ready" for each in now.instances)

    until(served, "another node lives, and its server")


def decide(house: House, run: str) -> None:
    """A person says whether what is in doubt was done: of `post` nobody else can know."""
    while (state := house.json("show", run)["run"]["state"]) not in ("completed", "failed", "discarded"):
        for each in house.json("effects", "ls", "--run", run, "--state", "in_doubt")["tools"]:
            if each["effect"] == "ask":
                happened = World.writes[each["arguments"]["what"]] > 0
                house.run("effects", "resolve", each["id"], "--done" if happened else "--not-done")
        time.sleep(0.1)
    assert state == "completed"


POINTS = [f"{when}-{number}" for number in range(CALLS) for when in ("before", "in")]
CELLS = ("in-3", "before-8", "in-5", "in-11", "in-17", "before-17")


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", CELLS)
def test_a_turn_that_is_cut_is_finished_and_nothing_is_done_twice(workers: House, point: str) -> None:
    cut(workers, "replay", point)


@pytest.mark.crash
@pytest.mark.timeout(120)
@pytest.mark.parametrize("point", POINTS)
def test_at_every_boundary_and_in_the_middle_of_each_call(workers: House, point: str) -> None:
    cut(workers, "replay", point)


@pytest.mark.crash
@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", POINTS)
def test_an_agent_that_goes_on_as_it_is_does_nothing_twice_either(workers: House, point: str) -> None:
    """As often as it dies here, it would soon be tried once in ten minutes: `heal.retry` is short, and there is no
    known-good home that would be put back in the middle of a turn."""
    cut(workers, "continue", point)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("victim", "point"), [("gateway", "in-9"), ("everything", "in-11")])
def test_a_turn_is_finished_when_what_is_around_its_agent_dies(workers: House, victim: str, point: str) -> None:
    cut(workers, "replay", point, victim)


@pytest.mark.crash
@pytest.mark.timeout(240)
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("resume", ["replay", "continue"])
@pytest.mark.parametrize("victim", ["gateway", "everything"])
def test_whatever_dies_at_any_boundary_nothing_is_done_twice(
    workers: House, victim: str, resume: str, point: str
) -> None:
    cut(workers, resume, point, victim)


def cut(house: House, resume: str, point: str, victim: str = "agent") -> None:
    """One turn, in which the agent dies there, or stands there while others do."""
    name = f"{resume}-{victim}-{point}-{time.monotonic_ns()}"
    reached = Path(house.folder) / f"died-{name}"
    run = str(house.json("send", resume, f"Do it: {name} {point if victim == 'agent' else f'wait-{point}'}")["id"])
    if victim != "agent":
        try:
            until(reached.exists, "it got there")
            kill(house, victim)
        finally:
            (Path(house.folder) / f"go-{name}").touch()
    decide(house, run)
    assert house.json("wait", run, "--timeout", "150s")["output"] == f"Finished {name}"
    assert reached.exists(), "it was killed"
    assert [World.writes[f"{name}-{number}"] for number in WRITES] == [1, 1, 1]
    if resume == "replay":
        assert 12 <= World.bought[name] <= 12 + (victim != "agent"), "no call was bought twice"
    tools = house.json("turn", "show", resume, run)["tools"]
    cut_off = {each["tool"] for each in tools if each["state"] not in ("done", "replayed")}
    assert cut_off <= ({"look"} if victim != "agent" else set()), "but for reading, which is begun anew"
