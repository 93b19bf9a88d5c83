"""Signatures of webhooks, against the public library and the schemes of well-known senders."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from relit.api import webhooks
from relit.api.webhooks import GITHUB, SLACK, STRIPE, Hmac, Verified, check_hmac, sign, sign_hmac, verify, verify_hmac
from relit.errors import ConfigError, Unauthorized

SECRET = "whsec_" + base64.b64encode(b"a" * 24).decode()
OTHER = "whsec_" + base64.b64encode(b"b" * 24).decode()
NOW = 1_780_000_000
BODY = b'{"hello":"w\xc3\xb6rld"}'


def test_the_public_library_accepts_what_we_sign() -> None:
    headers = sign(SECRET, "msg_1", int(time.time()), BODY)
    assert standardwebhooks.Webhook(SECRET).verify(BODY, headers) == {"hello": "wörld"}


def test_we_accept_what_the_public_library_signs() -> None:
    signature = standardwebhooks.Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(NOW, UTC), BODY.decode())
    headers = {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(NOW), "Webhook-Signature": signature}
    assert verify(SECRET, headers, BODY, NOW) == Verified("msg_1", NOW)


def test_the_specification_s_example() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_any_of_several_secrets_and_signatures_is_enough() -> None:
    assert len(sign(f"{OTHER} {SECRET}", "i", NOW, BODY)["webhook-signature"].split()) == 2
    assert verify(SECRET, sign(f"{OTHER} {SECRET}", "i", NOW, BODY), BODY, NOW).id == "i"
    assert verify(f"{OTHER} {SECRET}", sign(SECRET, "i", NOW, BODY), BODY, NOW).id == "i"


def test_signatures_of_other_versions_do_not_count() -> None:
    headers = sign(SECRET, "i", NOW, BODY)
    headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v1a,")
    with pytest.raises(Unauthorized, match="no signature matches"):
        verify(SECRET, headers, BODY, NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_named(name: str) -> None:
    headers = sign(SECRET, "i", NOW, BODY)
    del headers[name]
    with pytest.raises(Unauthorized, match=name):
        verify(SECRET, headers, BODY, NOW)


@pytest.mark.parametrize("change", [{"webhook-id": "j"}, {"webhook-timestamp": str(NOW + 1)}])
def test_id_and_timestamp_are_signed(change: dict[str, str]) -> None:
    with pytest.raises(Unauthorized):
        verify(SECRET, sign(SECRET, "i", NOW, BODY) | change, BODY, NOW)


def test_another_body_or_secret_is_refused() -> None:
    headers = sign(SECRET, "i", NOW, BODY)
    with pytest.raises(Unauthorized):
        verify(SECRET, headers, BODY + b" ", NOW)
    with pytest.raises(Unauthorized):
        verify(OTHER, headers, BODY, NOW)


@pytest.mark.parametrize("late", [-301, 301])
def test_old_and_future_posts_are_refused(late: int) -> None:
    with pytest.raises(Unauthorized, match="clocks"):
        verify(SECRET, sign(SECRET, "i", NOW, BODY), BODY, NOW + late)
    assert verify(SECRET, sign(SECRET, "i", NOW, BODY), BODY, NOW + late, tolerance_s=301).timestamp == NOW


@given(st.text(max_size=40), st.text(max_size=20))
def test_rubbish_is_refused_and_never_crashes(signature: str, timestamp: str) -> None:
    headers = {"webhook-id": "i", "webhook-timestamp": timestamp, "webhook-signature": signature}
    with pytest.raises(Unauthorized):
        verify(SECRET, headers, BODY, NOW)
    fresh = headers | {"webhook-timestamp": str(NOW), "X-Hub-Signature-256": signature, "Stripe-Signature": signature}
    with pytest.raises(Unauthorized):
        verify(SECRET, fresh, BODY, NOW)
    for scheme in (GITHUB, STRIPE):
        with pytest.raises(Unauthorized):
            verify_hmac(scheme, "s", fresh, BODY, NOW)


@given(st.binary(max_size=200), st.text("abcäß_-", min_size=1, max_size=20), st.text(min_size=1, max_size=8))
def test_what_we_sign_we_accept(body: bytes, secret: str, id: str) -> None:
    assert verify(secret, sign(secret, id, NOW, body), body, NOW).id == id


@pytest.mark.parametrize("secret", ["", "  ", "whsec_", "whsec_***"])
def test_an_unusable_secret_is_a_configuration_error(secret: str) -> None:
    with pytest.raises(ConfigError, match="fix: "):
        webhooks.keys(secret)


# --- HMAC


def test_github_s_header_carries_the_algorithm() -> None:
    # The example of GitHub's documentation.
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Delivery": "72d3162e"}
    # Its secret has spaces, which separate secrets here: the key is given as base64.
    secret = "whsec_" + base64.b64encode(b"It's a Secret to Everybody").decode()
    assert verify_hmac(GITHUB, secret, headers, b"Hello, World!", NOW) == Verified("72d3162e", None)


def test_stripe_s_header_carries_a_timestamp_and_several_signatures() -> None:
    digest = hmac.new(b"secret", f"{NOW}.".encode() + BODY, hashlib.sha256).hexdigest()
    headers = {"stripe-signature": f"t={NOW}, v1={'0' * 64}, v1={digest}, v0=x"}
    assert verify_hmac(STRIPE, "secret", headers, BODY, NOW) == Verified(None, NOW)
    with pytest.raises(Unauthorized, match="clocks"):
        verify_hmac(STRIPE, "secret", headers, BODY, NOW + 1000)


def test_slack_s_timestamp_has_a_header_of_its_own() -> None:
    digest = hmac.new(b"secret", f"v0:{NOW}:".encode() + BODY, hashlib.sha256).hexdigest()
    headers = {"X-Slack-Signature": f"v0={digest}", "X-Slack-Request-Timestamp": str(NOW)}
    assert verify_hmac(SLACK, "secret", headers, BODY, NOW).timestamp == NOW
    with pytest.raises(Unauthorized):
        verify_hmac(SLACK, "secret", headers | {"X-Slack-Request-Timestamp": str(NOW + 1)}, BODY, NOW)


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_every_algorithm_and_encoding_goes_there_and_back(
    algorithm: webhooks.Algorithm, encoding: webhooks.Encoding
) -> None:
    scheme = Hmac(header="X-Sig", algorithm=algorithm, encoding=encoding, prefix="", id_header="X-Id")
    headers = sign_hmac(scheme, "s", BODY, id="7")
    assert verify_hmac(scheme, "s", headers, BODY, NOW) == Verified("7", None)
    with pytest.raises(Unauthorized):
        verify_hmac(scheme, "t", headers, BODY, NOW)


@pytest.mark.parametrize("scheme", [GITHUB, STRIPE, SLACK])
def test_every_known_scheme_goes_there_and_back(scheme: Hmac) -> None:
    check_hmac(scheme)
    headers = sign_hmac(scheme, "old new", BODY, timestamp=NOW)
    verify_hmac(scheme, "new", headers, BODY, NOW)


@pytest.mark.parametrize(
    "scheme",
    [
        Hmac(signed="{timestamp}"),
        Hmac(timestamp_header="X-Time"),
        Hmac(signed="{timestamp}.{body}"),
        Hmac(timestamp_header="X-Time", timestamp_key="t", signed="{timestamp}.{body}"),
    ],
)
def test_a_scheme_that_does_not_protect_is_refused(scheme: Hmac) -> None:
    with pytest.raises(ConfigError):
        check_hmac(scheme)
