"""A gateway that is killed leaves what had passed of its streams, and the next one counts that."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

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
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "relit.db")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "answers")
    assert made.calls() == set()
    return made


async def next_gateway(store: SqliteStore, spool: Spool, **open_calls: object) -> dict[str, ModelCall]:
    """Calls as the next gateway leaves them. Each had one dollar reserved for it, by who is named."""
    for id, owner in open_calls.items():
        call = ModelCall(
            id=id, agent="scout", route="default", model="m", gateway=msgspec.json.encode(owner).decode(), reserved=USD
        )
        await store.calls.open(call, [Budget(scope="agent:scout", limit=9 * USD)])
    await Ledger(store.calls, PRICES, {}, {}, spool=spool).start()
    return {each.id: each for each in await store.calls.of_agent("scout")}


async def test_what_had_passed_is_counted_in_place_of_what_was_reserved(store: SqliteStore, spool: Spool) -> None:
    track = spool.begin("cut", 200, HEADERS, sent=400)
    for _ in range(50):
        track.write(EVENT)
    call = (await next_gateway(store, spool, cut="gone"))["cut"]
    assert (call.state, call.why, call.estimated) == ("cut", "its gateway died", True)
    assert (call.input, call.output, call.cost) == (100, 100, 1_100_000)
    [spent] = await store.calls.spending(day_of(call.started_at))
    assert (spent.spent, spent.reserved) == (call.cost, 0)
    assert spool.calls() == set()


async def test_what_the_provider_said_is_believed(store: SqliteStore, spool: Spool) -> None:
    spool.begin("cut", 200, HEADERS, sent=4).write(b"data: " + json.dumps(USAGE).encode() + b"\n\n" + EVENT[:9])
    call = (await next_gateway(store, spool, cut="gone"))["cut"]
    assert (call.input, call.output, call.cost) == (20, 100, 1_020_000)


async def test_what_cannot_be_read_counts_as_reserved(store: SqliteStore, spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "answers" / "torn").write_bytes(b'{"status": 2')
    found = await next_gateway(store, spool, torn="gone", silent="gone")
    assert {id: call.cost for id, call in found.items()} == {"torn": USD, "silent": USD}
    assert spool.calls() == set()


async def test_calls_of_a_gateway_that_lives_are_left_alone(store: SqliteStore, spool: Spool) -> None:
    for id in ("mine", "ended"):
        spool.begin(id, 200, HEADERS, sent=4).close()
    assert (await next_gateway(store, spool, mine=proc.myself()))["mine"].state == "open"
    assert spool.calls() == {"mine"}


def test_only_what_it_is_read_by_is_kept_of_an_answers_headers(spool: Spool, tmp_path: Path) -> None:
    spool.begin("one", 200, HEADERS, sent=4).close()
    assert b"secret" not in (tmp_path / "answers" / "one").read_bytes()
    assert (tmp_path / "answers" / "one").stat().st_mode & 0o777 == 0o600


def test_a_disk_that_takes_no_more_costs_the_track_and_not_the_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    track = Spool(tmp_path / "nowhere").begin("one", 200, [], sent=1)
    track.write(b"piece")
    track.remove()
    assert "cannot be written" in caplog.text
