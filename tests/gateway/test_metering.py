"""What a call has used, read beside its answer; and what that costs."""

from __future__ import annotations

import gzip
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.gateway import prices
from relit.gateway.prices import Price, cost, price_of, reserve
from relit.gateway.usage import Meter, Tokens, tokens

SSE = "text/event-stream; charset=utf-8"
CHAT = {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 60}}
RESPONSES = {
    "input_tokens": 100, "output_tokens": 20, "total_tokens": 120, "input_tokens_details": {"cached_tokens": 60},
}  # fmt: skip
MESSAGES = {
    "input_tokens": 30, "output_tokens": 20, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 10,
}  # fmt: skip


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


STREAMS = {
    "chat": [
        event({"model": "m", "choices": [{"delta": {"content": 'a "usage" of words'}}], "usage": None}),
        event({"model": "m", "choices": [{"delta": {"content": "and more"}}], "usage": None}),
        event({"model": "m", "choices": [], "usage": CHAT}),
        b"data: [DONE]\n\n",
    ],
    "responses": [
        event({"type": "response.created", "response": {"model": "m", "usage": None}}),
        event({"type": "response.completed", "response": {"model": "m", "usage": RESPONSES}}),
    ],
    "messages": [
        b"event: message_start\n"
        + event({"type": "message_start", "message": {"model": "m", "usage": {**MESSAGES, "output_tokens": 1}}}),
        event({"type": "content_block_delta", "delta": {"text": "hello"}}),
        event({"type": "message_delta", "usage": {"output_tokens": 20}}),
    ],
}
FOUND = {
    "chat": Tokens(input=100, output=20, cached=60),
    "responses": Tokens(input=100, output=20, cached=60),
    "messages": Tokens(input=100, output=20, cached=60, written=10),
}


def read(pieces: list[bytes], kind: str = SSE, encoding: str = "") -> Meter:
    meter = Meter(kind, encoding)
    for piece in pieces:
        meter.read(piece)
    meter.end()
    return meter


@pytest.mark.parametrize("protocol", STREAMS)
@given(cuts=st.lists(st.integers(0, 600), max_size=12))
def test_streams_say_it_however_they_are_cut(protocol: str, cuts: list[int]) -> None:
    whole = b"".join(STREAMS[protocol])
    edges = sorted({0, *(min(cut, len(whole)) for cut in cuts), len(whole)})
    meter = read([whole[start:end] for start, end in itertools.pairwise(edges)])
    assert (meter.tokens, meter.model, meter.bytes) == (FOUND[protocol], "m", len(whole))


@pytest.mark.parametrize("usage", [CHAT, RESPONSES, MESSAGES])
def test_a_whole_answer_says_it_compressed_or_not(usage: dict[str, int]) -> None:
    body = json.dumps({"model": "m", "usage": usage}).encode()
    for raw, encoding in ((body, ""), (gzip.compress(body), "gzip")):
        meter = read([raw[:9], raw[9:]], "application/json", encoding)
        assert meter.tokens is not None
        assert (meter.tokens.input, meter.tokens.output, meter.tokens.cached) == (100, 20, 60)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(b"", ""), (b"{", ""), (b'{"usage": 7}', ""), (b"\xff\xfe", ""), (b"not gzip", "gzip"), (b"{}", "br")],
)
def test_what_cannot_be_read_says_nothing(body: bytes, encoding: str) -> None:
    assert read([body], "application/json", encoding).tokens is None


@given(raw=st.binary(max_size=300), kind=st.sampled_from([SSE, "application/json"]))
def test_no_answer_stops_the_reading(raw: bytes, kind: str) -> None:
    assert read([raw, b'\ndata: "usage"\n', raw], kind).bytes == 2 * len(raw) + 15


@given(
    usage=st.dictionaries(
        st.sampled_from([*CHAT, *RESPONSES, *MESSAGES]), st.none() | st.integers(-5, 10**9) | st.text() | st.booleans()
    )
)
def test_odd_numbers_never_make_negative_ones(usage: dict[str, object]) -> None:
    found = tokens(usage)
    assert min(found.input, found.output, found.cached, found.written) >= 0


