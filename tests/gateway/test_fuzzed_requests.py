"""Whatever bytes an agent sends: the gateway goes on, answers as the standard has it, and sends on only what it may."""

from __future__ import annotations

import json
from collections.abc import Iterator

import h11
import pytest
from fuzzing_house import SILENCE, SMUGGLED, Running, running
from gateway_house import TOKEN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from watched_house import BODY, OTHER, request

BRIEF = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("fuzzed")) as made:
        yield made


HIDDEN = f"GET /openai/v1/{SMUGGLED} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
PARTS = [
    "", ".", "..", "...", "%2e%2e", "%2E.", "%252e%252e", "..;", "%2f", "%5c", "\\", "%00", "%0d%0a", "%", "%zz", "#",
    "?", "?a=b", ";a", "é", "\xff", " ", "\t", "models", "chat", "completions", "responses", "admin", "v1", "@", ":80",
]  # fmt: skip
PREFIXES = [
    "/openai/v1/",
    "/anthropic/v1/",
    "/openai/",
    "/",
    "",
    "*",
    "http://169.254.169.254/openai/v1/",
    "//openai/v1/",
]
targets = st.builds(
    lambda prefix, parts, glue: prefix + glue.join(parts),
    st.sampled_from(PREFIXES),
    st.lists(st.sampled_from(PARTS) | st.text(max_size=4), max_size=5),
    st.sampled_from(["/", "/", "", "%2f"]),
)
METHODS = ["GET", *["POST"] * 3, "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "BREW", "get", "P\0ST", ""]
CODINGS = ["chunked", "Chunked", "chunked, chunked", "gzip, chunked", "chunked, identity", "xchunked", "identity", ""]
VALUES = {
    "Host": ["x", "", "evil", "169.254.169.254", "a b", "[::", "x\xff"],
    "Authorization": [f"Bearer {TOKEN}", f"bearer  {TOKEN} ", f"Bearer {OTHER}", "Bearer x", "Basic x", "\xff", ""],
    "x-api-key": [TOKEN, OTHER, "", "\xff\xfe", "x" * 5000],
    "Content-Length": ["0", "1", "2", "5", "77", "100", "+5", "-1", "5, 5", "5,6", "0x5", "5 5", "", "9" * 30, "\xb2"],
    "Transfer-Encoding": CODINGS,
    "Connection": ["close", "keep-alive", "authorization", "content-length, transfer-encoding", "Upgrade", "x", "host"],
    "Upgrade": ["websocket", "h2c", "TLS/1.0"],
    "Expect": ["100-continue", "what"],
    "Content-Type": ["application/json", "text/plain", "\xff;=", "multipart/form-data; boundary=x", "x" * 300],
    "Content-Encoding": ["gzip", "identity", "\xff"],
    "X-Forwarded-Host": ["evil"],
    "X-HTTP-Method-Override": ["DELETE"],
    "X": ["x", "a\0b", "a\rb", "a\nb: c", "a\r\n b", "\xff", "x" * 70_000, "\u00e9\u00e9"],
    "": ["x"],
    "a b": ["x"],
    "X\0": ["x"],
    "Content-Length ": ["5"],
    " Transfer-Encoding": ["chunked"],
}  # fmt: skip
lines = st.sampled_from([*VALUES]).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(VALUES[name])))
sound = st.permutations([("Host", "x"), ("Authorization", f"Bearer {TOKEN}")])
heads = st.one_of(
    st.builds(lambda first, more: [*first, *more], sound, st.lists(lines, max_size=4)), st.lists(lines, max_size=6)
)
chunks = st.lists(st.sampled_from([b"", b"a", b"hello", HIDDEN]), max_size=3).map(
    lambda each: b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in each if one) + b"0\r\n\r\n"
)
CUT = [b"ZZ\r\n", b"5\r\nhel", b"ffffffffffffffff1\r\n"]
BODIES = [b"", b"{}", BODY, HIDDEN, b"0\r\n\r\n" + HIDDEN, b"5;x\r\nhello\r\n0\r\n\r\n", *CUT]
bodies = st.one_of(st.sampled_from(BODIES), chunks, st.binary(max_size=100))
ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"])


def raw(method: str, target: str, version: str, head: list[tuple[str, str]], body: bytes, end: bytes) -> bytes:
    texts = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in head)]
    return end.join(text.encode("latin-1", "replace") for text in [*texts, "", ""]) + body


versions = st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9.9", "http/1.1", ""])
requests = st.builds(raw, st.sampled_from(METHODS), targets, versions, heads, bodies, ends)


