"""A relit with two agents that pass on what a scripted model says, word by word, and those who follow their answers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli_house import House, free_port

import relit
from relit import documents
from relit.settings.noted import noted_token
from relit.testing.llm import Rule, ScriptedLLM

# Asks the model what it is asked, and passes on what comes; what breaks off there breaks off here.
PROGRAM = """
import http.client, json, os, sys, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Desk(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"model": "m", "stream": True, "messages": asked["messages"]}).encode()
        headers = {"Authorization": "Bearer " + os.environ["MODEL_KEY"], "Content-Type": "application/json"}
        request = urllib.request.Request(os.environ["MODEL_URL"] + "/chat/completions", body, headers)
        try:
            answer = urllib.request.urlopen(request)
        except OSError as error:
            return self.send_error(502, str(error))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for line in answer:
                self.wfile.write(line)
                self.wfile.flush()
        except (OSError, http.client.HTTPException):
            self.close_connection = True

    def log_message(self, *words):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Desk).serve_forever()
"""

KIND = """
title = "Herald"
command = ["{python}", "{program}", "{{port:http}}"]
cwd = "{{home}}/work"
folders = ["work"]
ports = ["http"]
tokens = ["model"]
startup = "30s"
grace = "5s"

[env]
MODEL_URL = "{{model:url}}"
MODEL_KEY = "{{model:key}}"

[probes.ready]
http = "http://127.0.0.1:{{port:http}}/ready"
every = "200ms"

[inject]
url = "http://127.0.0.1:{{port:http}}/v1/chat/completions"
hangup = "cancels"
"""

CONFIG = """
[gateway]
listen = "127.0.0.1:{port}"
[models.default]
url = "{url}/v1"
key = "scripted"
model = "m"
[prices.m]
input = 1.0
output = 10.0
[agents.goes_on]
kind = "herald"
sandbox = "off"
resume = "continue"
heal = {{ restarts = 100 }}
[agents.goes_back]
kind = "herald"
sandbox = "off"
resume = "replay"
heal = {{ restarts = 100 }}
"""
AGENTS = ("goes_on", "goes_back")


@dataclass
class Follower:
    """What somebody has of an answer. ``items``: all that came; ``text``: put together as they say."""

    items: list[Any] = field(default_factory=list)
    run: str = ""
    text: str = ""
    output: Any = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def see(self, event: str, data: Any) -> None:
        """``data``: of an item, or what the run returned."""
        if event == "item":
            self.items.append(data)
            self.text = "" if "restarted" in data else self.text + data.get("text", "")
        elif event == "end":
            self.output = data
        self._news.set()

    async def has(self, words: int) -> None:
        """As soon as so many are there."""
        while len(self.text.split()) < words:
            self._news.clear()
            await self._news.wait()

    @property
    def told(self) -> str:
        """All text that ever came, restarts or not."""
        return "".join(item.get("text", "") for item in self.items)


class AnsweringHouse(House):
    """Its model is ``llm``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.llm = ScriptedLLM([])
        program = folder / "herald.py"
        program.write_text(PROGRAM)
        (folder / "kinds").mkdir()
        (folder / "kinds" / "herald.toml").write_text(KIND.format(python=sys.executable, program=program))
        self.environment["RELIT_CONFIG"] = str(folder / "relit.toml")

    async def start(self, rules: list[Rule]) -> None:
        self.llm.rules[:] = rules
        await self.llm.start()
        (self.folder / "relit.toml").write_text(CONFIG.format(port=free_port(), url=self.llm.url))
        done = await asyncio.to_thread(self.spawn, "up")
        assert done.returncode == 0, done.stderr
        async with asyncio.timeout(40):
            while any(self._instance(name)["state"] != "ready" for name in (*AGENTS, "gateway", "turns")):
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        await asyncio.to_thread(self.down)
        await self.llm.stop()

    def _instance(self, name: str) -> dict[str, Any]:
        record = json.loads((self.data / "run" / "node.json").read_bytes())
        return next((each for each in record["instances"] if each["name"] == name), {"state": "unknown"})

    def kill(self, *names: str) -> None:
        """All of them, at once."""
        pids = [int(self._instance(name)["pid"]) for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def client(self) -> relit.Client:
        url = f"http://{self.environment['RELIT_SERVER__LISTEN']}"
        return relit.Client(url, noted_token(self.data) or "")

    async def follow(self, run: str, follower: Follower) -> None:
        """In Python, until its end."""
        async with self.client() as client:
            async for event in client.stream(run, payloads="full"):
                data = event.data
                follower.see(event.event, data.data if isinstance(data, documents.Item) else getattr(data, "output", 0))

    async def chat(self, agent: str, text: str, follower: Follower, sent: asyncio.Future[str]) -> None:
        """On the command line, until its end. ``sent`` gets the run."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "relit.cli", "--json", "chat", agent, env=self.environment, cwd=self.folder,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{text}\n".encode())
        process.stdin.close()
        try:
            async for line in process.stdout:
                row = json.loads(line)
                if row["event"] == "sent":
                    follower.run = row["id"]
                    sent.set_result(row["id"])
                else:
                    follower.see(row["event"], row["data"].get("data" if row["event"] == "item" else "output"))
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
