"""Tools through the gateway, as a person and an agent see them: ``relit approvals``, ``relit effects``, the strict set,
and a sink that counts what arrived."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cli_house import House, free_port, until

pytestmark = pytest.mark.slow

PROGRAM = """
import json, os, sys, urllib.error, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

URL, KEY = sys.argv[2:4]


def mcp(method, **params):
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(URL, json.dumps(body).encode(), headers)) as answer:
        return json.load(answer)


def step(words):
    if words == "tools":
        return " ".join(sorted(each["name"] for each in mcp("tools/list")["result"]["tools"]))
    if words.startswith("die "):
        if not os.path.exists(words[4:]):
            open(words[4:], "w").close()
            os._exit(3)
        return "alive"
    name, _, arguments = words.partition(" ")
    try:
        answer = mcp("tools/call", name=name, arguments=json.loads(arguments))
    except OSError as error:
        return f"broken: {error}"
    if "error" in answer:
        return "refused: " + answer["error"]["message"]
    return "".join(part["text"] for part in answer["result"]["content"])


class Desk(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        if text.startswith("[relit: this message was delivered before"):
            text = text.partition("\\n\\n")[2]
        said = text if text.startswith("[relit:") else "\\n".join(step(words) for words in text.split(" ;; "))
        with open("diary", "a") as diary:
            diary.write(said + "\\n")
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
title = "Clerk"
command = ["{python}", "{program}", "port={{port:http}}", "{{tools:url}}", "{{tools:key}}"]
cwd = "{{home}}/work"
folders = ["work"]
ports = ["http"]
tokens = ["model"]

[[config]]
path = "clerk.json"
format = "json"

[config.keep]
own = true

[config.strict]
own = false

[probes.ready]
http = "http://127.0.0.1:{{port:http}}/ready"
every = "200ms"

[inject]
url = "http://127.0.0.1:{{port:http}}/v1/chat/completions"
"""

FUNCTIONS = """
import os, pathlib, signal
import relit

PLACE = pathlib.Path(__file__).parent


@relit.tool
def weigh(things: list[str], unit: str = "kg") -> str:
    \"\"\"Weigh some things.\"\"\"
    return f"{len(things)} {unit}"


@relit.tool(effect="key")
def charge(who: str, idempotency_key: str) -> dict:
    with (PLACE / "charges").open("a") as book:
        book.write(f"{who} {idempotency_key}\\n")
    died = PLACE / "worker-died"
    if who == "mallory" and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"charged": who}
"""

CONFIG = """
[gateway]
listen = "127.0.0.1:{gateway}"
hold = "2s"

[tools.mail]
description = "Send a mail."
url = "http://127.0.0.1:{sink}/mail/{{to}}"
arguments = {{ to = {{ type = "string" }}, text = {{ type = "string" }} }}
optional = ["text"]
key = "secret:mail"
effect = "native-key"
idempotency = "header:Idempotency-Key"
private = true

[tools.post]
description = "Post something."
url = "http://127.0.0.1:{sink}/post/{{to}}"
arguments = {{ to = {{ type = "string" }} }}
private = true

[tools.inner]
description = "Ask this machine."
method = "GET"
url = "http://localhost:{sink}/inner"

[tools.weigh]
function = "scales:weigh"

[tools.charge]
function = "scales:charge"
description = "Charge somebody, once."

[agents.clerk]
kind = "clerk"
model = "own"
sandbox = "off"
grants = ["tool:mail", "tool:post", "tool:inner", "tool:weigh", "tool:charge"]

[agents.keeper]
kind = "clerk"
model = "own"
sandbox = "off"
grants = ["tool:*"]
policies = {{ "mail" = "deny", "shell" = "deny" }}

[agents.careful]
kind = "clerk"
model = "own"
sandbox = "off"
grants = ["tool:mail"]
policies = {{ "ma*" = "ask" }}

