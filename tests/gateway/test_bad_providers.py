"""Whatever a provider does, its agent gets a clean end, its call is ended in the ledger, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib
from pathlib import Path

import pytest
from gateway_house import OK, Answering, Heard, health, provider, sends
from watched_house import BODY, BRIEF, Got, Watched, ask, asking, request, watched

from relit.gateway.routes import Patience
from relit.store.values import ModelCall

JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = JSON + b"Transfer-Encoding: chunked\r\n\r\n"
SAID = b'{"model":"m","usage":{"prompt_tokens":7,"completion_tokens":9}}'


def sized(body: bytes, *more: bytes) -> bytes:
    return b"".join([JSON, *(each + b"\r\n" for each in more), b"Content-Length: %d\r\n\r\n" % len(body), body])


def chosen(cases: dict[str, bytes]) -> Answering:
    """The answer whose name the request carries."""

    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        [case] = heard.header("X-Case")
        writer.write(cases[case])
        await writer.drain()

    return answer


async def case(seen: Watched, name: str) -> tuple[Got, ModelCall]:
    """What comes of it, for the agent and in the ledger."""
    got = await ask(seen.here, request("/openai/v1/chat/completions", BODY, f"X-Case: {name}"))
    await seen.settled()
    return got, (await seen.calls())[0]


NO_ANSWERS = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 2",
    "half of the headers": JSON + b"Content-Le",
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "a status that is no number": b"HTTP/1.1 2\xff0 OK\r\n\r\n",
    "a status below 200": b"HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\n{}",
    "another protocol, unasked": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello",
    "a zero byte in a header": JSON + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "a bare CR in a header": JSON + b"X: a\rb\r\nContent-Length: 2\r\n\r\n{}",
    "a negative length": JSON + b"Content-Length: -2\r\n\r\n{}",
    "a length that is no number": JSON + b"Content-Length: two\r\n\r\n{}",
    "two lengths": JSON + b"Content-Length: 2\r\nContent-Length: 4\r\n\r\n{}",
    "a length and chunks": CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n") + b"2\r\n{}\r\n0\r\n\r\n",
    "chunks that are none": CHUNKED + b"ZZ\r\n{}\r\n0\r\n\r\n",
    "a chunk larger than numbers go": CHUNKED + b"F" * 24 + b"\r\n{}",
    "a header of 70 KB": JSON + b"X: " + b"x" * 70_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
    "two thousand headers": JSON + b"X: x\r\n" * 2000 + b"Content-Length: 2\r\n\r\n{}",
}


async def test_what_is_no_answer_is_told_in_the_protocols_words(tmp_path: Path) -> None:
    async with provider(chosen(NO_ANSWERS)) as there, watched(there.url, tmp_path) as seen:
        for count, name in enumerate(NO_ANSWERS, 1):
            got, call = await case(seen, name)
            assert (got.status, got.whole) == (502, True), name
            assert json.loads(got.body)["error"]["code"] == "provider-fault"
            assert call.state == "failed", name
            assert (call.cost == 0) == (name == "nothing"), f"{name}: what answers may have been heard"
            assert (await health(seen.here))["failures"] == count


BROKEN = {
    "in a chunk": CHUNKED + b"50\r\nhello",
    "between chunks": CHUNKED + b"5\r\nhello\r\n",
    "in the size of a chunk": CHUNKED + b"5\r\nhello\r\n5",
    "before its length": JSON + b"Content-Length: 100\r\n\r\nhello",
    "in an event": EVENTS + b'40\r\ndata: {"model":"m","choi',
}


async def test_an_answer_that_is_cut_is_cut_for_the_agent(tmp_path: Path) -> None:
    async with provider(chosen(BROKEN)) as there, watched(there.url, tmp_path) as seen:
        for name in BROKEN:
            got, call = await case(seen, name)
            assert (got.status, got.whole) == (200, False), name
            assert (call.state, call.status) == ("failed", 200), name
            assert call.estimated, "what was said until then may be charged"
            assert (call.cost == call.reserved) == (name != "in an event"), "what comes in one piece was made whole"


async def test_chunks_that_go_wrong_later_cut_the_answer(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + b"5\r\nhello\r\n")
        await writer.drain()
        await go.wait()
        writer.write(b"ZZ\r\n")

    async with provider(answer) as there, watched(there.url, tmp_path) as seen:
        asking = asyncio.ensure_future(ask(seen.here))
        while not there.heard:
            await asyncio.sleep(0.01)
        go.set()
        assert not (await asking).whole
        assert (await seen.only()).state == "failed"


PASSES = {
    "a header that is no text": JSON + b"X: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}",
    "a reason that is no text": b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: 2\r\n\r\n{}",
    "a type that is none": b"HTTP/1.1 200 OK\r\nContent-Type: \xff;=event-stream\r\nContent-Length: 2\r\n\r\n{}",
    "no type": OK.replace(b"Content-Type: application/json\r\n", b""),
    "a type that is wrong": OK.replace(b"application/json", b"text/html"),
    "events that are none": OK.replace(b"application/json", b"text/event-stream"),
    "headers of old": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "an older protocol": b"HTTP/1.0 200 OK\r\n\r\n{}",
    "no length": JSON + b"\r\n{}",
    "chunks with extensions and a trailer": CHUNKED + b"2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n",
    "chunks of a byte": CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    "hints before it": b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK,
}


async def test_what_can_be_understood_passes(tmp_path: Path) -> None:
    async with provider(chosen(PASSES)) as there, watched(there.url, tmp_path) as seen:
        for name in PASSES:
            got, call = await case(seen, name)
            assert (got.status, got.body, got.whole) == (200, b"{}", True), name
            assert call.state == "done"


ODD = {
    "no text": b'{"model":"\xff\xfe","usage":{"prompt_tokens":\xff}}',
    "half of a pair": b'{"model":"\\ud800","usage":{"prompt_tokens":1}}',
    "zero bytes": b'{"model":"a\\u0000b","usage":{"prompt_tokens":1,"completion_tokens":1}}',
    "too deep": b'{"model":"m","x":' + b"[" * 200_000,
    "numbers without end": b'{"usage":{"prompt_tokens":' + b"9" * 400 + b',"completion_tokens":1e999}}',
    "less than nothing": b'{"usage":{"prompt_tokens":-5,"completion_tokens":-1e9}}',
    "other kinds": b'{"model":[1],"usage":[1],"response":1,"message":"x"}',
    "usage of other kinds": b'{"usage":{"prompt_tokens":"a","prompt_tokens_details":[1]}}',
    "half of it": b'{"model":"m","usage":{"prompt_tok',
    "null": b"null",
}


@pytest.mark.parametrize("streams", [False, True])
async def test_no_body_keeps_its_call_open(streams: bool, tmp_path: Path) -> None:
    bodies = {name: b"data: " + body + b"\n\n" if streams else body for name, body in ODD.items()}
    kind = b"text/event-stream" if streams else b"application/json"
    sent = {name: sized(body).replace(b"application/json", kind) for name, body in bodies.items()}
    async with provider(chosen(sent)) as there, watched(there.url, tmp_path) as seen:
        for name, body in bodies.items():
            got, call = await case(seen, name)
            assert (got.body, got.whole) == (body, True), name
            assert (call.state, call.status) == ("done", 200), name


@pytest.mark.parametrize("status", [429, 500, 529])
async def test_refusals_pass_as_they_are_and_cost_nothing(status: int, tmp_path: Path) -> None:
    body = b'{"error":{"message":"not now"}}'
    head = b"HTTP/1.1 %d No\r\nRetry-After: 60\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    async with provider(sends(head + body)) as there, watched(there.url, tmp_path) as seen:
        got = await ask(seen.here)
        assert (got.status, got.body, (got.headers or {})["retry-after"]) == (status, body, "60")
        call = await seen.only()
        assert (call.state, call.status, call.cost) == ("failed", status, 0)


def drips(slowly: bytes) -> Answering:
    """Byte by byte, and then nothing, until the gateway hangs up."""

    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in slowly:
            if writer.is_closing():
                return
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)
        await reader.read()

    return answer


async def test_headers_that_drip_are_waited_for_until_an_answer_has_to_begin(tmp_path: Path) -> None:
    slow = drips(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000)
    async with provider(slow) as there, watched(there.url, tmp_path, patience=Patience(first_byte=0.4)) as seen:
        got = await ask(seen.here)
        assert (got.status, json.loads(got.body)["error"]["code"]) == (504, "provider-silent")
        assert (await seen.only()).state == "failed"


async def test_a_body_that_drips_is_waited_for_until_it_has_to_be_whole(tmp_path: Path) -> None:
    slow = drips(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000)
    patience = Patience(first_byte=5, idle=1, total=2)
    async with provider(slow) as there, watched(there.url, tmp_path, patience=patience) as seen:
        got = await ask(seen.here)
        assert (got.status, got.whole) == (200, False)
        assert "not whole after 2 s" in (await seen.only()).why


async def test_a_body_that_stops_is_waited_for_as_long_as_it_may_pause(tmp_path: Path) -> None:
    async def stops(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + b"5\r\nhello\r\n")
        await reader.read()  # until the gateway hangs up

    async with provider(stops) as there, watched(there.url, tmp_path, patience=Patience(idle=0.2)) as seen:
        assert not (await ask(seen.here)).whole
        assert "nothing came for 0.2 s" in (await seen.only()).why


async def test_a_kept_connection_that_was_closed_meanwhile_is_not_the_agents_trouble(tmp_path: Path) -> None:
    """The answer promised to keep it; the provider closes it all the same."""
    async with provider(sends(OK)) as there, watched(there.url, tmp_path, retries=2) as seen:
        for _ in range(10):
            assert (await ask(seen.here)).status == 200
        assert {each.state for each in await seen.calls()} == {"done"}


@pytest.mark.parametrize(("retries", "statuses"), [(2, [200] * 6), (0, [200, 502] * 3)])
async def test_a_connection_that_is_closed_over_a_request_costs_a_retry(
    retries: int, statuses: list[int], tmp_path: Path
) -> None:
    async def answers_once(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await reader.read(1)  # the next request has begun

    async with provider(answers_once) as there, watched(there.url, tmp_path, retries=retries) as seen:
        assert [(await ask(seen.here)).status for _ in statuses] == statuses
        await seen.settled()
        assert {each.cost for each in await seen.calls() if each.state == "failed"} <= {0}


@pytest.mark.parametrize("said", [b"", JSON], ids=["nothing", "half of the headers"])
async def test_a_connection_that_ends_when_an_answer_may_have_been_made_is_paid_for_and_not_asked_again(
    said: bytes, tmp_path: Path
) -> None:
    """As a balancer does that has no patience."""

    async def cuts(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await asyncio.sleep(0 if said else 1.1)

    async with provider(cuts) as there, watched(there.url, tmp_path, retries=2) as seen:
        got = await ask(seen.here)
        assert (got.status, json.loads(got.body)["error"]["code"]) == (502, "provider-fault")
        call = await seen.only()
        assert (call.state, call.estimated, call.cost > 0) == ("failed", True, True)
        assert len(there.heard) == 1


async def test_a_connection_that_ends_at_once_is_asked_again_for_nothing(tmp_path: Path) -> None:
    async def hangs_up(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with provider(hangs_up) as there, watched(there.url, tmp_path, retries=1) as seen:
        assert (await ask(seen.here)).status == 502
        assert ((await seen.only()).cost, len(there.heard)) == (0, 2)


async def compressed(seen: Watched, packed: bytes) -> None:
    got = await ask(seen.here)
    assert (got.body, got.whole) == (packed, True)
    assert (got.headers or {})["content-encoding"] == "gzip"


async def test_a_compressed_answer_is_counted_and_passes_as_it_is(tmp_path: Path) -> None:
    packed = gzip.compress(SAID)
    async with (
        provider(sends(sized(packed, b"Content-Encoding: gzip"))) as there,
        watched(there.url, tmp_path) as seen,
    ):
        await compressed(seen, packed)
        call = await seen.only()
    assert (call.input, call.output, call.estimated) == (7, 9, False)


PACKED = gzip.compress(SAID, mtime=0)


@pytest.mark.parametrize(
    "packed", [b"no gzip at all", PACKED[:-20], PACKED[:15] + b"\xff" * 9], ids=["not at all", "cut", "broken"]
)
async def test_what_only_looks_compressed_passes_too(packed: bytes, tmp_path: Path) -> None:
    async with (
        provider(sends(sized(packed, b"Content-Encoding: gzip"))) as there,
        watched(there.url, tmp_path) as seen,
    ):
        await compressed(seen, packed)
        assert (await seen.only()).estimated


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_an_answer_that_swells_takes_little_memory(kind: str, tmp_path: Path) -> None:
    packing = zlib.compressobj(9, wbits=31)
    first, other = (packing.compress(bytes(1 << 20)) + packing.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    packed = first + other * 255  # blocks that stand for themselves: 256 MB
    assert len(packed) < 1 << 19
    sent = sized(packed, b"Content-Encoding: gzip").replace(b"application/json", kind.encode())
    async with provider(sends(sent)) as there, watched(there.url, tmp_path) as seen:
        tracemalloc.start()
        await compressed(seen, packed)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 64 << 20
        assert (await seen.only()).state == "done"


LARGE, PIECE = 100 << 20, 1 << 18


def pours(head: bytes, piece: bytes) -> Answering:
    async def answer(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(LARGE // len(piece)):
            writer.write(piece)
            await writer.drain()

    return answer


async def swallowed(seen: Watched) -> int:
    """How many bytes came."""
    size = 0
    async with asking(seen.here, request()) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        while piece := await reader.read(1 << 18):
            size += len(piece)
    return size


@pytest.mark.parametrize(
    ("kind", "piece", "most"),
    [
        ("application/json", b"x" * PIECE, 96 << 20),  # what is counted from is kept: up to 32 MB
        ("text/event-stream", b"data: " + b"x" * (PIECE - 8) + b"\n\n", 8 << 20),
        ("text/event-stream", b"x" * PIECE, 40 << 20),  # one line
    ],
    ids=["whole", "events", "one event"],
)
async def test_an_answer_of_100_mb_takes_little_memory(kind: str, piece: bytes, most: int, tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (kind.encode(), LARGE)
    patience = Patience(idle=10)
    async with provider(pours(head, piece)) as there, watched(there.url, tmp_path, patience=patience) as seen:
        tracemalloc.start()
        size = await swallowed(seen)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (size, (await seen.only()).state) == (LARGE, "done")
    assert peak < most


async def test_an_agent_that_leaves_frees_everything(tmp_path: Path) -> None:
    over = asyncio.Event()

    async def waits(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + b"5\r\nhello\r\n")
        assert await reader.read() == b""
        over.set()

    async with provider(waits) as there, watched(there.url, tmp_path, patience=Patience()) as seen:
        async with asking(seen.here, request()) as (reader, writer):
            await reader.readuntil(b"hello")
            writer.transport.abort()
        await over.wait()
        await seen.settled()
        assert (await seen.only()).state == "cancelled"


async def test_connections_that_hang_are_given_up(tmp_path: Path) -> None:
    async def deaf(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with provider(deaf) as there, watched(there.url, tmp_path, patience=BRIEF) as seen:
        got = await asyncio.gather(*(ask(seen.here) for _ in range(20)))
        assert {each.status for each in got} == {504}
        assert {each.state for each in await seen.calls()} == {"failed"}
        assert [heard.body for heard in there.heard] == [BODY] * 20


async def test_a_refusal_counts_though_its_agent_does_not_hear_it_out(tmp_path: Path) -> None:
    async def refuses(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\n{")
        assert await reader.read() == b""

    async with provider(refuses) as there, watched(there.url, tmp_path) as seen:
        async with asking(seen.here, request()) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
        call = await seen.only()
        assert (call.state, call.status, call.cost) == ("failed", 500, 0)
        assert (await health(seen.here))["failures"] == 1


async def test_an_agent_that_does_not_read_is_not_the_providers_fault(tmp_path: Path) -> None:
    patience = Patience(total=0.5)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % LARGE
    async with (
        provider(pours(head, b"x" * PIECE)) as there,
        watched(there.url, tmp_path, patience=patience) as seen,
        asking(seen.here, request()) as (reader, _),
    ):
        await reader.readuntil(b"\r\n\r\n")
        call = await seen.only()
        assert (call.state, (await health(seen.here))["ok"]) == ("failed", True)
        with pytest.raises(ConnectionError):
            await reader.readexactly(LARGE)


async def test_an_answer_that_is_cut_is_cut_in_the_older_protocol_too(tmp_path: Path) -> None:
    """There it has no other end than that of its connection."""
    sent = request().replace(b"HTTP/1.1", b"HTTP/1.0")
    go = asyncio.Event()

    async def cuts(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + b"5\r\nhello\r\n")
        await writer.drain()
        await go.wait()

    async with provider(cuts) as there, watched(there.url, tmp_path) as seen:
        async with asking(seen.here, sent) as (reader, _):
            await reader.readuntil(b"hello")
            go.set()
            with pytest.raises(ConnectionError):
                await reader.read()
        assert (await seen.only()).state == "failed"