# --- prices ---------------------------------------------------------------------------------------------------------

PRICE = Price(input=2.0, output=10.0, cached=0.5, written=2.5)


def test_a_call_costs_what_its_parts_cost() -> None:
    used = Tokens(input=1_000_000, output=100_000, cached=400_000, written=100_000)
    assert cost(used, PRICE) == round((500_000 * 2 + 400_000 * 0.5 + 100_000 * 2.5 + 100_000 * 10) * 1000)
    assert cost(Tokens(input=1), Price(input=0.0001)) == 1, "rounded up"
    assert cost(Tokens(input=10**9, output=10**9), prices.FREE) == 0


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("gpt-5", "gpt-5"), ("gpt-5-2025-08-07", "gpt-5"), ("openai/gpt-5-mini", "gpt-5-mini"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"), ("gpt-5-unheard-of", None), ("gpt-55", None), ("", None),
        ("claude-opus-4-9", None), ("gpt-4o-latest", "gpt-4o"),
    ],
)  # fmt: skip
def test_models_are_known_by_name_with_or_without_a_date(model: str, known: str | None) -> None:
    assert price_of(model, {}) == (None if known is None else prices.known()[known])


def test_own_prices_come_first() -> None:
    assert price_of("gpt-5", {"gpt-5": PRICE}) == PRICE
    assert price_of("openai/llama", {"openai/llama": PRICE}) == PRICE
    assert price_of("gpt-5-2025-08-07", {"gpt-5": PRICE}) == PRICE


@given(sent=st.integers(0, 10**7), most=st.integers(1, 10**5), n=st.integers(1, 4), answer=st.integers(0, 10**5))
def test_what_is_reserved_covers_what_the_call_may_cost(sent: int, most: int, n: int, answer: int) -> None:
    reserved = reserve("chat", sent, {"max_tokens": most, "n": n}, PRICE)
    assert reserved >= cost(Tokens(input=sent // 3, output=min(answer, most * n)), PRICE)


def test_only_the_protocols_own_limit_counts_and_the_dearest_input() -> None:
    wide = {"max_tokens": 1, "max_output_tokens": 5000}
    assert reserve("responses", 0, wide, PRICE) >= cost(Tokens(output=5000), PRICE)
    assert reserve("messages", 3000, {"max_tokens": 1}, PRICE) >= cost(Tokens(input=1000, written=1000), PRICE)
    for lenient in (200_000.0, "200000"):
        assert reserve("chat", 0, {"max_tokens": lenient}, PRICE) >= cost(Tokens(output=200_000), PRICE)
    assert reserve("chat", 0, {"max_tokens": 10, "n": 200}, PRICE) >= cost(Tokens(output=2000), PRICE)
    kept = {"previous_response_id": "resp_1", "max_output_tokens": 1}
    assert reserve("responses", 0, kept, PRICE) >= cost(Tokens(input=prices.CONTEXT), PRICE)
    assert reserve("chat", 0, {"max_tokens": 10**30}, PRICE) < 2**63


def test_an_answer_without_a_limit_is_reserved_for_all_the_same() -> None:
    assert reserve("chat", 0, {}, PRICE) >= cost(Tokens(output=prices.OUTPUT_MOST), PRICE)
    assert reserve("chat", 0, {"max_tokens": "many", "n": True}, PRICE) >= cost(
        Tokens(output=prices.OUTPUT_MOST), PRICE
    )


@pytest.mark.parametrize("name", sorted(prices.known()))
def test_every_known_price_is_one(name: str) -> None:
    price = prices.known()[name]
    assert 0 < price.input <= 20
    assert 0 <= price.output <= 100
    assert price.cached is None or price.cached < price.input


PIXELS = "A" * 900_000


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXELS}"}},
        {"type": "input_image", "image_url": f"data:image/jpeg;base64,{PIXELS}"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXELS}},
        {"type": "image_url", "image_url": {"url": "https://pictures.example/one.png"}},
    ],
)
def test_a_picture_costs_what_a_picture_costs_however_long_it_is(part: dict[str, object]) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": [part, {"type": "text", "text": "look"}]}]}).encode()
    assert 3 * prices.PICTURE < prices.weight(body) < 3 * prices.PICTURE + 300


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_file", "file_url": "https://papers.example/long.pdf"},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "document", "source": {"type": "url", "url": "https://papers.example/long.pdf"}},
        {"type": "file", "file": {"filename": "long.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AAAA"},
        {"type": "document", "source": {"data": "AAAA", "media_type": "application/pdf", "type": "base64"}},
    ],
)
def test_a_document_may_fill_the_window(part: dict[str, object]) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": [part]}]}).encode()
    assert prices.beside(body) == 3 * prices.CONTEXT


