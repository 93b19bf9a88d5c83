"""One message's answer as it comes: frames of its run in, what to print out. No I/O.

``{"text": piece}`` streams into the answer. Of messages into agents that relit did not write ``{"waiting": why}`` and
``{"redelivered": n}`` are told, after which it goes on, and ``{"restarted": n}``, after which it begins anew. Whatever
else a run emits is a line of its own.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple

import msgspec

from relit import documents
from relit.cli.http import Frame
from relit.cli.screen import brief, clean, short

How = Literal["text", "item", "line", "note", "anew", "error"]


class Said(NamedTuple):
    """Something to print: ``text`` goes on where the last one ended, the others have lines of their own. After ``anew``
    the text that was printed counts no more."""

    how: How
    text: str


class Answer:
    """``run``: as it was last told; ``stuck`` when a person must do something first. ``at``: where to go on reading."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self.run: documents.Run | None = None
        self.at = ""
        self._printed = ""
        self._attempts: dict[str, int] = {}
        self._told = ""

    @property
    def stuck(self) -> bool:
        return self.run is not None and self.run.state == "parked"

    def frame(self, frame: Frame) -> list[Said]:
        """What a frame of the run's stream adds."""
        self.at = frame.id or self.at
        match frame.event:
            case "item":
                return self._item(msgspec.json.decode(frame.data, type=documents.Item))
            case "state":
                return self._state(msgspec.json.decode(frame.data, type=documents.Run))
            case "continued":
                self._attempts.clear()
                return []
            case "end":
                return self._end(msgspec.json.decode(frame.data, type=documents.Run))
        return []

    # --- items -------------------------------------------------------------------------------------------------

    def _item(self, item: documents.Item) -> list[Said]:
        before = self._attempts.get(item.pos, item.attempt)
        self._attempts[item.pos] = item.attempt
        said = self._over("tried again") if item.attempt > before else []
        match item.data:
            case {"text": str(piece), **rest} if not rest:
                self._printed, self._told = self._printed + piece, ""
                return [*said, Said("text", safe(piece))]
            case {"redelivered": number, **rest} if not rest:
                return [*said, *self._note(_redelivered(number))]
            case {"restarted": _, **rest} if not rest:
                return [*said, *self._over("another answer: it begins anew")]
            case {"waiting": why, **rest} if not rest:
                return [*said, *self._note(f"waiting: {self._agent} is not ready ({brief(why, 200)})")]
        return [*said, Said("item", brief(item.data, 400))]

    def _over(self, why: str) -> list[Said]:
        self._printed, self._told = "", ""
        return [Said("anew", why)]

    def _note(self, text: str) -> list[Said]:
        told, self._told = self._told, text
        return [] if text == told else [Said("note", text)]

    # --- states and the end ------------------------------------------------------------------------------------

    def _state(self, run: documents.Run) -> list[Said]:
        self.run = run
        if run.state == "parked":
            why = f" ({run.reason})" if run.reason else ""
            return self._note(f"it waits for a person{why}: relit show {short(run.id)}")
        if run.state in ("waiting", "scheduled") and run.reason:
            return self._note(f"{run.state}: {brief(run.reason, 200)}")
        return []

    def _end(self, run: documents.Run) -> list[Said]:
        self.run = run
        if run.state == "completed":
            return self._rest(run.output)
        said = f"{run.error.what or run.error.message}" if run.error else run.reason or ""
        text = f"{run.state}: {brief(said, 400)}" if said else run.state
        return [Said("error", f"{text}. relit show {short(run.id)}" if run.state != "cancelled" else text)]

    def _rest(self, output: Any) -> list[Said]:
        """The result, as far as it was not printed while it came."""
        if output is None or output is msgspec.UNSET:
            return []
        text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
        if text.strip() == self._printed.strip():
            return []
        if self._printed and text.startswith(self._printed):
            return [Said("text", safe(text[len(self._printed) :]))]
        return [Said("line", safe(text))]


def _redelivered(number: object) -> str:
    """The first delivery again: whoever brought it in was lost, or its model failed."""
    if not isinstance(number, int) or number < 2:
        return "delivered again"
    return "delivered again after a crash" + (f" (delivery {number})" if number > 2 else "")


def safe(text: str) -> str:
    """Text of several lines without what moves the cursor or changes colours."""
    return "\n".join(clean(line) for line in text.expandtabs().replace("\r\n", "\n").split("\n"))