[agents.bound]
kind = "clerk"
model = "own"
sandbox = "off"
tools = "strict"
env = {{ MAILBOX = "secret:mailbox" }}
"""


class Sink(BaseHTTPRequestHandler):
    """Counts what arrives; of two with one key the second changes nothing."""

    heard: ClassVar[list[tuple[str, str, str]]] = []
    kept: ClassVar[dict[str, str]] = {}
    slow: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        self.heard.append((self.path, "", ""))
        self._say(200, b"inner")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = self.headers.get("Idempotency-Key", "")
        fresh = not key or key not in self.kept
        if fresh:
            self.kept[key] = self.path
            self.heard.append((self.path, key, self.headers.get("Authorization", "")))
        if "slow" in self.path:
            self.slow.wait(20)
        self._say(200, json.dumps({"sent": self.path, "number": len(self.heard)}).encode())

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass

    @classmethod
    def count(cls, name: str) -> int:
        """How often something for that name arrived."""
        return sum(path.endswith(f"/{name}") for path, _, _ in cls.heard)


@pytest.fixture(scope="module")
def clerks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("clerks")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    house = House(folder)
    program = folder / "clerk.py"
    program.write_text(PROGRAM)
    (folder / "scales.py").write_text(FUNCTIONS)
    (folder / "kinds").mkdir()
    (folder / "kinds" / "clerk.toml").write_text(KIND.format(python=sys.executable, program=program))
    (folder / "relit.toml").write_text(CONFIG.format(gateway=free_port(), sink=server.server_port))
    house.environment["RELIT_CONFIG"] = str(folder / "relit.toml")
    house.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    secrets = house.data / "secrets.toml"
    secrets.write_text('mail = "sesame-open-wide"\nmailbox = "open-sesame-slowly"\n')
    secrets.chmod(0o600)
    done = house.spawn("up", "--timeout", "60s", timeout=90)
    assert done.returncode == 0, done.stderr
    try:
        yield house
    finally:
        Sink.slow.set()
        house.down()
        server.shutdown()
        server.server_close()


def ask(house: House, text: str, agent: str = "clerk") -> tuple[str, str]:
    """(run, answer)."""
    run = str(house.json("send", agent, text)["id"])
    return run, str(house.json("wait", run, "--timeout", "60s")["output"])


def call(tool: str, /, **arguments: Any) -> str:
    return f"{tool} {json.dumps(arguments)}"


def test_an_agent_is_offered_what_it_is_granted_and_nothing_else(clerks: House) -> None:
    assert ask(clerks, "tools")[1] == "charge inner mail post read_result weigh"
    assert ask(clerks, "tools", "careful")[1] == "mail read_result"
    assert ask(clerks, call("post", to="x"), "careful")[1] == "refused: Unknown tool: post"
    assert Sink.count("x") == 0
    denied = clerks.run("tail", "--from-start", "--no-follow", "--name", "tool.denied").output
    assert "careful" in denied


def test_a_call_is_made_with_a_key_that_the_agent_never_sees(clerks: House) -> None:
    run, said = ask(clerks, call("mail", to="ann", text="Hello."))
    assert json.loads(said)["sent"] == "/mail/ann"
    [(_, key, authorization)] = [each for each in Sink.heard if each[0] == "/mail/ann"]
    assert authorization == "Bearer sesame-open-wide"
    assert key.startswith("relit-")
    shown = clerks.run("turn", "show", "clerk", run).output
    assert "mail" in shown
    assert "1 to tools" in shown
    [told] = clerks.json("turn", "show", "clerk", run)["tools"]
    assert (told["state"], told["arguments"]) == ("done", {"to": "ann", "text": "Hello."})


def test_an_agent_that_dies_after_a_call_does_not_repeat_it(clerks: House, tmp_path: Path) -> None:
    run, said = ask(clerks, " ;; ".join([call("post", to="bob"), f"die {tmp_path / 'died'}", call("post", to="eve")]))
    assert said.splitlines()[1] == "alive"
    assert (Sink.count("bob"), Sink.count("eve")) == (1, 1)
    assert [each["state"] for each in clerks.json("turn", "show", "clerk", run)["tools"]] == [
        "done",
        "replayed",
        "done",
    ]


def test_a_call_waits_for_a_persons_word(clerks: House) -> None:
    run = str(clerks.json("send", "careful", call("mail", to="cleo"))["id"])
    assert "waits for a person's approval" in clerks.json("wait", run, "--timeout", "30s")["output"]
    [held] = clerks.json("approvals")["calls"]
    assert (held["agent"], held["tool"], held["arguments"]) == ("careful", "mail", {"to": "cleo"})
    assert "cleo" in clerks.run("approvals", "ls").output
    shown = clerks.run("ps").output
    assert "calls to tools that wait for your word: 1" in shown
    assert "relit-tools" not in shown
    assert Sink.count("cleo") == 0
    assert "approved" in clerks.run("approvals", "approve", held["id"][-8:]).output
    diary = clerks.data / "agents" / "careful" / "home" / "work" / "diary"
    until(lambda: "/mail/cleo" in diary.read_text(), "the agent to be told")
    assert Sink.count("cleo") == 1
    assert clerks.run("approvals", "approve", held["id"]).exit_code == 6
    assert clerks.run("approvals", "approve", "nothing").exit_code == 4


def test_a_denied_call_is_told_and_not_made(clerks: House) -> None:
    run = str(clerks.json("send", "careful", call("mail", to="dora"))["id"])
    until(lambda: clerks.json("approvals")["calls"], "the call to wait")
    [held] = clerks.json("approvals")["calls"]
    clerks.run("approvals", "deny", held["id"], "--why", "she is away")
    diary = clerks.data / "agents" / "careful" / "home" / "work" / "diary"
    clerks.json("wait", run, "--timeout", "30s")
    until(lambda: "she is away" in diary.read_text(), "the agent to be told")
    assert Sink.count("dora") == 0


def test_functions_are_tools(clerks: House) -> None:
    assert ask(clerks, call("weigh", things=["a", "b"]))[1] == "2 kg"
    assert "'things' is a required property" in ask(clerks, call("weigh"))[1].replace('"', "'")
    assert json.loads(ask(clerks, call("charge", who="ann"))[1]) == {"charged": "ann"}


def test_a_function_whose_process_dies_is_called_again_with_its_key(clerks: House) -> None:
    said = ask(clerks, call("charge", who="mallory"))[1]
    diary = clerks.data / "agents" / "clerk" / "home" / "work" / "diary"
    until(lambda: '"charged":"mallory"' in said + diary.read_text(), "the function")
    lines = [each for each in (clerks.folder / "charges").read_text().splitlines() if each.startswith("mallory")]
    assert len(lines) == 2
    assert len({*lines}) == 1, "with the same key"


def test_notes_outlive_what_befalls_a_home(clerks: House) -> None:
    assert ask(clerks, call("remember", name="colour", text="green"), "keeper")[1] == "remembered"
    assert ask(clerks, call("recall", words="GREEN"), "keeper")[1] == "colour: green"
    assert ask(clerks, call("remember", name="colour", text=""), "keeper")[1] == "forgotten"
    assert ask(clerks, call("recall"), "keeper")[1] == "there is no such note"


def test_an_agent_makes_schedules_of_its_own(clerks: House) -> None:
    assert "keeper--tick" in ask(clerks, call("schedule", name="tick", message="tools", every="1h"), "keeper")[1]
    [found] = [each for each in clerks.json("schedule", "ls")["schedules"] if each["name"] == "keeper--tick"]
    assert found["agent"] == "keeper"
    assert "not a cron expression" in ask(clerks, call("schedule", name="x", message="m", cron="never"), "keeper")[1]
    assert ask(clerks, call("schedule", name="tick", cancel=True), "keeper")[1] == "it is no more"
    assert not [each for each in clerks.json("schedule", "ls")["schedules"] if each["name"] == "keeper--tick"]


def test_an_agent_asks_a_person_and_gets_the_answer(clerks: House) -> None:
    run = str(clerks.json("send", "keeper", call("ask_human", question="Which colour?"))["id"])
    until(lambda: clerks.json("approvals")["calls"], "the question")
    [asked] = clerks.json("approvals")["calls"]
    assert asked["arguments"] == {"question": "Which colour?"}
    clerks.run("approvals", "approve", asked["id"], "--say", "Green, of course.")
    said = clerks.json("wait", run, "--timeout", "30s")["output"]
    diary = clerks.data / "agents" / "keeper" / "home" / "work" / "diary"
    until(lambda: "Green, of course." in said + diary.read_text(), "the answer")


def test_an_agent_writes_to_another_and_keeps_versions(clerks: House) -> None:
    said = ask(clerks, call("send_to_agent", agent="careful", message="[relit: hello]"), "keeper")[1]
    assert "sent, as run" in said
    assert "there is no agent nobody" in ask(clerks, call("send_to_agent", agent="nobody", message="x"), "keeper")[1]
    home = clerks.data / "agents" / "keeper" / "home" / "work"
    (home / "plan.txt").write_text("one\n")
    taken = ask(clerks, call("snapshot", note="before"), "keeper")[1]
    assert taken.startswith("snapshot ")
    (home / "plan.txt").write_text("two\n")
    back = ask(clerks, call("restore_file", path="work/plan.txt", at=taken.split()[1]), "keeper")[1]
    assert "is as it was" in back
    assert (home / "plan.txt").read_text() == "one\n"
    assert "refused" in ask(clerks, call("nothing"), "keeper")[1]
    assert "a policy forbids it" in ask(clerks, call("shell", command="id"), "keeper")[1]


def test_the_death_of_the_gateway_leaves_a_doubt_that_a_person_settles(clerks: House) -> None:
    Sink.slow.clear()
    run = str(clerks.json("send", "clerk", call("post", to="slow-1"))["id"])
    until(lambda: Sink.count("slow-1"), "the call")
    kill_gateway(clerks)
    until(lambda: [each for each in clerks.json("effects")["tools"] if each["state"] == "in_doubt"], "the doubt")
    Sink.slow.set()
    [doubtful] = clerks.json("effects")["tools"]
    oldest = min(each["number"] for each in clerks.json("volume", "log", "clerk")["snapshots"])
    back = clerks.run("restore", "clerk", "--at", str(oldest), "--dry-run")
    assert back.exit_code == 0, back.output
    assert "post" in back.output, "what no restore undoes is told"
    shown = clerks.run("effects").output
    assert "post" in shown
    assert "in_doubt" in shown
    clerks.json("wait", run, "--timeout", "60s")
    resolved = clerks.run("effects", "resolve", doubtful["id"][-8:], "--done", "--result", '"it arrived"')
    assert resolved.exit_code == 0, resolved.output
    assert Sink.count("slow-1") == 1
    assert clerks.json("effects")["tools"] == []


def test_after_the_death_of_the_gateway_a_call_with_a_key_is_brought_to_its_end(clerks: House) -> None:
    Sink.slow.clear()
    run = str(clerks.json("send", "clerk", call("mail", to="slow-2"))["id"])
    until(lambda: Sink.count("slow-2"), "the call")
    kill_gateway(clerks)
    Sink.slow.set()
    clerks.json("wait", run, "--timeout", "60s")
    until(lambda: not clerks.json("effects")["tools"], "the end")
    assert Sink.count("slow-2") == 1
    assert clerks.json("turn", "show", "clerk", run)["tools"][0]["state"] == "done"


def test_addresses_of_this_machine_are_refused(clerks: House) -> None:
    before = Sink.count("inner")
    assert "may not be called" in ask(clerks, call("inner"))[1]
    for url in ("http://127.0.0.1:1/", "http://169.254.169.254/latest/meta-data/", "http://0x7f.1/", "http://[::1]:1/",
                "http://①27.0.0.1:1/", "http://１２７.0.0.1:1/"):  # fmt: skip
        assert "may not be called" in ask(clerks, call("http", url=url), "bound")[1], url
    assert Sink.count("inner") == before


def test_strict_tools_work_in_the_agents_place_and_are_not_done_again(clerks: House, tmp_path: Path) -> None:
    assert ask(clerks, "tools", "bound")[1] == "http read_file read_result shell write_file"
    home = clerks.data / "agents" / "bound" / "home" / "work"
    steps = [
        call("write_file", path="notes/a.txt", content="one\ntwo\nthree\n"),
        call("shell", command="pwd; echo ran >> ran; cat notes/a.txt | wc -l"),
        call("read_file", path="notes/a.txt", offset=2, limit=1),
        f"die {home / 'died'}",
        call("shell", command="cat ran; exit 7"),
    ]
    _, said = ask(clerks, " ;; ".join(steps), "bound")
    assert "already done earlier in this turn, and not again: shell" in said
    said = re.sub(r"\[relit: already done.*What came of it:]", "", said)
    assert said.splitlines() == ["written", str(home), "3", "", "two", "", "alive", "ran", "", "[exit code 7]"]
    assert (home / "ran").read_text() == "ran\n"
    assert json.loads((home.parent / "clerk.json").read_text())["own"] is False


def test_a_strict_shell_knows_the_agents_secrets_and_no_record_shows_them(clerks: House) -> None:
    _, said = ask(clerks, call("shell", command="echo ${#MAILBOX} $MAILBOX"), "bound")
    assert said.split() == ["18", "[hidden]"]
    assert b"open-sesame-slowly" not in (clerks.data / "relit.db").read_bytes()
    assert b"open-sesame-slowly" not in (clerks.data / "relit.db-wal").read_bytes()


def test_a_shell_that_takes_too_long_is_ended_with_all_that_it_started(clerks: House) -> None:
    _, said = ask(clerks, call("shell", command="sleep 300 & sleep 300", timeout=1), "bound")
    assert "ended after 1 seconds" in said
    assert not processes("sleep 300")


def kill_gateway(house: House) -> None:
    [pid] = [
        each for each in processes(str(house.data)) + processes("relit") if "gateway" in arguments(each)
        and env(each).get("RELIT_DATA") == str(house.data)
    ][:1]  # fmt: skip
    os.kill(pid, signal.SIGKILL)


def arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def env(pid: int) -> dict[str, str]:
    try:
        words = Path(f"/proc/{pid}/environ").read_text().split("\0")
    except OSError:
        return {}
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def processes(words: str) -> list[int]:
    return [
        int(each)
        for each in os.listdir("/proc")
        if each.isdigit() and int(each) != os.getpid() and words in " ".join(arguments(int(each)))
    ]