def test_a_tool_that_speaks_of_files_reads_none() -> None:
    schema = {
        "type": "object",
        "properties": {"file_id": {"type": "string"}, "file_url": {"type": "string"}, "file_data": {"type": "string"}},
    }
    tools = [{"type": "function", "function": {"name": "send", "parameters": schema}}]
    assert prices.beside(json.dumps({"messages": [], "tools": tools}).encode()) == 0
    plain = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "all that is read"}}
    assert prices.beside(json.dumps({"messages": [{"role": "user", "content": [plain]}]}).encode()) == 0


@pytest.mark.parametrize(
    ("piece", "failed", "finished"),
    [
        (b'data: {"choices": [{"delta": {"content": "\\"error\\": 1"}}]}\n\n', False, False),
        (b'data: {"id": "r", "error": null, "choices": [{"finish_reason": "stop"}]}\n\n', False, True),
        (b'data: {"type": "message_stop"}\n\n', False, True),
        (b'data: {"type": "response.completed", "response": {"error": null}}\n\n', False, True),
        (b'data: {"error": {"message": "gone"}}\n\ndata: [DONE]\n\n', True, True),
        (b'data: {"type": "response.failed", "response": {"error": {"code": "x"}}}\n\n', True, False),
        (b'data: {"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 502}}]}\n\n', True, True),
        (b'data: {"choices": [{"delta": {"content": "[DONE] \\"message_stop\\""}}]}\n\n', False, False),
    ],
)
@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_an_answer_is_told_from_a_failure_however_it_is_cut(
    piece: bytes, failed: bool, finished: bool, cut: int
) -> None:
    made = read([piece[at : at + cut] for at in range(0, len(piece), cut)])
    assert (made.failed, made.finished) == (failed, finished)
    packed = gzip.compress(piece)
    made = read([packed[at : at + cut] for at in range(0, len(packed), cut)], encoding="gzip")
    assert (made.failed, made.finished) == (failed, finished)
    assert read([piece], encoding="br").finished, "nobody can tell"


def test_the_end_of_a_large_stream_is_found_whatever_is_read_at_once() -> None:
    words = event({"choices": [{"delta": {"content": "word"}}]}) * 500
    large = event({"type": "response.completed", "response": {"error": None, "output": "x" * 20_000}})
    for end in (b"data: [DONE]\n\n", event({"type": "message_stop"}), large):
        assert read([words + end]).finished
        assert read([words, words + end]).finished
    assert not read([words, words]).finished


@pytest.mark.parametrize(
    ("body", "failed", "finished"),
    [
        (b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}', False, True),
        (b'{"error": {"message": "busy"}}', True, True),
        (b'{"choices": [{"finish_reason": "error", "error": {"code": 502}}]}', True, True),
        (b"<html>502 upstream</html>", False, False),
        (b'{"choices": [{"mess', False, False),
        (b"", False, False),
    ],
)
def test_of_an_answer_in_one_piece_it_is_told_as_well(body: bytes, failed: bool, finished: bool) -> None:
    made = read([body], "application/json")
    assert (made.failed, made.finished) == (failed, finished)


def test_words_about_pictures_are_words() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": f"data:image/png;base64,{PIXELS}"}]}).encode()
    assert prices.weight(body) == len(body)
