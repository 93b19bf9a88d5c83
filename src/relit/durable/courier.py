"""The process in which Apprise takes an alert to its service.

A process of its own, for one alert: Apprise takes a second and tens of megabytes to load its services, which a server
need not carry for weeks; and a service that hangs ends when its process is killed. It reads one ``Parcel`` on its
standard input (an address holds secrets: it is never an argument) and answers one ``Receipt``, both in JSON.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import IO, Literal

import msgspec

Kind = Literal["info", "success", "warning", "failure"]  # Apprise's words


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be told where. Without ``subject`` the address is only looked at."""

    url: str
    subject: str = ""
    text: str = ""
    kind: Kind = "info"


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """``readable``: the address is one that Apprise understands. ``why`` it was not taken."""

    taken: bool
    readable: bool = True
    why: str = ""


class _Said(logging.Handler):
    """Keeps what Apprise says: it answers only yes or no."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def deliver(parcel: Parcel) -> Receipt:
    """Take it there."""
    import apprise  # slow, and no other module of relit needs it

    said = _Said()
    logging.getLogger("apprise").addHandler(said)
    asset = apprise.AppriseAsset(app_id="relit", app_desc="relit", app_url="", secure_logging=True)
    courier = apprise.Apprise(asset=asset)
    if not courier.add(parcel.url):
        return Receipt(taken=False, readable=False, why=_why(said, parcel.url) or "it is no address that Apprise knows")
    if not parcel.subject:
        return Receipt(taken=False)
    taken = courier.notify(
        body=parcel.text, title=parcel.subject, notify_type=parcel.kind, body_format=apprise.NotifyFormat.TEXT
    )
    return Receipt(taken=bool(taken), why="" if taken else _why(said, parcel.url) or "the service did not take it")


def _why(said: _Said, url: str) -> str:
    """What was said, without the address that may stand in it."""
    return " ".join("; ".join(said.lines[-3:]).replace(url, "…").split())


def main(source: IO[bytes], to: IO[bytes]) -> None:
    """Deliver one parcel."""
    parcel = msgspec.json.decode(source.read(), type=Parcel)
    to.write(msgspec.json.encode(deliver(parcel)))
    to.flush()


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # whatever else prints here does not answer
        main(sys.stdin.buffer, answers)
