"""The scripted model server fails on order, keeps answers open on order, and tells what became of each request."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from relit.testing.llm import Answer, Ask, Rule, ScriptedLLM, When, recorded

CHAT = "/v1/chat/completions"
PATHS = [CHAT, "/v1/responses", "/v1/messages"]
UNVERIFIED: dict[str, Any] = {"verify": False}  # reading all certificates takes longer than a test
LONG = "one two three four five six"


def _body(text: str, **more: Any) -> dict[str, Any]:
    """What each of the protocols takes."""
    return {
        "model": "m", "messages": [{"role": "user", "content": text}], "input": text, "max_tokens": 9, **more,
    }  # fmt: skip


async def _ask(llm: ScriptedLLM, text: str, path: str = CHAT, headers: Any = None, **more: Any) -> httpx.Response:
    async with httpx.AsyncClient(**UNVERIFIED) as client:
        return await client.post(f"{llm.url}{path}", json=_body(text, **more), headers=headers)


@pytest.mark.parametrize(("status", "path", "kind", "code"), [
    (401, CHAT, "invalid_request_error", "invalid_api_key"),
    (429, CHAT, "requests", "rate_limit_exceeded"),
    (500, "/v1/responses", "server_error", None),
    (401, "/v1/messages", "authentication_error", None),
    (429, "/v1/messages", "rate_limit_error", None),
    (500, "/v1/messages", "api_error", None),
    (529, "/v1/messages", "overloaded_error", None),
])  # fmt: skip
async def test_an_error_has_its_providers_shape(status: int, path: str, kind: str, code: str | None) -> None:
    async with ScriptedLLM([Rule(When(), Answer(status=status, message="no", retry_after=2))]) as llm:
        answer = await _ask(llm, "hello", path, stream=True)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error.get("code"), error["message"]) == (status, kind, code, "no")
    assert answer.headers["retry-after"] == "2"


async def test_a_rule_may_name_the_errors_code() -> None:
    rule = Rule(When(), Answer(status=400, code="context_length_exceeded"))
    async with ScriptedLLM([rule]) as llm:
        answer = await _ask(llm, "hello")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_other_requests_fail_on_order_too() -> None:
    async with ScriptedLLM([Rule(When(protocol="embeddings"), Answer(status=503))]) as llm:
        assert (await _ask(llm, "hello", "/v1/embeddings")).status_code == 503
        assert (await _ask(llm, "hello")).status_code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_is_cut_after_so_many_events(path: str) -> None:
    async with (
        ScriptedLLM([Rule(When(), Answer(LONG, fault="cut", after=3))]) as llm,
        httpx.AsyncClient(**UNVERIFIED) as client,
        client.stream("POST", f"{llm.url}{path}", json=_body("a", stream=True)) as answer,
    ):
        got: list[str] = []
        with pytest.raises(httpx.RemoteProtocolError):
            await _read(answer, got)
        assert "".join(got).count("data: ") == 3
        assert await llm.requests[0].ended() == "cut"
    assert [llm.requests[0].sent, llm.requests[0].status] == [3, 200]


async def _read(answer: httpx.Response, into: list[str]) -> None:
    async for part in answer.aiter_text():
        into.append(part)


@pytest.mark.parametrize("after", [0, 1, 99])
async def test_an_answer_in_one_piece_is_cut_too(after: int) -> None:
    async with ScriptedLLM([Rule(When(), Answer(LONG, fault="cut", after=after))]) as llm:
        with pytest.raises(httpx.RemoteProtocolError):
            await _ask(llm, "a")
        assert await llm.requests[0].ended() == "cut"
    assert llm.requests[0].status == (None if after == 0 else 200)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [True, False])
async def test_malformed_json_ends_like_a_good_answer(path: str, stream: bool) -> None:
    async with ScriptedLLM([Rule(When(), Answer(LONG, fault="malformed", after=2))]) as llm:
        answer = await _ask(llm, "a", path, stream=stream)
        assert await llm.requests[0].ended() == "finished"
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")] if stream else [answer.text]
    assert [no for no, line in enumerate(lines) if not _is_json(line)] == [2 if stream else 0]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


@pytest.mark.parametrize("answer", [Answer(fault="hang"), Answer(LONG, delay_s=3600)], ids=["hang", "delay"])
async def test_a_client_that_goes_before_the_first_byte_has_left(answer: Answer) -> None:
    async with ScriptedLLM([Rule(When(), answer)]) as llm, asyncio.TaskGroup() as group:
        asking = group.create_task(_ask(llm, "a"))
        exchange = await llm.request()
        asking.cancel()
        assert await exchange.ended() == "left"
    assert [exchange.sent, exchange.status] == [0, None]


@pytest.mark.parametrize(
    ("answer", "sent"),
    [(Answer(LONG, fault="hang", after=2), 2), (Answer(LONG, pace_s=3600), 1)],
    ids=["hang", "pace"],
)
async def test_a_client_that_goes_in_the_middle_of_a_stream_has_left(answer: Answer, sent: int) -> None:
    async with ScriptedLLM([Rule(When(), answer)]) as llm, httpx.AsyncClient(**UNVERIFIED) as client:
        async with client.stream("POST", f"{llm.url}{CHAT}", json=_body("a", stream=True)) as answered:
            await _events(answered, sent)
        assert await llm.requests[0].ended() == "left"
    assert [llm.requests[0].sent, llm.requests[0].status] == [sent, 200]


async def _events(answer: httpx.Response, count: int) -> None:
    """Back when so many have come."""
    got = ""
    async for part in answer.aiter_text():
        got += part
        if got.count("\n\n") >= count:
            return


async def test_delays_pass_before_the_first_byte_and_between_pieces() -> None:
    async with ScriptedLLM([Rule(When(), Answer("one two", delay_s=0.05, pace_s=0.01))]) as llm:
        await _ask(llm, "a", stream=True)
        await llm.requests[0].ended()
    [exchange] = llm.requests
    assert exchange.ended_ms is not None
    assert exchange.ended_ms - exchange.at_ms >= 50 + 10 * (exchange.sent - 1) - 2  # milliseconds are rounded


async def test_a_held_answer_comes_when_it_is_released() -> None:
    async with ScriptedLLM() as llm, asyncio.TaskGroup() as group:
        hold = llm.hold(When(says="slow"))
        slow = group.create_task(_ask(llm, "slow"))
        caught = await hold.caught()
        assert (await _ask(llm, "quick")).status_code == 200
        assert [caught.open, caught.status, hold.waiting] == [True, None, [caught]]
        hold.release()
        assert (await slow).status_code == 200
        assert (await _ask(llm, "slow")).status_code == 200
    assert hold.waiting == []


async def test_a_hold_after_some_pieces_keeps_a_stream_open() -> None:
    async with (
        ScriptedLLM([Rule(When(), LONG)]) as llm,
        httpx.AsyncClient(**UNVERIFIED) as client,
    ):
        with llm.hold(after=3) as hold:
            async with client.stream("POST", f"{llm.url}{CHAT}", json=_body("a", stream=True)) as answer:
                parts = answer.aiter_text()
                got = await anext(parts)
                exchange = await hold.caught()
                while got.count("data: ") < 3:
                    got += await anext(parts)
                assert [exchange.sent, exchange.status, exchange.open] == [3, 200, True]
                hold.release()
                got += "".join([part async for part in parts])
    assert got.endswith("data: [DONE]\n\n")


CLIENT = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], sys.argv[2].encode()).read()"


def _client(llm: ScriptedLLM) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CLIENT, f"{llm.url}{CHAT}", json.dumps(_body("a", stream=True))])


async def test_a_client_killed_while_its_call_is_held_has_left() -> None:
    async with ScriptedLLM() as llm:
        with llm.hold() as hold, _client(llm) as client:
            exchange = await hold.caught()
            client.kill()
            assert await exchange.ended() == "left"
            assert hold.waiting == []


async def test_an_answer_released_after_its_clients_death_does_not_finish() -> None:
    async with ScriptedLLM([Rule(When(), LONG)]) as llm:
        with llm.hold(after=2) as hold, _client(llm) as client:
            exchange = await hold.caught()
            client.kill()
            client.wait()
            hold.release()
            assert await exchange.ended() == "left"
    assert exchange.sent == 2


async def test_a_hold_that_catches_nothing_says_so() -> None:
    async with ScriptedLLM() as llm:
        with llm.hold() as hold, pytest.raises(TimeoutError, match=r"no answer came to this hold within 0\.01 s"):
            await hold.caught(timeout=0.01)


async def test_a_server_that_stops_cuts_what_is_open() -> None:
    llm = ScriptedLLM()
    await llm.start()
    hold = llm.hold()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(asyncio.wait_for(_raised(llm), 10))
        await hold.caught()
        await llm.stop()
        await llm.stop()
        assert isinstance(await asking, httpx.TransportError)
    assert llm.requests[0].end == "stopped"


async def _raised(llm: ScriptedLLM) -> Exception:
    with pytest.raises(httpx.HTTPError) as raised:
        await _ask(llm, "a")
    return raised.value


async def test_a_server_that_was_away_comes_back_at_its_url(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    async with ScriptedLLM(record=record) as llm:
        await _ask(llm, "before")
        await llm.stop()
        assert isinstance(await _raised(llm), httpx.ConnectError)
        await llm.start()
        await _ask(llm, "after")
    assert [(each.no, each.body["input"]) for each in recorded(record)] == [(1, "before"), (2, "after")]


async def test_a_request_is_waited_for_and_found_again() -> None:
    async with ScriptedLLM() as llm, asyncio.TaskGroup() as group:
        waiting = group.create_task(llm.request(When(says="b")))
        for text in ("a", "b", "b"):
            await _ask(llm, text)
        first = await waiting
        assert [(await llm.request()).no, first.no] == [1, 2]
        assert (await llm.request(When(says="b"), after=first)).no == 3


async def test_waiting_for_a_request_in_vain_tells_what_came() -> None:
    async with ScriptedLLM() as llm:
        with pytest.raises(TimeoutError, match="None came at all"):
            await llm.request(timeout=0.01)
        await _ask(llm, "hello")
        await llm.requests[0].ended()
        with pytest.raises(TimeoutError, match=r"1 chat POST /v1/chat/completions 'hello' finished"):
            await llm.request(When(says="other"), timeout=0.01)


async def test_a_request_is_recorded_without_its_secrets() -> None:
    secrets = {"Authorization": "Bearer sk-1", "X-Api-Key": "sk-2", "X-Session": "7"}
    async with ScriptedLLM() as llm:
        await _ask(llm, "hello", f"{CHAT}?beta=true", headers=secrets)
    [exchange] = llm.requests
    assert (exchange.method, exchange.path, exchange.ask.protocol) == ("POST", f"{CHAT}?beta=true", "chat")
    assert exchange.headers["authorization"] == "Bearer [redacted]"
    assert (exchange.headers["x-api-key"], exchange.headers["x-session"]) == ("[redacted]", "7")
    assert exchange.ask.body["messages"] == [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer right"}, {"X-Api-Key": "right"}])
async def test_only_the_right_key_is_let_in(headers: dict[str, str]) -> None:
    async with ScriptedLLM(key="right") as llm:
        found = [
            (await _ask(llm, "a", headers=each)).status_code for each in (headers, {"Authorization": "Bearer no"}, None)
        ]
    assert found == [200, 401, 401]


async def test_what_a_rule_raises_comes_out_of_the_server() -> None:
    def wrong(ask: Ask) -> str:
        raise LookupError(ask.user)

    with pytest.raises(LookupError, match="hello"):
        async with ScriptedLLM([Rule(When(), wrong)]) as llm:
            assert (await _ask(llm, "hello")).status_code == 500
    assert llm.requests[0].end == "failed"


@contextmanager
def _process(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server as a process of its own, and its URL."""
    command = [sys.executable, "-m", "relit.testing.llm", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_as_a_process_it_answers_by_a_file_and_records_to_another(tmp_path: Path) -> None:
    script, record = tmp_path / "script.json", tmp_path / "record.jsonl"
    script.write_text(
        '[{"when": {"says": "wait"}, "answer": {"fault": "hang", "after": 1}}, {"answer": "from a file"}]'
    )
    with _process("--port", "0", "--script", script, "--record", record) as (process, url):
        answer = httpx.post(f"{url}{CHAT}", json=_body("hello"), **UNVERIFIED).json()
        with httpx.stream("POST", f"{url}{CHAT}", json=_body("wait", stream=True), **UNVERIFIED):
            open_yet = [each.no for each in recorded(record) if each.end is None]
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
    first, second = recorded(record)
    assert answer["choices"][0]["message"]["content"] == "from a file"
    assert (first.end, first.status, first.body["messages"][0]["content"]) == ("finished", 200, "hello")
    assert (second.no, open_yet, second.end, second.sent) == (2, [2], "stopped", 1)


def test_a_script_that_is_wrong_is_named_and_nothing_starts(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[{"answer": {"txt": "a"}}]')
    command = [sys.executable, "-m", "relit.testing.llm", "--script", str(script)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown field `txt`" in " ".join(done.stderr.split())
