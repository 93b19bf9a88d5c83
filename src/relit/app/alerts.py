"""Whom ``[alerts]`` names, as channels. A channel's name is what its alerts are remembered by: it outlives restarts and
a changed order, and shows no secret."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial

from relit.api.webhooks import keys, sign
from relit.durable.alerting import Policy
from relit.durable.alerts import Alerts
from relit.durable.channels import TIMEOUT_S, Apprise, Channel, Webhook, sent
from relit.durable.courier import Parcel
from relit.errors import ConfigError
from relit.lib.service import OnFailure
from relit.settings import Secrets, Settings
from relit.settings.outside import AlertWebhook
from relit.store.base import Store

_SECRET = "secret:"


def alerts(settings: Settings, store: Store, secrets: Secrets, on_failure: OnFailure) -> Alerts:
    """The service that tells them."""
    policy = Policy(min_severity=settings.alerts.min_severity, repeat_ms=settings.alerts.repeat_ms)
    return Alerts(store, channels(settings, secrets), policy, on_failure=on_failure)


def channels(settings: Settings, secrets: Secrets) -> list[Channel]:
    """One for each address and webhook. Secrets are read when they are used."""
    told: list[Channel] = [
        Apprise(name_of(url), partial(secrets.reveal, url)) for url in dict.fromkeys(settings.alerts.urls)
    ]
    return told + [_webhook(name, each, secrets) for name, each in settings.alerts.webhooks.items()]


def name_of(url: str) -> str:
    """What the channel of an address is called."""
    if url.startswith(_SECRET):
        return f"urls.{url.removeprefix(_SECRET)}"
    return f"urls.{url.partition(':')[0]}-{hashlib.blake2b(url.encode(), digest_size=4).hexdigest()}"


def _webhook(name: str, each: AlertWebhook, secrets: Secrets) -> Webhook:
    return Webhook(f"webhooks.{name}", each.url, each.style, partial(secrets.reveal, each.secret or ""), sign)


def check(settings: Settings, secrets: Secrets) -> None:
    """Raises ``ConfigError`` for a secret that is not set, or that cannot be what it should."""
    for url in settings.alerts.urls:
        _check("alerts.urls", url, secrets, address=True)
    for name, each in settings.alerts.webhooks.items():
        if each.secret is not None:
            _check(f"alerts.webhooks.{name}", each.secret, secrets, signs=each.style == "plain")


def _check(table: str, value: str, secrets: Secrets, *, address: bool = False, signs: bool = False) -> None:
    try:
        found = secrets.reveal(value)
        if signs:
            keys(found)
    except ConfigError as error:
        raise ConfigError(f"[{table}]: {error.what}", why=error.why, fix=error.fix) from error
    if address and "://" not in found:
        raise ConfigError(
            f"[{table}]: {value if value.startswith(_SECRET) else 'an entry'} is no address",
            why="Apprise's addresses look like mailto://user:password@example.org",
            fix="relit config path shows where secrets stand",
        )


async def check_addresses(settings: Settings, secrets: Secrets) -> None:
    """Raises ``ConfigError`` for addresses that Apprise does not understand. Takes a second or two."""
    urls = [*dict.fromkeys(settings.alerts.urls)]
    receipts = await asyncio.gather(*(sent(Parcel(url=secrets.reveal(url)), TIMEOUT_S) for url in urls))
    wrong = [name_of(url) for url, got in zip(urls, receipts, strict=True) if got is None or not got.readable]
    if wrong:
        raise ConfigError(
            f"[alerts.urls]: {', '.join(wrong)} cannot be used",
            why="Apprise does not understand the address",
            fix="apprise --details lists how addresses are written",
        )
