"""What a declared tool sends: arguments in their places and nowhere else, addresses that may be called."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.gateway.tools import counting, guard, plan
from relit.gateway.tools.base import NotSent, Tool
from relit.gateway.tools.guard import Forbidden
from relit.gateway.tools.plan import HttpTool, LookUp


def http(**options: Any) -> HttpTool:
    given: dict[str, Any] = {"tool": Tool("t"), "url": "https://api.example/v1/{box}/send"}
    return HttpTool(**(given | options))


def test_arguments_go_into_path_query_and_body() -> None:
    sent = plan.sending(http(query=("limit",)), {"box": "a/b", "limit": [1, 2], "text": "hi"}, "")
    assert sent.url == "https://api.example/v1/a%2Fb/send?limit=1&limit=2"
    assert sent.body == b'{"text":"hi"}'
    assert sent.headers == {"Content-Type": "application/json"}
    form = plan.sending(http(body="form"), {"box": "x", "text": "a b", "flag": True}, "")
    assert form.body == b"text=a+b&flag=true"
    got = plan.sending(http(method="GET", url="https://api.example/?v=1"), {"q": "ü&x"}, "")
    assert (got.url, got.body) == ("https://api.example/?v=1&q=%C3%BC%26x", None)


def test_the_key_goes_where_the_service_wants_it() -> None:
    assert plan.sending(http(key="header:Idempotency-Key"), {"box": "x"}, "k1").headers["Idempotency-Key"] == "k1"
    assert plan.sending(http(key="field:ref"), {"box": "x"}, "k1").body == b'{"ref":"k1"}'
    look = http(lookup=LookUp("https://api.example/{box}?ref={key}", "items.0"))
    assert plan.looking(look, {"box": "x"}, "k 1").url == "https://api.example/x?ref=k%201"


@given(st.text(max_size=20))
def test_no_argument_leads_elsewhere(value: str) -> None:
    try:
        sent = plan.sending(http(), {"box": value}, "")
    except NotSent:
        assert value in ("", ".", "..")
        return
    parts = urlsplit(sent.url)
    assert (parts.netloc, parts.query, parts.fragment) == ("api.example", "", "")
    assert parts.path.count("/") == 3
    assert unquote(parts.path.split("/")[2]) == value.encode("utf-8", "replace").decode()


def test_what_is_missing_is_told() -> None:
    with pytest.raises(NotSent, match="box is missing"):
        plan.sending(http(), {}, "")


@pytest.mark.parametrize(
    ("answer", "path", "value"),
    [
        (b'{"items":[{"id":1}]}', "items.0", {"id": 1}),
        (b'{"items":[]}', "items.0", None),
        (b'{"items":[]}', "items", None),
        (b'{"a":{"b":false}}', "a.b", None),
        (b'{"a":0}', "a", 0),
        (b"plain", "", "plain"),
        (b"null", "a", None),
    ],
)
def test_a_look_up_finds_what_is_there(answer: bytes, path: str, value: Any) -> None:
    assert plan.found(answer, path) == value


@pytest.mark.parametrize("answer", [b"", b"plain", b"<html>please log in</html>", b'{"items":[{"id":', b'"no"', b"7"])
def test_an_answer_of_another_kind_says_nothing(answer: bytes) -> None:
    with pytest.raises(ValueError, match="it is"):
        plan.found(answer, "items.0")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "0x7f.0.0.1", "2130706433", "0", "10.1.2.3", "172.16.0.1", "192.168.1.1",
        "169.254.169.254", "168.63.129.16", "192.0.0.192", "::127.0.0.1", "64:ff9b:1::7f00:1",
        "100.64.0.1", "224.0.0.1", "255.255.255.255", "[::1]", "::1", "[::]", "[fe80::1]",
        "[fd00::1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "fe80::1%eth0",
        "①27.0.0.1", "１２７.0.0.1", "127。0。0。1",
    ],
)  # fmt: skip
def test_addresses_of_this_machine_and_its_network_are_refused(host: str) -> None:
    with pytest.raises(Forbidden):
        guard.see(host, private=False)
    guard.see(host, private=True)


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700:4700::1111]", "example.com", "localhost", ""])
def test_names_are_looked_at_when_they_are_resolved_and_public_addresses_pass(host: str) -> None:
    guard.see(host, private=False)


@given(st.ip_addresses())
def test_what_is_public_is_neither_private_nor_local(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if guard.is_public(address):
        assert not any([address.is_private, address.is_loopback, address.is_link_local, address.is_multicast])


async def test_a_name_with_one_private_address_is_refused() -> None:
    class Mixed(guard.AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
            return [{"host": "8.8.8.8"}, {"host": "10.0.0.1"}]

        async def close(self) -> None:
            pass

    with pytest.raises(Forbidden):
        await guard.Guarded(Mixed(), private=False).resolve("rebind.example")
    assert len(await guard.Guarded(Mixed(), private=True).resolve("rebind.example")) == 2


# --- what stands in a prompt ----------------------------------------------------------------------------------------

HASH = counting.hash_of({"to": "ann"})


def chat(name: str, arguments: str) -> list[Any]:
    call = {"id": "1", "function": {"name": name, "arguments": arguments}}
    return [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "1", "content": "ok"}]


USED = {"type": "tool_use", "id": "1", "name": "relit__mail", "input": {"to": "ann"}}
MESSAGES = [
    {"role": "assistant", "content": [USED]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "ok"}]},
]
RESPONSES = [
    {"type": "function_call", "call_id": "1", "name": "mail", "arguments": '{"to": "ann"}'},
    {"type": "function_call_output", "call_id": "1", "output": "ok"},
]
WRAPPED = chat("tool_call", '{"tool": "relit__mail", "args": {"to": "ann"}}')


@pytest.mark.parametrize("turns", [chat("mcp__relit__mail", '{"to":"ann"}'), MESSAGES, RESPONSES, WRAPPED])
def test_a_call_with_its_result_is_counted_however_the_agent_writes_it(turns: list[Any]) -> None:
    body = msgspec.json.encode({"messages": turns, "tools": [{}]})
    counts = counting.done(body)
    assert counts is not None
    assert counting.count(counts, "mail", HASH) == 1
    assert counting.count(counts, "ail", HASH) == 0
    unanswered = counting.done(msgspec.json.encode({"messages": turns[:1], "tools": [{}]}))
    assert unanswered is not None
    assert counting.count(unanswered, "mail", HASH) == 0


WORDS = ["messages", "tools", "role", "content", "tool_calls", "function", "name", "arguments", "id", "type"]
TREES = st.recursive(
    st.none() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=50) | TREES.map(msgspec.json.encode))
def test_whatever_passes_is_counted_or_says_nothing(body: bytes) -> None:
    counting.done(body)
