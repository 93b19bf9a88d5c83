"""An answer without the secrets that its agent was given, while it streams. Pure."""

from __future__ import annotations

from relit.node.redact import Redactor


class Hiding:
    """Of one answer. What may become a secret is kept back until it is known whether it does."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""

    def piece(self, text: str) -> str:
        """The answer goes on with ``text``: what may be shown now."""
        come = self._held + _bytes(text)
        end = self._redactor.unfinished(come)
        self._held = come[end:]
        return self._shown(come[:end])

    def end(self) -> str:
        """The answer is whole: the rest of it."""
        rest, self._held = self._held, b""
        return self._shown(rest)

    def whole(self, text: str) -> str:
        """All of another text."""
        return self._shown(_bytes(text))

    def _shown(self, come: bytes) -> str:
        return self._redactor.redact(come)[0].decode("utf-8", "surrogatepass")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
