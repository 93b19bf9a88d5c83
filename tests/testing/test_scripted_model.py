"""The scripted model speaks the protocol and counts what is bought."""

from __future__ import annotations

import json
from typing import Any

import httpx

from relit.testing.model import ScriptedModel, Served


def _ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def _model(seconds: float = 0.0) -> ScriptedModel:
    return ScriptedModel(lambda body: f"you said  {body['messages'][-1]['content']} ", seconds=seconds)


def _texts(lines: list[str]) -> list[str]:
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]


def test_a_plain_answer_is_a_chat_completion() -> None:
    with Served(_model().app) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=_ask("hello")).json()
    assert answer["choices"][0]["message"]["content"] == "you said  hello "
    assert answer["usage"]["prompt_tokens"] == 1


def test_a_streamed_answer_is_the_same_text_in_pieces() -> None:
    with Served(_model(0.01).app) as url:
        body = httpx.post(f"{url}/v1/chat/completions", json=_ask("hello", stream=True)).text
    lines = body.splitlines()
    assert "".join(_texts(lines)) == "you said  hello "
    assert len([text for text in _texts(lines) if text]) > 2
    assert [line for line in lines if line][-1] == "data: [DONE]"


def test_the_same_request_twice_is_bought_twice() -> None:
    model = _model()
    with Served(model.app) as url:
        for text in ("a", "b", "a"):
            httpx.post(f"{url}/v1/chat/completions", json=_ask(text))
    assert sorted(model.calls.values()) == [1, 2]
    assert model.bought_twice == 1


def test_a_caller_that_leaves_has_bought_all_the_same() -> None:
    model = _model(30.0)
    with Served(model.app) as url:
        try:
            httpx.post(f"{url}/v1/chat/completions", json=_ask("a", stream=True), timeout=0.2)
        except httpx.ReadTimeout:
            pass
    assert sum(model.calls.values()) == 1
    assert model.finished == 0


def test_it_lists_its_model() -> None:
    with Served(_model().app) as url:
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "scripted"
