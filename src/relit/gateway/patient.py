"""Whether one call is made once more, by what came of it."""

from __future__ import annotations

from random import Random

from relit.errors import ProviderFault
from relit.gateway import again
from relit.gateway.again import Pass, Verdict
from relit.gateway.providers import Answer, Call
from relit.lib.clock import Clock


class Patient:
    """Whether a call is made once more, after attempt number ``attempt``."""

    def __init__(self, attempt: int, call: Call, others: bool, chance: Random, clock: Clock) -> None:
        self._attempt = attempt
        self._retries = call.route.retries if call.repeatable else 0
        self._others = others and call.repeatable
        self._chance = chance
        self._clock = clock

    def refused(self, answer: Answer) -> Verdict:
        """It was answered."""
        if answer.status < 400:
            return Pass()
        return again.refused(
            answer.status, {name.lower(): value for name, value in answer.headers}, attempt=self._attempt,
            retries=self._retries, others=self._others, now_s=self._clock.now_ms() / 1000, chance=self._chance,
        )  # fmt: skip

    def broken(self, fault: ProviderFault) -> Verdict:
        """It was not."""
        return again.broken(
            attempt=self._attempt,
            retries=self._retries if fault.retry else 0,
            heard=fault.heard,
            others=self._others,
            chance=self._chance,
        )
