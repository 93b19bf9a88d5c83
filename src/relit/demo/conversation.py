"""What the demo asks real agents, and what their scripted model has them answer.

Each question carries a tag of its own (``claw-2``), so that the model knows which one it is asked, whatever else an
agent puts into its prompt.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_TAG = re.compile(r"\[([a-z]+-(\d))\]")
NOTHING = "I was asked nothing."


class Exchange(NamedTuple):
    """A question, and what is answered."""

    question: str
    answer: str


EXCHANGES = (
    Exchange("Which planet has the most moons?", "It is Saturn, with well over a hundred of them."),
    Exchange("Which planet is the hottest?", "It is Venus, at some 465 degrees, hotter than Mercury by its clouds."),
    Exchange("Which planet lies on its side?", "It is Uranus, which rolls along its way around the Sun."),
    Exchange("Which planet has the longest day?", "It is Venus again, one turn of which takes 243 of our days."),
)


def tag(agent: str, number: int) -> str:
    """Names a question to an agent."""
    return f"{agent}-{number}"


def message(agent: str, number: int) -> str:
    """The text that is sent."""
    return f"[{tag(agent, number)}] {EXCHANGES[number].question}"


class Script:
    """Answers a model's requests; ``heard`` are the tags of those that came, in order."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __call__(self, body: dict[str, Any]) -> str:
        """The answer to the newest question of a prompt."""
        for each in reversed(body.get("messages", [])):
            if each.get("role") == "user" and (tags := _TAG.findall(_text(each.get("content")))):
                name, number = tags[-1]
                self.heard.append(name)
                return EXCHANGES[int(number) % len(EXCHANGES)].answer
        return NOTHING


def _text(content: Any) -> str:
    """A message's text, whole or in parts."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
