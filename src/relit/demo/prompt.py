"""What the auditor asks a model, and how the answer is read. Pure; the scripted model answers by the same page."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from relit.demo import licences
from relit.demo.licences import Finding, Kind, Verdict

TEXT_LIMIT = 4000  # characters of each licence text that are shown: its own words stand at the beginning

TASK = """You audit the licences of software distributions before a product ships with them.
You get a distribution's metadata and the licence texts it ships, as JSON.
Answer with one JSON object and nothing else: {"reasoning": one sentence, "licence": SPDX identifier or "unknown",
"kind": "permissive", "copyleft" or "unknown", "findings": [{"code": one word, "text": one sentence}, …]}.
A finding is something that a person should look at: no declared SPDX expression, no licence text, a text that is none
of the well-known ones, conditions on redistribution. A clean distribution has none."""


class Facts(msgspec.Struct, frozen=True):
    """What a distribution's metadata says about its licence."""

    distribution: str
    version: str
    declared: str | None
    files: list[str]


class Answer(msgspec.Struct, frozen=True):
    """A model's answer, once it is read."""

    licence: str
    kind: Kind
    findings: list[Finding] = []
    reasoning: str = ""


def messages(facts: Facts, texts: list[str]) -> list[dict[str, str]]:
    """The conversation that asks for a verdict."""
    page = {
        "distribution": facts.distribution,
        "version": facts.version,
        "declared": facts.declared,
        "texts": [text[:TEXT_LIMIT] for text in texts],
    }
    return [{"role": "system", "content": TASK}, {"role": "user", "content": json.dumps(page)}]


def read(distribution: str, text: str) -> Verdict:
    """The verdict in a model's answer; an answer that is not what was asked for is itself a finding."""
    start, end = text.find("{"), text.rfind("}")
    try:
        answer = msgspec.json.decode(text[start : end + 1], type=Answer)
    except msgspec.DecodeError:
        unread = Finding("unreadable", f"The model's answer could not be read: {text[:80]!r}")
        return Verdict(distribution, "unknown", "unknown", [unread])
    return Verdict(distribution, answer.licence, answer.kind, answer.findings)


def answer(body: dict[str, Any]) -> str:
    """The scripted model's answer to a request: by the rules in ``licences``, in a model's form."""
    page = json.loads(body["messages"][-1]["content"])
    verdict = licences.judge(page["distribution"], page["declared"], page["texts"])
    said = page["declared"] or "nothing"
    reasoning = (
        f"The metadata of {page['distribution']} {page['version']} declares {said}, "
        f"it ships {len(page['texts'])} licence text(s), and by its own words the licence is {verdict.licence}."
    )
    return msgspec.json.encode(Answer(verdict.licence, verdict.kind, verdict.findings, reasoning)).decode()
