"""What a message to an agent that relit did not write says: a text, and in which of its conversations."""

from __future__ import annotations

from typing import Any

from relit.errors import TurnFailed

MAIN = "main"


def read(message: Any) -> tuple[str, str]:
    """(text, session) of a message: text, or a table with ``text`` and perhaps ``session``."""
    if isinstance(message, str):
        return message, MAIN
    if isinstance(message, dict) and isinstance(message.get("text"), str):
        session = message.get("session", MAIN)
        if isinstance(session, str) and session.replace("-", "").replace("_", "").isalnum():
            return message["text"], session
    raise TurnFailed(
        "that is no message for this agent",
        why="it wants text, or a table with `text` and perhaps `session` (letters, digits, - and _)",
        fix='relit send AGENT "text"',
    )
