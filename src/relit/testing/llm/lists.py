"""What is asked besides model calls: the list of models, embeddings, and how many tokens a message has."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from relit.testing.llm import anthropic, messages, openai
from relit.testing.llm.ask import Ask, Refused
from relit.testing.llm.openai import CREATED
from relit.testing.llm.script import Answer

_CONTEXT = 200_000  # tokens
_DIMENSIONS = 1536


class Models:
    """The models there are, or the one that is asked for by name."""

    protocol: Literal["models"] = "models"

    def __init__(self, names: Sequence[str], one: str | None, *, of_anthropic: bool) -> None:
        self._names = names
        self._one = one
        self._of_anthropic = of_anthropic
        self.error = anthropic.error if of_anthropic else openai.error

    def read(self, body: dict[str, Any]) -> Ask:
        """Raises ``Refused`` when the one asked for is not there."""
        if self._one is not None and self._one not in self._names:
            raise Refused(404, f"The model '{self._one}' does not exist", "model_not_found")
        return Ask(self.protocol, {} if self._one is None else {"model": self._one})

    def whole(self, no: int, ask: Ask, answer: Answer) -> dict[str, Any]:
        """The list, or the one."""
        described = [self._described(name) for name in self._names if self._one in (None, name)]
        if self._one is not None:
            return described[0]
        if self._of_anthropic:
            ends = {"first_id": self._names[0], "last_id": self._names[-1]} if self._names else {}
            return {"data": described, "has_more": False, "first_id": None, "last_id": None, **ends}
        return {"object": "list", "data": described}

    def _described(self, name: str) -> dict[str, Any]:
        if self._of_anthropic:
            head = {"type": "model", "id": name, "display_name": name, "created_at": "2025-06-15T15:06:40Z"}
            return {**head, "lifecycle": "active", "max_input_tokens": _CONTEXT, "max_tokens": 32_000}
        own = {"id": name, "object": "model", "created": CREATED, "owned_by": "relit"}
        return {**own, "context_length": _CONTEXT, "max_model_len": _CONTEXT}  # as OpenRouter and vLLM tell


class Embeddings:
    """The same text has the same vector, of length 1, whenever and wherever it is asked for."""

    protocol: Literal["embeddings"] = "embeddings"
    error = staticmethod(openai.error)

    def read(self, body: dict[str, Any]) -> Ask:
        """Raises ``Refused``."""
        if not isinstance(body.get("input"), str | list):
            raise Refused(400, "Missing required parameter: 'input'.", "missing_required_parameter")
        return Ask(self.protocol, body)

    def whole(self, no: int, ask: Ask, answer: Answer) -> dict[str, Any]:
        """A vector for each input."""
        size = int(ask.body.get("dimensions") or _DIMENSIONS)
        packed = ask.body.get("encoding_format") == "base64"
        data = []
        for index, text in enumerate(_inputs(ask.body["input"])):
            values = vector(text, size)
            data.append({"object": "embedding", "index": index, "embedding": _packed(values) if packed else values})
        usage = {"prompt_tokens": ask.tokens, "total_tokens": ask.tokens}
        return {"object": "list", "data": data, "model": ask.model, "usage": usage}


class Tokens:
    """How many tokens a message to Anthropic has."""

    protocol: Literal["tokens"] = "tokens"
    error = staticmethod(anthropic.error)

    def read(self, body: dict[str, Any]) -> Ask:
        """Raises ``Refused``."""
        return messages.conversation(self.protocol, body)

    def whole(self, no: int, ask: Ask, answer: Answer) -> dict[str, Any]:
        """The count."""
        return {"input_tokens": ask.tokens}


class Nothing:
    """A path that no provider has."""

    protocol: Literal["other"] = "other"

    def __init__(self, what: str, *, of_anthropic: bool) -> None:
        self._what = what
        self.error = anthropic.error if of_anthropic else openai.error

    def read(self, body: dict[str, Any]) -> Ask:
        """Raises ``Refused``, always."""
        raise Refused(404, f"there is no {self._what} here")

    def whole(self, no: int, ask: Ask, answer: Answer) -> dict[str, Any]:
        """Never asked."""
        return {}


def vector(text: str, size: int) -> list[float]:
    """The vector of ``text``: as good as random, and always the same."""
    raw = [byte - 127.5 for byte in hashlib.shake_256(text.encode()).digest(size)]
    length = math.sqrt(math.fsum(value * value for value in raw))
    return [value / length for value in raw]


def _inputs(given: Any) -> list[str]:
    """Each input as text: tokens stand for themselves."""
    if isinstance(given, str) or (given and all(isinstance(each, int) for each in given)):
        given = [given]
    return [each if isinstance(each, str) else msgspec.json.encode(each).decode() for each in given]


def _packed(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
