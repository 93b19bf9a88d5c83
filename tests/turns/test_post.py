"""One turn of an agent that takes any JSON: a webhook, JSON-RPC. Over HTTP, against a real server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from relit.agents.kind import Inject
from relit.turns.chat import Chat, Lost, Post, Refused

RPC = {"jsonrpc": "2.0", "id": "{session}", "method": "run", "params": {"prompt": "{text}", "parts": ["{text}", 7]}}


def way(url: str, **options: Any) -> Inject:
    return Inject(style="post", url=url, body=RPC, **options)


class Service:
    """Answers what it is told to, and keeps what it was sent."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, bytes]] = []
        self.asked: list[tuple[dict[str, str], Any]] = []
        self.kind = "application/json"
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append((dict(self.headers), body))
                while not service.replies:
                    time.sleep(0.01)
                status, reply = service.replies.pop(0)
                self.send_response(status)
                self.send_header("Content-Type", service.kind)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/rpc"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    async def turn(self, text: str, reply: bytes, status: int = 200, answer: str = "result.text") -> str:
        self.replies.append((status, reply))
        async with httpx.AsyncClient(trust_env=False) as http:
            door = Post(http, way(self.url, headers={"X-Thread": "t-{session}"}, answer=answer, failures=["Error: "]))
            return "".join([piece async for piece in door.turn(text, "main")])


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.server.shutdown()
    made.server.server_close()


async def test_a_message_is_posted_as_its_kind_says_and_the_answer_found(service: Service) -> None:
    said = await service.turn('say "{session}" and {text}', b'{"result": {"text": "Done."}}')
    assert said == "Done."
    [(headers, body)] = service.asked
    assert headers["X-Thread"] == "t-main"
    text = 'say "{session}" and {text}'
    assert body == {"jsonrpc": "2.0", "id": "main", "method": "run", "params": {"prompt": text, "parts": [text, 7]}}


@pytest.mark.parametrize(("reply", "said"), [(b"plain words", "plain words"), (b'"text"', "text"), (b"[1]", "[1]")])
async def test_without_a_place_the_whole_reply_is_the_answer(service: Service, reply: bytes, said: str) -> None:
    assert await service.turn("hello", reply, answer="") == said


@pytest.mark.parametrize(
    ("status", "reply", "told"),
    [
        (200, b'{"error": {"message": "no such method"}}', 500),
        (200, b'{"result": {}}', 502),
        (200, b"not JSON", 502),
        (200, b'{"result": {"text": "Error: the model is away"}}', 502),
        (429, b'{"error": "busy"}', 429),
    ],
)
async def test_what_is_no_answer_is_a_refusal(service: Service, status: int, reply: bytes, told: int) -> None:
    with pytest.raises(Refused) as refused:
        await service.turn("hello", reply, status)
    assert refused.value.status == told


async def test_one_that_is_not_there_has_begun_nothing() -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(Lost) as lost:
            [_ async for _ in Post(http, way("http://127.0.0.1:9/")).turn("hello", "main")]
    assert not lost.value.taken


@pytest.mark.parametrize(
    ("reply", "how"),
    [
        (b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\ndata: {"choi', Lost),
        (b"data: [1]\n\ndata: 7\n\n", Lost),
        (b"<html>a page</html>", Refused),
        (b'{"choices": []}', Refused),
        (b"[]", Refused),
    ],
)
async def test_what_is_no_completion_is_lost_or_refused(service: Service, reply: bytes, how: type[Exception]) -> None:
    """And never tried again as if the agent had not begun."""
    service.replies.append((200, reply))
    service.kind = "text/event-stream" if reply.startswith(b"data:") else "application/json"
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(how) as told:
            [_ async for _ in Chat(http, Inject(url=service.url, model="m")).turn("hello", "main")]
    if isinstance(told.value, Lost):
        assert told.value.taken
    else:
        assert isinstance(told.value, Refused)
        assert told.value.status == 502


async def test_what_only_python_takes_for_a_lines_end_is_text(service: Service) -> None:
    text = "a\u2028b\u2029c\x85d\x0be"
    chunk = json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False)
    service.replies.append((200, f"data: {chunk}\r\n\r\ndata: [DONE]\n\n".encode()))
    service.kind = "text/event-stream"
    async with httpx.AsyncClient(trust_env=False) as http:
        assert [piece async for piece in Chat(http, Inject(url=service.url, model="m")).turn("hello", "main")] == [text]


async def test_one_that_says_nothing_for_too_long_is_lost_and_may_work_on(service: Service) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        door = Post(http, way(service.url, idle="50ms"))
        with pytest.raises(Lost) as lost:
            [_ async for _ in door.turn("slow", "main")]
    assert lost.value.taken
    assert lost.value.mute
    service.replies.append((200, b"at last"))


async def test_a_completion_may_carry_the_session_in_its_body(service: Service) -> None:
    service.replies.append((200, b'{"choices": [{"message": {"content": "Hello."}}]}'))
    async with httpx.AsyncClient(trust_env=False) as http:
        door = Chat(http, Inject(url=service.url, model="m", body={"session_id": "relit-{session}"}))
        assert [piece async for piece in door.turn("hello {session}", "main")] == ["Hello."]
    [(_, body)] = service.asked
    assert (body["session_id"], body["stream"]) == ("relit-main", True)
    assert body["messages"] == [{"role": "user", "content": "hello {session}"}]
