"""The demo's third agent, of a kind that relit did not write: asked for something, it asks its model what to say, says
it by a tool, asks its model once more, and answers. It knows nothing of relit: an OpenAI-compatible server, a model's
address, and one of tools."""

from __future__ import annotations

import json
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ASK, CLOSE = "Write the message, in one line.", "It was sent. Say so."


class Messenger(BaseHTTPRequestHandler):
    """``model``, ``tools``, ``key``: where it asks, and by what right."""

    model = tools = key = ""

    def do_GET(self) -> None:
        """Says that it is there."""
        self._say({"well": True})

    def do_POST(self) -> None:
        """Does what it is asked to do."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        talk = [{"role": "user", "content": f"{asked} {ASK}"}]
        words = self._think(talk)
        self._tell(words)
        talk += [{"role": "assistant", "content": words}, {"role": "user", "content": CLOSE}]
        self._say({"choices": [{"message": {"role": "assistant", "content": self._think(talk)}}]})

    def _think(self, talk: list[dict[str, str]]) -> str:
        answer = self._post(f"{self.model}/chat/completions", {"model": "default", "messages": talk})
        return str(answer["choices"][0]["message"]["content"])

    def _tell(self, words: str) -> None:
        params = {"name": "notify", "arguments": {"text": words}}
        self._post(self.tools, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})

    def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def _say(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def main(port: str, model: str, tools: str, key: str) -> None:
    """Serve until killed."""
    Messenger.model, Messenger.tools, Messenger.key = model, tools, key
    ThreadingHTTPServer(("127.0.0.1", int(port)), Messenger).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
