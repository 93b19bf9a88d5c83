"""Ways to tell people: a webhook, a pager, and whatever Apprise reaches.

A channel says whether an alert was taken. ``unknown``: it may have arrived, and nobody heard so. It is sent again then,
under the same id, by which a webhook's receiver and a pager recognise it; a mail or a chat message may come twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from relit.durable import notices
from relit.durable.courier import Kind, Parcel, Receipt
from relit.durable.notices import Notice
from relit.errors import ConfigError

if TYPE_CHECKING:
    import httpx

Verdict = Literal["taken", "refused", "unknown"]
Style = Literal["plain", "pagerduty"]
Sign = Callable[[str, str, int, bytes], dict[str, str]]
"""Headers that sign a post: secret, id, seconds since 1970, body (``relit.api.webhooks.sign``)."""

TIMEOUT_S = 60.0  # the longest that a channel takes
_POST_S = 20.0
_RETRY_AFTER_MOST = 3600
_WHY_MOST = 300
_BODY = 2000


class Told(msgspec.Struct, frozen=True):
    """What became of an alert on its channel."""

    verdict: Verdict
    why: str = ""
    retry_after: int | None = None  # seconds that its receiver asks for


class Channel(Protocol):
    """``name`` stays the same over restarts, and shows no secret."""

    @property
    def name(self) -> str: ...

    async def tell(self, notice: Notice) -> Told:
        """Within ``TIMEOUT_S``. Never raises."""
        ...


class Webhook:
    """Posts JSON. ``secret`` gives a pager's routing key, or what signs a plain post (empty: unsigned)."""

    def __init__(self, name: str, url: str, style: Style, secret: Callable[[], str], sign: Sign) -> None:
        self.name = name
        self._url = url
        self._style = style
        self._secret = secret
        self._sign = sign

    async def tell(self, notice: Notice) -> Told:
        """See ``Channel``."""
        import httpx  # slow to import, and many processes that know this module post nothing

        try:
            body, headers = self._post(notice)
            async with asyncio.timeout(_POST_S), httpx.AsyncClient(timeout=_POST_S, follow_redirects=False) as client:
                response = await client.post(self._url, content=body, headers=headers)
        except ConfigError as error:
            return Told("refused", error.why or error.what)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            return Told("refused", _said(error))
        except (httpx.HTTPError, TimeoutError) as error:
            return Told("unknown", _said(error))
        return _answered(response)

    def _post(self, notice: Notice) -> tuple[bytes, dict[str, str]]:
        secret = self._secret()
        headers = {"content-type": "application/json", "user-agent": "relit", "webhook-id": notice.id}
        if self._style == "pagerduty":
            return msgspec.json.encode(notices.pagerduty(notice, secret)), headers
        body = msgspec.json.encode(notices.plain(notice))
        return body, headers | (self._sign(secret, notice.id, notice.at // 1000, body) if secret else {})


def _answered(response: httpx.Response) -> Told:
    if response.is_success:
        return Told("taken")
    after = response.headers.get("retry-after", "")
    seconds = min(int(after), _RETRY_AFTER_MOST) if after.isascii() and after.isdigit() and len(after) < 10 else None
    said = " ".join(response.text[:_BODY].split())
    why = f"it answered {response.status_code}: {said}"[:_WHY_MOST]
    # Who stands between may say 502 of what has arrived.
    return Told("unknown" if response.is_server_error else "refused", why, seconds)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_WHY_MOST]


class Apprise:
    """Whatever has an Apprise address, which ``url`` gives. Each alert is taken there by a process of its own."""

    def __init__(self, name: str, url: Callable[[], str], timeout_s: float = TIMEOUT_S - 5) -> None:
        self.name = name
        self._url = url
        self._timeout_s = timeout_s

    async def tell(self, notice: Notice) -> Told:
        """See ``Channel``."""
        try:
            parcel = Parcel(
                url=self._url(), subject=notices.subject(notice), text=notices.text(notice), kind=_kind(notice)
            )
            receipt = await sent(parcel, self._timeout_s)
        except ConfigError as error:
            return Told("refused", error.why or error.what)
        except OSError as error:
            return Told("refused", f"its process was not started: {error}")
        if receipt is None:
            return Told("unknown", "no answer in time")
        return Told("taken") if receipt.taken else Told("refused", receipt.why[:_WHY_MOST])


def _kind(notice: Notice) -> Kind:
    if notice.kind == "resolved":
        return "success"
    return "info" if notice.severity == "info" else "warning" if notice.severity == "warning" else "failure"


async def sent(parcel: Parcel, timeout_s: float) -> Receipt | None:
    """What Apprise did with a parcel; ``None`` when it did not say. Raises ``OSError`` when it was not started."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "relit.durable.courier",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            answer, _ = await process.communicate(msgspec.json.encode(parcel))
        return msgspec.json.decode(answer, type=Receipt)
    except (TimeoutError, msgspec.MsgspecError):
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            process.kill()
        await process.wait()
