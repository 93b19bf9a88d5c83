"""The sink honours idempotency keys and keeps every raw request."""

from __future__ import annotations

import httpx

from relit.testing.sink import Served, Sink


def test_a_key_seen_before_takes_no_second_effect() -> None:
    sink = Sink()
    with Served(sink.app) as url:
        answers = [httpx.post(f"{url}/hook", json={"n": 1}, headers={"Idempotency-Key": "k"}).json() for _ in range(2)]
    assert answers == [{"fresh": True}, {"fresh": False}]
    assert [len(sink.requests), len(sink.effective)] == [2, 1]


def test_requests_without_a_key_all_take_effect() -> None:
    sink = Sink()
    with Served(sink.app) as url:
        for _ in range(2):
            httpx.post(f"{url}/hook", json={"n": 1})
    assert len(sink.effective) == 2
    assert sink.effective[0].body == b'{"n":1}'


def test_a_refused_request_has_no_effect_and_its_key_stays_free() -> None:
    sink = Sink(status=503)
    with Served(sink.app) as url:
        refused = httpx.post(f"{url}/hook", json={}, headers={"Idempotency-Key": "k"})
        sink.status = 200
        taken = httpx.post(f"{url}/hook", json={}, headers={"Idempotency-Key": "k"})
    assert refused.status_code == 503
    assert taken.json() == {"fresh": True}