def check(here: Running, sent: bytes, silence: float = SILENCE) -> list[int]:
    """The statuses of the answers. They are well-formed, and so is all that the provider heard."""
    statuses = parsed(*here.answers(sent, silence))
    assert here.provider.faults == []
    assert set(statuses) <= {100, 200, 400, 401, 403, 404, 408, 413, 414, 431, 502}, sent
    return statuses


def closing(here: Running, sent: bytes) -> list[int]:
    """Of requests after which the connection ends."""
    return check(here, sent, silence=10)


def parsed(told: bytes, ended: bool, method: str = "GET") -> list[int]:
    """One answer after the other. ``ended``: the last one is whole, too."""
    found = []
    while told:
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(told)
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA and not ended:
                return found
            assert event is not h11.NEED_DATA, told
            if isinstance(event, h11.InformationalResponse | h11.Response):
                found.append(event.status_code)
        told = parser.trailing_data[0]
    return found


@given(st.lists(requests, min_size=1, max_size=3))
@BRIEF
def test_any_requests(here: Running, sent: list[bytes]) -> None:
    check(here, b"".join(sent))
    assert closing(here, request("/openai/v1/models", b"", method="GET")) == [200]


@given(st.binary(min_size=1, max_size=300))
@BRIEF
def test_any_bytes(here: Running, sent: bytes) -> None:
    check(here, sent)


@given(st.data())
@BRIEF
def test_a_request_with_anything_changed_in_it(here: Running, data: st.DataObject) -> None:
    whole = request("/openai/v1/chat/completions", BODY)
    at = data.draw(st.integers(0, len(whole)))
    until = data.draw(st.integers(at, min(len(whole), at + 5)))
    check(here, whole[:at] + data.draw(st.binary(max_size=6)) + whole[until:])


FRAMINGS = [f"{name}: {value}" for name in ("Content-Length", "Transfer-Encoding") for value in VALUES[name]]
ASKED = ["/openai/v1/chat/completions", "/openai/v1/files", "/openai/v1/models"]


@given(st.sampled_from(ASKED), st.lists(st.sampled_from(FRAMINGS), min_size=1, max_size=3), bodies)
@BRIEF
def test_no_framing_smuggles_a_request(here: Running, path: str, lengths: list[str], body: bytes) -> None:
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", "Content-Type: text/plain", *lengths]
    check(here, "\r\n".join([*head, "", ""]).encode("latin-1") + body + HIDDEN)


@given(st.lists(st.sampled_from([(TOKEN, 200), ("nobody", 401)]), min_size=1, max_size=6), st.booleans())
@BRIEF
def test_requests_that_come_at_once_are_answered_one_by_one(
    here: Running, each: list[tuple[str, int]], chunked: bool
) -> None:
    *most, last = [request(token=token) for token, _ in each]
    sent = b"".join(most).replace(b"Connection: close\r\n", b"") + last
    if chunked:
        whole = b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
        sent = sent.replace(whole, b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
    assert closing(here, sent) == [status for _, status in each]


@given(targets, heads)
@BRIEF
def test_a_head_is_answered_without_a_body(here: Running, target: str, head: list[tuple[str, str]]) -> None:
    told, ended = here.answers(raw("HEAD", target, "HTTP/1.1", head, b"", b"\r\n"))
    assert told.startswith(b"HTTP/1.0 400") or parsed(told, ended, "HEAD") != [500]
    assert here.provider.faults == []


@given(st.text(max_size=30) | st.sampled_from([TOKEN + "\0", TOKEN + "\u0308", TOKEN.upper(), f" {TOKEN}x"]))
@BRIEF
def test_no_other_token_is_good(here: Running, token: str) -> None:
    encoded = token.encode("utf-8", "replace")
    sent = request("/openai/v1/models", b"", method="GET", token="TOKEN").replace(b"TOKEN", encoded)
    good = token.strip() in (TOKEN, OTHER)
    assert good or 200 not in check(here, sent, silence=1)


NAMES = ["model", "messages", "stream", "max_tokens", "n", "input", "stream_options", "role", "content", "type"]
documents = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(NAMES), each, max_size=4),
    max_leaves=12,
)


@given(documents)
@BRIEF
def test_any_json_is_answered(here: Running, body: object) -> None:
    for path in ("/openai/v1/chat/completions", "/openai/v1/responses", "/openai/v1/embeddings", "/openai/v1/files"):
        [status] = closing(here, request(path, json.dumps(body).encode()))
        assert status in (200, 400, 403)


def test_the_provider_was_heard(here: Running) -> None:
    """So that the tests above are about something."""
    assert closing(here, request("/openai/v1/models", b"", method="GET")) == [200]
    assert here.provider.heard > 0
