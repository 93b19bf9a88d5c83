"""Who is told of what happens, and who tells: ``[webhooks]``, ``[subscribers]``, ``[alerts]``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from relit.lib import durations
from relit.settings.table import Duration, Name, Secret, Table


class Webhook(Table, frozen=True):
    """A signed webhook that becomes a message: `POST /v1/webhooks/NAME`."""

    agent: Annotated[Name, Meta(description="Who gets the message.")]
    secret: Annotated[Secret, Meta(description="The shared secret: `secret:NAME`.")]
    scheme: Annotated[
        Literal["standard", "hmac"],
        Meta(description="`standard`: Standard Webhooks; `hmac`: a header with an HMAC-SHA256 of the body."),
    ] = "standard"
    header: Annotated[str, Meta(description="hmac: the header that carries the signature.")] = "X-Signature-256"
    prefix: Annotated[str, Meta(description="hmac: text before the signature, as in `sha256=…`.")] = "sha256="
    encoding: Annotated[Literal["hex", "base64"], Meta(description="hmac: how the signature is written.")] = "hex"
    id_header: Annotated[
        str | None, Meta(description="hmac: the header with the delivery's id; the same id is one message.")
    ] = None


class Subscriber(Table, frozen=True):
    """An outgoing webhook (Standard Webhooks) for events."""

    url: Annotated[str, Meta(pattern=r"^https?://.+", description="Where events are posted.")]
    secret: Annotated[Secret, Meta(description="Signs the posts: `secret:NAME`.")]
    events: Annotated[list[str], Meta(description="Names or patterns: `run.failed`, `run.*`; none: all.")] = []


class AlertWebhook(Table, frozen=True):
    """A post for each alert."""

    url: Annotated[str, Meta(pattern=r"^https?://.+", description="Where alerts are posted.")]
    secret: Annotated[
        Secret | None,
        Meta(description="plain: signs the posts; pagerduty: the integration's routing key. `secret:NAME`."),
    ] = None
    style: Annotated[
        Literal["plain", "pagerduty"],
        Meta(description="`plain`: JSON (Standard Webhooks); `pagerduty`: PagerDuty's Events API v2."),
    ] = "plain"


class Alerts(Table, frozen=True):
    """Who is told of incidents."""

    urls: Annotated[
        list[Secret],
        Meta(description="Addresses as Apprise writes them: `mailto://…`, `slack://…`; each may be `secret:NAME`."),
    ] = []
    webhooks: dict[Name, AlertWebhook] = {}
    min_severity: Annotated[
        Literal["info", "warning", "critical"], Meta(description="What is less severe is not told.")
    ] = "warning"
    repeat: Annotated[
        Duration, Meta(description="An incident that stays critical is told again so often; `0s`: never.")
    ] = "4h"

    @property
    def repeat_ms(self) -> int:
        return durations.to_ms(self.repeat)
