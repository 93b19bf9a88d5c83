"""What of the gateway is pure, with whatever others may send: it never raises, and says the same thing twice."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spool_house import begun, left_by

from relit.gateway import canned, headers, prices
from relit.gateway.answers import Head, Tape, whole
from relit.gateway.ledger import Asked, _asked
from relit.gateway.matching import VOLATILE, Mask, Match, masks, match_of
from relit.gateway.naming import named, renamed
from relit.gateway.refusal import Refused
from relit.gateway.routes import Route
from relit.gateway.spool import Spool
from relit.gateway.target import Target, address, aim, door
from relit.gateway.tools import counting, plan
from relit.gateway.usage import Meter, Tokens, tokens

BRIEF = settings(max_examples=100, deadline=None)
WORDS = [
    "model", "messages", "input", "usage", "response", "message", "role", "content", "type", "id", "call_id", "tools",
    "tool_calls", "tool_call_id", "tool_use_id", "user", "tool", "assistant", "tool_use", "tool_result", "system",
    "function_call", "function_call_output", "reasoning", "prompt_tokens", "completion_tokens", "input_tokens", "n",
    "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens", "total_tokens",
    "input_tokens_details", "cached_tokens", "max_tokens", "stream", "default",
]  # fmt: skip
names = st.sampled_from(WORDS) | st.text(max_size=5)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names
documents = st.recursive(
    leaves, lambda each: st.lists(each, max_size=4) | st.dictionaries(names, each, max_size=5), max_leaves=25
)
tables = st.dictionaries(names, documents, max_size=6)
DEEP = [b'{"messages":%b%b,"tools":[1]}' % (b"[" * depth, b"]" * depth) for depth in (300, 900, 980, 1100, 5000)]
raws = st.one_of(st.binary(max_size=200), documents.map(lambda each: json.dumps(each).encode()), st.sampled_from(DEEP))
PATH = "/chat/completions"
HIDDEN = masks([r"\d{2}:\d{2}", r"session-[0-9a-f]+"])


def match(body: Any, hidden: list[Mask] = HIDDEN) -> Match:
    found = match_of(PATH, json.dumps(body).encode(), hidden)
    assert found is not None
    return found


# --- matching -------------------------------------------------------------------------------------------------------


@given(st.text(max_size=20), raws)
@BRIEF
def test_matching_takes_anything_and_says_the_same_twice(below: str, body: bytes) -> None:
    found = match_of(below, body, HIDDEN)
    assert found == match_of(below, body, HIDDEN)
    if found is not None:
        assert isinstance(json.loads(body), dict)


few = st.sampled_from(["a", "b", "id-1"])
kinds = st.sampled_from(["function_call", "function_call_output", "reasoning", "message"])
turns = st.one_of(
    st.fixed_dictionaries({"role": st.just("tool"), "tool_call_id": few, "content": few}),
    st.fixed_dictionaries({"tool_calls": st.lists(st.fixed_dictionaries({"id": few}), max_size=2)}),
    st.fixed_dictionaries({"type": kinds, "id": few, "call_id": few}),
    st.fixed_dictionaries({"content": st.lists(st.fixed_dictionaries({"type": st.just("tool_use"), "id": few}))}),
    st.fixed_dictionaries({"content": st.lists(st.fixed_dictionaries({"type": few, "tool_use_id": few}))}),
)
asked = st.one_of(
    st.fixed_dictionaries({"messages": st.lists(turns, max_size=2)}, optional={"user": few, "model": few}),
    st.fixed_dictionaries({"input": st.lists(turns, max_size=2)}, optional={"store": few}),
    tables,
)


def exchanged(body: dict[str, Any], names: list[str]) -> Any:
    """With other names in the place of ``few``, wherever they stand."""
    other = dict(zip(("a", "b", "id-1"), names, strict=True))
    return json.loads(re.sub(r'"(a|b|id-1)"', lambda found: f'"{other[found[1]]}"', json.dumps(body)))


@given(asked, asked, st.permutations(["a", "b", "id-1"]), st.booleans())
@example({}, {"": None}, ["a", "b", "id-1"], False)
@settings(BRIEF, max_examples=300)
def test_without_masks_only_the_same_calls_match(
    one: dict[str, Any], other: dict[str, Any], names: list[str], renames: bool
) -> None:
    """Ids are counted, and what a provider alone reads is left out; nothing else is."""
    other = exchanged(one, names) if renames else other
    same = _canonical(one) == _canonical(other)
    assert (match(one, []).key == match(other, []).key) == same
    assert match(one, []) == match(dict(reversed(one.items())), [])


def _canonical(body: dict[str, Any]) -> str:
    """Written anew for this test: a call without what does not matter, and with its ids counted."""
    ids: dict[str, str] = {}

    def counted(table: Any, *keys: str) -> Any:
        if not isinstance(table, dict):
            return table
        made = dict(table)
        for key in keys:
            if isinstance(made.get(key), str):
                made[key] = ids.setdefault(made[key], f"#{len(ids)}")
        return made

    def part(inside: str, each: Any) -> Any:
        kind = each.get("type") if isinstance(each, dict) else None
        if inside == "tool_calls" or kind == "tool_use":
            return counted(each, "id")
        return counted(each, "tool_use_id") if kind == "tool_result" else each

    def turn(each: Any) -> Any:
        items = ("function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning")
        is_item = isinstance(each, dict) and each.get("type") in items
        made = counted(each, "tool_call_id", *(("id", "call_id") if is_item else ()))
        for key in ("tool_calls", "content") if isinstance(made, dict) else ():
            if isinstance(made.get(key), list):
                made[key] = [part(key, one) for one in made[key]]
        return made

    kept = {key: value for key, value in body.items() if key not in VOLATILE}
    for key in ("messages", "input"):
        if isinstance(kept.get(key), list):
            kept[key] = [turn(each) for each in kept[key]]
    return json.dumps(kept, sort_keys=True)


ids = st.text(min_size=1, max_size=8)


@given(st.lists(st.tuples(ids, st.booleans()), min_size=1, max_size=8), st.randoms())
@BRIEF
def test_ids_are_renumbered_the_same_whatever_they_are(calls: list[tuple[str, bool]], chance: Any) -> None:
    """Any other ids, as long as those that were equal stay equal and the others stay apart."""
    fresh = {id: f"{chance.getrandbits(64):x}-{place}" for place, (id, _) in enumerate(calls)}

    def body(rename: Callable[[str], str]) -> dict[str, Any]:
        return {"messages": [
            {"role": "tool", "tool_call_id": rename(id), "content": "x"} if answers else
            {"role": "assistant", "tool_calls": [{"id": rename(id), "function": {"name": "pay"}}]}
            for id, answers in calls
        ]}  # fmt: skip

    assert match(body(lambda id: id)) == match(body(lambda id: fresh[id]))
    if len({id for id, _ in calls}) > 1:
        assert match(body(lambda id: "one")).key != match(body(lambda id: id)).key


times = st.from_regex(r"\A[0-9]{2}:[0-9]{2}\Z").filter(str.isascii)
texts = st.text(max_size=20).filter(lambda text: not re.search(r"\d{2}:\d{2}|session-|[\d:<]", text))


@given(texts, texts, times, times)
@BRIEF
def test_masks_hide_what_they_match_and_nothing_else(before: str, after: str, one: str, other: str) -> None:
    def asked(text: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": text}]}

    first, second = (match(asked(f"{before} {time} {after}")) for time in (one, other))
    assert first == second
    assert match(asked(f"{before} {after}")).key != first.key
    assert match(asked(f"{before}. {one} {after}")).key != first.key
    assert match(asked(f"{before} {one} {after}"), []).key == match(asked(f"{before} {one} {after}"), []).key
    assert (one == other) == (
        match(asked(f"{before} {one} {after}"), []).key == match(asked(f"{before} {other} {after}"), []).key
    )


@given(raws | tables.map(lambda each: json.dumps({**each, "tools": [1]}).encode()))
@BRIEF
def test_calls_to_tools_are_counted_in_anything(body: bytes) -> None:
    found = counting.done(body)
    assert found is None or all(count > 0 for count in found.values())


# --- usage ----------------------------------------------------------------------------------------------------------


USAGE = [word for word in WORDS if "tokens" in word]
usages = st.dictionaries(st.sampled_from(USAGE), leaves | st.dictionaries(st.sampled_from(USAGE), leaves, max_size=2))


@given(usages, usages)
@BRIEF
def test_usage_is_never_less_than_nothing(first: Any, second: Any) -> None:
    found = None
    for each in (first, second):
        found = tokens(each, found)
        assert min(found.input, found.output, found.cached, found.written) >= 0
        assert prices.cost(found, prices.Price(input=1, output=10, cached=0.1, written=1.25)) >= 0


counts = st.integers(0, 1 << 40)


@given(counts, counts, counts, counts)
@BRIEF
def test_usage_is_read_whole_in_every_protocol(fresh: int, cached: int, written: int, output: int) -> None:
    chat = {"prompt_tokens": fresh, "completion_tokens": output, "prompt_tokens_details": {"cached_tokens": cached}}
    assert tokens(chat) == Tokens(input=fresh, output=output, cached=cached)
    given = {"input_tokens": fresh, "cache_read_input_tokens": cached, "cache_creation_input_tokens": written}
    begun = tokens({**given, "output_tokens": 1})
    wanted = Tokens(input=fresh + cached + written, output=output, cached=cached, written=written)
    assert tokens({"output_tokens": output}, begun) == wanted
    assert tokens({}, wanted) == wanted


@given(
    st.lists(raws | st.sampled_from([b"data: ", b"\n", b"\n\n", b"event: x\n", b"\r\n"]), max_size=8),
    st.sampled_from(["text/event-stream", "application/json", "", "text/event-stream; charset=\xff"]),
    st.sampled_from(["", "gzip", "deflate", "br", "identity", "x, gzip"]),
)
@BRIEF
def test_no_answer_stops_the_meter(pieces: list[bytes], kind: str, encoding: str) -> None:
    meter = Meter(kind, encoding)
    for piece in pieces:
        meter.read(piece)
    meter.end()
    assert meter.bytes == sum(map(len, pieces))
    assert meter.said >= 0
    assert "\0" not in meter.model
    assert len(meter.model.encode()) <= 800


@given(st.data(), st.booleans(), st.booleans())
@BRIEF
def test_however_an_answer_is_cut_into_pieces_it_is_counted(data: st.DataObject, streams: bool, packed: bool) -> None:
    usage = {"prompt_tokens": data.draw(counts), "completion_tokens": data.draw(counts)}
    told = json.dumps({"model": "m", "choices": data.draw(documents), "usage": usage}).encode()
    body = b'data: {"choices": []}\n\ndata: ' + told + b"\n\ndata: [DONE]\n\n" if streams else told
    packing = zlib.compressobj(wbits=31)
    sent = packing.compress(body) + packing.flush() if packed else body
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=10)))
    meter = Meter("text/event-stream" if streams else "application/json", "gzip" if packed else "")
    for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        meter.read(sent[begin:end])
    meter.end()
    assert meter.tokens == Tokens(input=usage["prompt_tokens"], output=usage["completion_tokens"])
    assert meter.model == "m"


@given(raws)
@BRIEF
def test_what_a_call_may_cost_can_always_be_told(body: bytes) -> None:
    asked: Asked = _asked(body)
    for protocol in ("chat", "responses", "messages", "embeddings"):
        found = prices.reserve(protocol, len(body), msgspec.to_builtins(asked), prices.Price(input=1.0, output=1e9))
        assert 0 <= found < 1 << 63


@given(raws, st.text(max_size=6) | st.sampled_from(["model", "a.b", "usage.0.id", "."]))
@BRIEF
def test_what_a_tool_answers_is_looked_through_or_says_nothing(answer: bytes, path: str) -> None:
    with contextlib.suppress(ValueError):
        plan.found(answer, path)


# --- answers --------------------------------------------------------------------------------------------------------


class _Nowhere:
    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}

    async def put(self, data: bytes) -> str:
        self._held[str(len(self._held))] = data
        return str(len(self._held) - 1)

    async def get(self, hash: str) -> bytes:
        return self._held[hash]


broken = st.text(st.sampled_from("a;\xff\udcff\ud800\n"), max_size=8)  # as bytes that are no text come
lines = st.tuples(st.sampled_from(["Content-Type", "Content-Encoding", "X", "\udcff"]), broken)


@given(st.lists(st.binary(max_size=100), max_size=5), st.lists(lines, max_size=4))
@BRIEF
async def test_an_answer_is_kept_as_it_was(pieces: list[bytes], head: list[tuple[str, str]]) -> None:
    tape, blobs = Tape(200, head), _Nowhere()
    for piece in pieces:
        tape.read(piece)
    kept = await tape.answer(blobs)
    assert kept is not None
    found = await whole(kept, blobs)
    assert found.body == b"".join(pieces)
    assert found.head.status == 200
    assert isinstance(found.head, Head)
    assert await Tape(200, found.head.headers).answer(blobs) == await Tape(200, found.head.headers).answer(blobs)


@example([("Content-Type", "text/event-stream; \udcff")])
@given(st.lists(lines, max_size=4))
@BRIEF
def test_what_passes_of_an_answer_is_left_for_the_next_gateway(head: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder) / "answers")
        spool.left()
        track = begun(spool, "call", 7)
        track.head(200, head)
        track.write(b"hello")
        [left] = left_by(spool).left()
        assert left.head is not None
        assert (left.asked.call.id, left.asked.sent, left.head.status, left.body) == ("call", 7, 200, b"hello")
        track.remove()
        spool.stop()


# --- paths, names, headers, words -----------------------------------------------------------------------------------

ENDS = [
    "", ".", "..", "%2e", "%2E%2e", "%252e", "/", "//", "\\", "%5c", "%2f", ";", "#", "?", "%", "%zz", "a", "é", "\0",
]  # fmt: skip
paths = st.lists(st.sampled_from(ENDS) | st.text(max_size=3), max_size=8).map("".join)
ROUTES = [
    Route("one", "https://one.example/v1", None),
    Route("two", "https://two.example", None, kind="anthropic"),
    Route("three", "http://127.0.0.1:1/a/v1/", None),
]


@given(st.sampled_from(["/openai/v1/", "/anthropic/v1/", "/openai/v1", "/", ""]), paths)
@BRIEF
def test_no_path_leads_anywhere_else(prefix: str, path: str) -> None:
    assert door(prefix + path) in ("openai", "anthropic")
    found = aim(prefix + path)
    if found is None:
        return
    assert found.below in path or f"/{path}" == found.below
    for route in ROUTES:
        base, url = urlsplit(route.url), urlsplit(address(route, found))
        assert (url.scheme, url.netloc, url.fragment) == (base.scheme, base.netloc, "")
        resolved = unquote(unquote(url.path)).replace("\\", "/").split("/")
        assert not {".", ".."} & {each.partition(";")[0] for each in resolved}
        assert url.path.startswith(f"{base.path.rstrip('/')}/")


@given(st.sampled_from(["openai", "anthropic"]), paths)
@BRIEF
def test_which_call_it_is_can_always_be_told(kind: Any, path: str) -> None:
    assert Target(kind, f"/{path}").call in (None, "chat", "responses", "messages", "tokens", "embeddings")


@given(raws | tables.map(lambda each: json.dumps({**each, "model": "default"}).encode()), st.text(max_size=10))
@BRIEF
def test_naming_changes_the_model_alone_and_once(raw: bytes, model: str) -> None:
    once, forced = named(raw, model), renamed(raw, model)
    assert named(once, model) == once
    assert renamed(forced, model) == forced
    if once != raw:
        before, after = json.loads(raw), json.loads(once)
        assert before["model"] == "default"
        assert after == {**before, "model": model}
    if forced != raw and model:
        assert json.loads(forced) == {**json.loads(raw), "model": model}


@given(st.lists(st.tuples(st.sampled_from(["Authorization", "x-api-key", "X", "Connection"]), st.text(max_size=20))))
@BRIEF
def test_no_header_of_an_agents_passes_for_the_routes_key(pairs: list[tuple[str, str]]) -> None:
    found = headers.tokens(pairs)
    assert all(token == token.strip() and token for token in found)
    for kind, own in (("openai", ("Authorization", "Bearer key")), ("anthropic", ("x-api-key", "key"))):
        sent = headers.onward(pairs, Route("x", "http://x", "key", kind=kind))  # type: ignore[arg-type]
        assert [pair for pair in sent if pair[0].lower() in ("authorization", "x-api-key")] == [own]
        assert headers.onward(sent, Route("x", "http://x", None)) == sent[:-1]


@given(st.sampled_from(["chat", "responses", "messages", "tokens"]), raws, st.booleans())
@BRIEF
def test_a_canary_is_looked_for_in_anything(protocol: Any, raw: bytes, clone: bool) -> None:
    marked = raw.replace(b"model", canned.MARK.encode() + b"x1")
    for each in (raw, marked):
        canned.reply(protocol, each, 0, clone=clone)


STATUSES = [400, 401, 402, 403, 404, 408, 413, 429, 431, 502, 503, 504]


@given(st.sampled_from(STATUSES), st.text(max_size=20), st.booleans())
@BRIEF
def test_a_refusal_is_said_in_both_protocols(status: int, why: str, retry: bool) -> None:
    refused = Refused(status, "code", why, retry=retry)
    for kind in ("openai", "anthropic"):
        error = json.loads(refused.body(kind))["error"]  # type: ignore[arg-type]
        assert (error["message"], error["code"], error["retry"]) == (f"relit: {why}", "code", retry)
        assert error["type"]
    assert (refused.headers()["x-should-retry"] == "true") == retry == ("retry-after" in refused.headers())
