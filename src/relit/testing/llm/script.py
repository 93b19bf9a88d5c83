"""Which request gets which answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from relit.testing.llm.ask import MODEL_CALLS, Ask, Protocol

Matching = Callable[[Ask], bool]
_BRIEF = 200


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """True of a model call of which all that is given here holds; calling it with an ``Ask`` tells.

    ``says``: this text is in the user's last words; ``matches``: this regular expression is found there. ``result``:
    this text is in the tool results at the end. ``offers``: all these tools are offered. ``nth``, ``step``: see
    ``Ask``. Requests other than model calls are matched by naming their ``protocol``.
    """

    says: str | None = None
    matches: str | None = None
    after_tool: bool | None = None
    result: str | None = None
    offers: tuple[str, ...] | None = None
    nth: int | None = None
    step: int | None = None
    model: str | None = None
    streams: bool | None = None
    protocol: Protocol | None = None

    def __call__(self, ask: Ask) -> bool:
        return self._right_kind(ask) and self._texts_fit(ask) and self._figures_fit(ask)

    def _right_kind(self, ask: Ask) -> bool:
        return ask.protocol in MODEL_CALLS if self.protocol is None else ask.protocol == self.protocol

    def _texts_fit(self, ask: Ask) -> bool:
        return (
            (self.says is None or self.says in ask.user)
            and (self.matches is None or re.search(self.matches, ask.user) is not None)
            and (self.result is None or self.result in ask.result)
            and (self.offers is None or set(self.offers) <= set(ask.tools))
        )

    def _figures_fit(self, ask: Ask) -> bool:
        pairs = (
            (self.after_tool, ask.after_tool),
            (self.nth, ask.nth),
            (self.step, ask.step),
            (self.model, ask.model),
            (self.streams, ask.streams),
        )
        return all(wanted is None or wanted == found for wanted, found in pairs)


ANY_CALL = When()


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``arguments`` as text is sent as it is, so that it can be broken."""

    name: str
    arguments: dict[str, Any] | str = {}

    @property
    def text(self) -> str:
        """The arguments as they are sent."""
        return self.arguments if isinstance(self.arguments, str) else msgspec.json.encode(self.arguments).decode()


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request is answered with. ``{user}`` and ``{result}`` in a rule's text stand for those of ``Ask``.

    ``delay_s`` passes before the first byte, ``pace_s`` before each piece after the first. A ``status`` other than 200
    gives the provider's error with ``message`` and, in place of the provider's own, ``code``.

    ``fault`` happens when ``after`` pieces are sent: ``hang`` sends no more, ``cut`` closes the connection,
    ``malformed`` breaks the JSON of the next piece. A piece is an event of a stream, or half of a body. With
    ``after=0`` a hang or a cut comes before the status line; the last piece is the last that a fault can meet.

    ``prompt_tokens`` are told as if the question had so many: an agent near its model's limit sums up what was said.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    delay_s: float = 0.0
    pace_s: float = 0.0
    status: int = 200
    message: str = "scripted error"
    code: str | None = None
    retry_after: float | None = None
    fault: Literal["hang", "cut", "malformed"] | None = None
    after: int = 0
    prompt_tokens: int | None = None


@dataclass(frozen=True, eq=False)
class Rule:
    """``answer`` where ``when`` is true, the first ``times`` times only. A text is short for an ``Answer`` of it.

    A ``when`` in Python is asked about every request, those that are no model calls too.
    """

    when: Matching
    answer: Answer | str | Callable[[Ask], Answer | str]
    times: int | None = None


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    answer: Answer | str
    when: When = ANY_CALL
    times: int | None = None


def parse(data: bytes | str) -> list[Rule]:
    """Rules out of a JSON list of ``{"when": {…}, "answer": {…} or "text", "times": 1}``.

    Raises ``msgspec.ValidationError``, which names the place, or ``msgspec.DecodeError``.
    """
    return [Rule(rule.when, rule.answer, rule.times) for rule in msgspec.json.decode(data, type=list[_Plain])]


class Script:
    """The first of ``rules`` that is true of a request answers it; without one the answer is ``You said: …``."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = list(rules)
        self._used: Counter[Rule] = Counter()

    def answer(self, ask: Ask) -> Answer:
        """The answer to ``ask``. Whatever a predicate or an answer in Python raises comes through."""
        for rule in self.rules:
            if (rule.times is None or self._used[rule] < rule.times) and rule.when(ask):
                self._used[rule] += 1
                return _made(rule, ask)
        return Answer(f"You said: {ask.user[:_BRIEF]}")


def _made(rule: Rule, ask: Ask) -> Answer:
    if isinstance(rule.answer, Answer | str):
        written = _answer(rule.answer)
        return msgspec.structs.replace(written, text=_filled(written.text, ask))
    return _answer(rule.answer(ask))


def _answer(given: Answer | str) -> Answer:
    return Answer(given) if isinstance(given, str) else given


def _filled(text: str, ask: Ask) -> str:
    return re.sub(r"\{(user|result)\}", lambda found: ask.user if found[1] == "user" else ask.result, text)
