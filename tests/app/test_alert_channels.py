"""``[alerts]``: what may stand there, and whom it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit.app import alerts
from relit.app.serve import check_secrets
from relit.errors import ConfigError
from relit.settings import Environment, Secrets, Settings, load, show

SECRETS = 'mail = "mailto://me:hunter2@example.org"\npager = "R0UT1NG"\nops = "whsec_***"\nbroken = "nothing"\n'


def read(folder: Path, text: str, **variables: str) -> Settings:
    (folder / "relit.toml").write_text(text)
    secrets = folder / "secrets.toml"
    secrets.write_text(SECRETS)
    secrets.chmod(0o600)
    return load(folder / "relit.toml", environment=Environment(variables), data=folder)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return caught.value.why


WHOLE = """
[alerts]
urls = ["secret:mail", "json://user:hunter2@example.org", "secret:mail"]
min_severity = "critical"
repeat = "1h"
[alerts.webhooks.pager]
url = "https://events.example.org/v2/enqueue"
style = "pagerduty"
secret = "secret:pager"
[alerts.webhooks.ops]
url = "https://ops.example.org/"
"""


def test_nobody_is_told_unless_somebody_is_named(tmp_path: Path) -> None:
    settings = read(tmp_path, "")
    assert alerts.channels(settings, Secrets(tmp_path)) == []
    assert (settings.alerts.min_severity, settings.alerts.repeat_ms) == ("warning", 4 * 3_600_000)


def test_each_address_and_webhook_is_a_channel_whose_name_stays(tmp_path: Path) -> None:
    names = [each.name for each in alerts.channels(read(tmp_path, WHOLE), Secrets(tmp_path))]
    assert names == ["urls.mail", "urls.json-8de86b41", "webhooks.pager", "webhooks.ops"]
    turned = WHOLE.replace('"secret:mail", "json://user:hunter2@example.org"', '"json://user:hunter2@example.org"')
    assert alerts.channels(read(tmp_path, turned), Secrets(tmp_path))[0].name == names[1]


def test_addresses_are_never_shown(tmp_path: Path) -> None:
    settings = read(tmp_path, WHOLE)
    shown = f"{show.tree(settings)} {list(show.rows(settings))}"
    assert "hunter2" not in shown
    assert "secret:mail" in shown
    assert "secret:pager" in shown


def test_variables_name_them_too(tmp_path: Path) -> None:
    settings = read(
        tmp_path, "", RELIT_ALERTS__URLS='["secret:mail"]', RELIT_ALERTS__WEBHOOKS__OPS__URL="https://x.example/"
    )
    assert [each.name for each in alerts.channels(settings, Secrets(tmp_path))] == ["urls.mail", "webhooks.ops"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[alerts]\nurls = ["me@hunter2.org"]', "alerts.urls: holds something that is no address"),
        ("[alerts]\nurls = [5]", "alerts.urls: is not allowed (allowed: a list of strings)"),
        ('[alerts]\nurl = ["x"]', "did you mean urls?"),
        ('[alerts]\nmin_severity = "bad"', "critical | info | warning"),
        ('[alerts]\nrepeat = "1s"', "too often"),
        ('[alerts.webhooks.p]\nurl = "https://x"\nstyle = "pagerduty"', "alerts.webhooks.p.secret: is missing"),
        ('[alerts.webhooks.p]\nurl = "ftp://x"', "an http:// or https:// address"),
        ('[alerts.webhooks.p]\nstyle = "plain"', "alerts.webhooks.p.url: is missing"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, text: str, said: str) -> None:
    why = refused(tmp_path, text)
    assert said in why
    assert "hunter2" not in why


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[alerts]\nurls = ["secret:nail"]', "[alerts.urls]: the secret nail is not set"),
        ('[alerts]\nurls = ["secret:broken"]', "[alerts.urls]: secret:broken is no address"),
        ('[alerts.webhooks.p]\nurl = "https://x"\nsecret = "secret:ops"', "[alerts.webhooks.p]: the webhook's secret"),
    ],
)
def test_secrets_are_looked_at_before_anything_starts(tmp_path: Path, text: str, what: str) -> None:
    settings = read(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        check_secrets(settings, Secrets(tmp_path))
    assert what in caught.value.what
    assert "nothing" not in f"{caught.value.what} {caught.value.why}"


def test_a_routing_key_is_not_taken_for_a_signing_secret(tmp_path: Path) -> None:
    text = '[alerts.webhooks.p]\nurl = "https://x"\nstyle = "pagerduty"\nsecret = "secret:ops"'
    check_secrets(read(tmp_path, text), Secrets(tmp_path))


@pytest.mark.slow
async def test_addresses_that_apprise_does_not_know_are_told_by_name(tmp_path: Path) -> None:
    good = read(tmp_path, '[alerts]\nurls = ["secret:mail", "json://localhost"]')
    await alerts.check_addresses(good, Secrets(tmp_path))
    bad = read(tmp_path, '[alerts]\nurls = ["secret:mail", "nonsense://me:hunter2@x"]')
    with pytest.raises(ConfigError) as caught:
        await alerts.check_addresses(bad, Secrets(tmp_path))
    assert "urls.nonsense-" in caught.value.what
    assert "hunter2" not in f"{caught.value.what} {caught.value.why}"
