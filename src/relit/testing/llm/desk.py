"""Where requests are read and answers decided on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from relit.testing.llm import chat, messages, pairing, responses
from relit.testing.llm.ask import MODEL_CALLS, Ask, Refused
from relit.testing.llm.lists import Embeddings, Models, Nothing, Tokens
from relit.testing.llm.reply import Wire
from relit.testing.llm.script import Answer, Script

_POSTS: dict[str, Wire] = {
    "/v1/chat/completions": chat,
    "/v1/responses": responses,
    "/v1/messages": messages,
    "/v1/messages/count_tokens": Tokens(),
    "/v1/embeddings": Embeddings(),
}
_MODELS = "/v1/models"


class Desk:
    """``key``: the only one that is let in, if any. ``strict``: a tool call without its result is refused."""

    def __init__(self, script: Script, models: Sequence[str], key: str | None, strict: bool) -> None:
        self._script = script
        self._models = models
        self._key = key
        self._strict = strict
        self._memory = responses.Memory()

    def wire(self, method: str, path: str, headers: Mapping[str, str]) -> Wire:
        """What speaks at this path."""
        of_anthropic = "anthropic-version" in headers
        if method == "POST" and path in _POSTS:
            return _POSTS[path]
        if method == "GET" and path == _MODELS:
            return Models(self._models, None, of_anthropic=of_anthropic)
        if method == "GET" and path.startswith(f"{_MODELS}/"):
            return Models(self._models, path.removeprefix(f"{_MODELS}/"), of_anthropic=of_anthropic)
        return Nothing(f"{method} {path}", of_anthropic=of_anthropic)

    def read(self, wire: Wire, headers: Mapping[str, str], raw: bytes) -> tuple[Ask, Answer | None]:
        """What is asked, and the answer if it is one that every provider refuses."""
        ask = Ask(wire.protocol)
        try:
            ask = Ask(wire.protocol, _decoded(raw))
            self._admit(headers)
            ask = self._memory.recall(wire.read(ask.body))
            if self._strict and ask.protocol in MODEL_CALLS:
                pairing.check(ask)
        except Refused as refused:
            return ask, Answer(status=refused.status, message=refused.message, code=refused.code)
        return ask, None

    def _admit(self, headers: Mapping[str, str]) -> None:
        given = (headers.get("authorization", "").removeprefix("Bearer "), headers.get("x-api-key"))
        if self._key is not None and self._key not in given:
            raise Refused(401, "invalid API key")

    def answer(self, no: int, ask: Ask) -> Answer:
        """The script's answer to request ``no``."""
        answer = self._script.answer(ask)
        if ask.protocol == "responses" and answer.status == 200:
            self._memory.keep(no, ask, answer)
        return answer


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(400, f"We could not parse the JSON body of your request: {error}") from error
