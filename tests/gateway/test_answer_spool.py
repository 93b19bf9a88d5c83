"""A gateway that is killed leaves what it had under way, and the next one writes it down and counts what was said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from spool_house import begun, call_of, left_by

from relit.gateway.ledger import Ledger
from relit.gateway.prices import Price
from relit.gateway.spool import Spool
from relit.lib import proc
from relit.store.sql.calls import USD, day_of
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Budget, ModelCall

PRICES = {"m": Price(input=1.0, output=10.0)}
HEADERS = [("Content-Type", "text/event-stream"), ("Set-Cookie", "secret")]
EVENT = b'data: {"choices": [{"delta": {"content": "word"}}]}\n\n'
USAGE = {"model": "m", "usage": {"prompt_tokens": 20, "completion_tokens": 100}}


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "answers")
    assert made.left() == []
    return made


async def next_gateway(store: SqliteStore, spool: Spool, **open_calls: object) -> dict[str, ModelCall]:
    """Calls as the next gateway leaves them. These had been written down, by who is named."""
    for id, owner in open_calls.items():
        gateway = msgspec.json.encode(owner).decode()
        await store.calls.open(call_of(id, gateway), [Budget(scope="agent:scout", limit=9 * USD)])
    await Ledger(store.calls, PRICES, {}, {}, spool=spool).start()
    return {each.id: each for each in await store.calls.of_agent("scout")}


async def test_what_had_passed_is_counted_in_place_of_what_was_reserved(store: SqliteStore, spool: Spool) -> None:
    track = begun(spool, "cut", sent=400)
    track.head(200, HEADERS)
    for _ in range(50):
        track.write(EVENT)
    left = left_by(spool)
    call = (await next_gateway(store, left, cut="gone"))["cut"]
    assert (call.state, call.why, call.estimated) == ("cut", "its gateway died", True)
    assert (call.input, call.output, call.cost) == (100, 100, 1_100_000)
    [spent] = await store.calls.spending(day_of(call.started_at))
    assert (spent.spent, spent.reserved) == (call.cost, 0)
    assert list(left.folder.iterdir()) == []


async def test_what_the_provider_said_is_believed(store: SqliteStore, spool: Spool) -> None:
    track = begun(spool, "cut")
    track.head(200, HEADERS)
    track.write(b"data: " + json.dumps(USAGE).encode() + b"\n\n" + EVENT[:9])
    call = (await next_gateway(store, left_by(spool), cut="gone"))["cut"]
    assert (call.input, call.output, call.cost) == (20, 100, 1_020_000)


async def test_what_was_sent_before_it_was_on_disk_is_written_down_after_all(store: SqliteStore, spool: Spool) -> None:
    begun(spool, "asked")
    ended = begun(spool, "ended")
    await store.calls.open(call_of("ended"), ())
    await store.calls.end(msgspec.structs.replace(call_of("ended"), state="done", cost=7))
    assert ended.there
    found = await next_gateway(store, left_by(spool))
    assert {id: (call.state, call.cost) for id, call in found.items()} == {"asked": ("cut", USD), "ended": ("done", 7)}


async def test_a_killed_process_leaves_all_that_it_had_written(store: SqliteStore, spool: Spool) -> None:
    program = f"""
import os, signal
from pathlib import Path
from relit.gateway.spool import Asked, Spool
from relit.store.values import ModelCall
track = Spool(Path({str(spool.folder)!r})).begin(
    Asked(ModelCall(id="cut", agent="scout", route="default", model="m", gateway="gone", reserved=1), 400))
track.head(200, {HEADERS!r})
for _ in range(5000):
    track.write({EVENT!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    call = (await next_gateway(store, spool))["cut"]
    assert (call.state, call.input, call.output) == ("cut", 100, 10_000)


async def test_what_cannot_be_read_counts_as_reserved(store: SqliteStore, spool: Spool) -> None:
    (spool.folder / "torn").write_bytes(b"\xff" * 8 + b'{"status": 2')
    (spool.folder / "short").write_bytes(b"2")
    found = await next_gateway(store, spool, torn="gone", silent="gone")
    assert {id: call.cost for id, call in found.items()} == {"torn": USD, "silent": USD}
    assert list(spool.folder.iterdir()) == []


async def test_what_is_no_file_costs_no_other_one(store: SqliteStore, spool: Spool) -> None:
    (spool.folder / "stray").mkdir()
    track = begun(spool, "cut", sent=400)
    track.head(200, HEADERS)
    track.write(EVENT * 50)
    left = left_by(spool)
    assert (await next_gateway(store, left))["cut"].output == 100
    assert [each.name for each in left.folder.iterdir()] == ["stray"]


async def test_calls_of_a_gateway_that_lives_are_left_alone(store: SqliteStore, spool: Spool) -> None:
    begun(spool, "mine")
    assert (await next_gateway(store, spool, mine=proc.myself()))["mine"].state == "open"
    assert len(list(spool.folder.iterdir())) == 1


def test_only_what_it_is_read_by_is_kept_of_an_answers_headers(spool: Spool) -> None:
    begun(spool, "one").head(200, HEADERS)
    [file] = spool.folder.iterdir()
    assert b"event-stream" in file.read_bytes()
    assert b"secret" not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_is_used_again_and_what_was_in_it_counts_no_more(spool: Spool) -> None:
    first = begun(spool, "first")
    first.write(EVENT * 3000)  # it grows, so it is not kept
    first.remove()
    second = begun(spool, "second")
    second.write(EVENT * 100)
    second.remove()
    third = begun(spool, "third")
    assert len(list(spool.folder.iterdir())) == 1
    assert third.there
    [left] = left_by(spool).left()
    assert (left.asked.call.id, left.head, left.body) == ("third", None, b"")


def test_an_answer_longer_than_a_file_is_there_whole(spool: Spool) -> None:
    track = begun(spool, "long")
    track.head(200, HEADERS)
    for _ in range(10_000):
        track.write(EVENT)
    [left] = left_by(spool).left()
    assert left.body == EVENT * 10_000


def test_a_gateway_that_ends_in_good_order_leaves_nothing(spool: Spool) -> None:
    begun(spool, "one").remove()
    spool.stop()
    assert list(spool.folder.iterdir()) == []


def test_a_disk_that_takes_no_more_costs_the_track_and_not_the_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    track = begun(Spool(tmp_path / "nowhere"), "one")
    track.write(b"piece")
    track.remove()
    assert not track.there
    assert "cannot be written" in caplog.text
