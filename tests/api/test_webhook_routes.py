"""Signed posts become messages."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import standardwebhooks

from relit.api.server import ApiServer
from relit.api.webhooks import sign

STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
async def sender(server: ApiServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        yield client


def github(body: bytes, delivery: str) -> dict[str, str]:
    digest = hmac.new(b"its-a-secret", body, hashlib.sha256).hexdigest()
    return {"X-Signature-256": f"sha256={digest}", "X-Delivery": delivery, "X-GitHub-Event": "push"}


async def test_a_signed_post_becomes_one_message(sender: httpx.AsyncClient, hand: Any) -> None:
    body = b'{"order": 7}'
    headers = sign(STANDARD, "msg_1", int(time.time()), body)
    first, second = [await sender.post("/v1/webhooks/shop", content=body, headers=headers) for _ in range(2)]
    assert (first.status_code, first.json()["created"]) == (202, True)
    assert second.json() == {**first.json(), "created": False}
    run = await hand.store.run(first.json()["id"])
    assert (run.target, run.mailbox) == ("auditor/message", "auditor")
    (message,) = (await hand.payloads.decode(run.input))["args"]
    assert (message["webhook"], message["id"], message["body"]) == ("shop", "msg_1", {"order": 7})
    assert STANDARD not in repr(message)
    assert "webhook-signature" not in message["headers"]


async def test_the_public_library_s_posts_are_accepted(sender: httpx.AsyncClient) -> None:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    signature = standardwebhooks.Webhook(STANDARD).sign("m", now, "{}")
    headers = {
        "webhook-id": "m",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    assert (await sender.post("/v1/webhooks/shop", content=b"{}", headers=headers)).status_code == 202


async def test_a_header_scheme_with_a_delivery_id(sender: httpx.AsyncClient, hand: Any) -> None:
    for delivery, created in (("d1", True), ("d1", False), ("d2", True)):
        answer = await sender.post(
            "/v1/webhooks/github", content=b"plain text", headers=github(b"plain text", delivery)
        )
        assert (answer.status_code, answer.json()["created"]) == (202, created)
    (message,) = (await hand.payloads.decode((await hand.store.run(answer.json()["id"])).input))["args"]
    assert message["body"] == "plain text"
    assert message["headers"]["x-github-event"] == "push"


async def test_a_body_that_is_no_text_stays_bytes(sender: httpx.AsyncClient, hand: Any) -> None:
    answer = await sender.post("/v1/webhooks/github", content=b"\xff\x00", headers=github(b"\xff\x00", "d"))
    (message,) = (await hand.payloads.decode((await hand.store.run(answer.json()["id"])).input))["args"]
    assert message["body"] == b"\xff\x00"


async def test_a_post_that_is_not_signed_makes_nothing(sender: httpx.AsyncClient, hand: Any, token: str) -> None:
    for headers in ({}, github(b"other", "d"), {"Authorization": f"Bearer {token}"}):
        answer = await sender.post("/v1/webhooks/github", content=b"body", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    old = sign(STANDARD, "m", int(time.time()) - 3600, b"{}")
    assert (await sender.post("/v1/webhooks/shop", content=b"{}", headers=old)).status_code == 401
    assert await hand.store.runs() == []


async def test_a_webhook_that_is_not_configured(sender: httpx.AsyncClient) -> None:
    answer = await sender.post("/v1/webhooks/none", content=b"{}")
    assert answer.status_code == 404
    assert "[webhooks.none]" in answer.json()["fix"]
