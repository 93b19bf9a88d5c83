"""Services that agents write to, and that count what arrived."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOOLS = """
[tools.look]
description = "Look something up."
method = "GET"
url = "http://127.0.0.1:{port}/look/{{what}}"
arguments = {{ what = {{ type = "string" }} }}
private = true

[tools.mail]
description = "Send a mail. It is sent once, however often."
url = "http://127.0.0.1:{port}/mail/{{what}}"
arguments = {{ what = {{ type = "string" }} }}
effect = "native-key"
idempotency = "header:Idempotency-Key"
private = true

[tools.order]
description = "Order something."
url = "http://127.0.0.1:{port}/order/{{what}}"
arguments = {{ what = {{ type = "string" }} }}
effect = "lookup"
idempotency = "header:X-Reference"
lookup = {{ url = "http://127.0.0.1:{port}/orders?reference={{key}}", found = "0" }}
timeout = "5s"
private = true

[tools.post]
description = "Post something. Nobody can say afterwards whether it was."
url = "http://127.0.0.1:{port}/post/{{what}}"
arguments = {{ what = {{ type = "string" }} }}
timeout = "120s"
private = true
"""


class CountingSink:
    """``writes``: (tool, what) of each that changed something. What is in ``held`` is done and not answered until it is
    let go."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, str]] = []
        self.reads: list[str] = []
        self.arrived: set[str] = set()
        self._held: dict[str, threading.Event] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.tools = TOOLS.format(port=self._server.server_port)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def count(self, what: str) -> int:
        """How often something of that name was written."""
        return sum(each == what for _, each in self.writes)

    @contextmanager
    def hold(self, what: str) -> Iterator[None]:
        """Its first answer does not come until the end."""
        self._held[what] = event = threading.Event()
        try:
            yield
        finally:
            event.set()

    def stop(self) -> None:
        for event in self._held.values():
            event.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, tool: str, what: str, key: str) -> dict[str, Any]:
        """A request has come."""
        with self._lock:
            if tool in ("look", "orders"):
                self.reads.append(what)
            elif not key or key not in self._keys:
                self._keys[key] = (tool, what)
                self.writes.append((tool, what))
            held = self._held.get(what) if what not in self.arrived else None
            self.arrived.add(what)
        if held is not None:
            held.wait(110)  # before its tool gives it up
        return {"ok": what}

    def ordered(self, key: str) -> list[str]:
        """What was ordered under that reference."""
        found = self._keys.get(key)
        return [f"ok {found[1]}"] if found else []


def _handler(sink: CountingSink) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/orders":
                return self._say(sink.ordered(parse_qs(parts.query)["reference"][0]))
            return self._say(sink.take("look", parts.path.rpartition("/")[2], ""))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            _, tool, what = self.path.split("/")
            key = self.headers.get("Idempotency-Key") or self.headers.get("X-Reference") or ""
            self._say(sink.take(tool, what, key))

        def _say(self, answer: Any) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            pass

    return Handler
