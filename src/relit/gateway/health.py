"""What was the providers' fault, so that an outage of theirs is not taken for an agent's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from relit.lib.clock import Clock

_REQUESTS_FAULT = frozenset({400, 404, 405, 406, 409, 410, 411, 412, 413, 414, 415, 416, 417, 422, 431})


class Outage(msgspec.Struct, kw_only=True):
    """One route. ``failures``: in a row; ``failing_since``, ``last_error_at``: milliseconds since 1970; ``last_error``
    stays when it works again."""

    ok: bool = True
    failures: int = 0
    failing_since: int | None = None
    last_error: str = ""
    last_error_at: int | None = None


def blames(status: int) -> bool | None:
    """Whether an answer's status is the provider's fault, or its refusal of us (a wrong key, too many calls, no
    credit). ``None``: it says nothing, since the request itself was wrong."""
    if status < 400:
        return False
    return None if status in _REQUESTS_FAULT else True


class Health:
    """Counts for each route."""

    def __init__(self, routes: Iterable[str], clock: Clock) -> None:
        self._clock = clock
        self._outages = {name: Outage() for name in routes}

    def failed(self, route: str, why: str) -> bool:
        """Whether it is the first time in a row."""
        outage, now = self._outages[route], self._clock.now_ms()
        first = outage.failures == 0
        outage.ok = False
        outage.failures += 1
        outage.failing_since = now if first else outage.failing_since
        outage.last_error, outage.last_error_at = why, now
        return first

    def worked(self, route: str) -> None:
        """An answer was given whole."""
        outage = self._outages[route]
        outage.ok, outage.failures, outage.failing_since = True, 0, None

    def document(self) -> dict[str, Any]:
        """What ``/healthz`` says."""
        return {"ok": True, "routes": msgspec.to_builtins(self._outages)}
