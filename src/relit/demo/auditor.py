"""The demo's agent: audits the licence of one installed distribution for each message in its mailbox.

It is written as any user of relit would write it. Each reading, each model call and each note is a step; telling
somebody about a finding is an effect, and its idempotency key makes a repetition harmless at the receiving end. Its
notes lie in its home, of which relit keeps versions.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import msgspec

import relit
from relit.demo import distributions, prompt, witness
from relit.demo.licences import Finding, Verdict
from relit.demo.notebook import Notebook
from relit.errors import ConfigError


class Assignment(msgspec.Struct, frozen=True):
    """A message to the auditor."""

    distribution: str


def setting(name: str, default: str | None = None) -> str:
    """What the agent's environment says; relit.toml sets it under ``[agents.auditor] env``."""
    value = os.environ.get(name, default)  # noqa: TID251 - an agent is a program of its own
    if value is None:
        raise ConfigError(f"the auditor needs {name}", fix=f"set {name} in [agents.auditor] env, or run: relit demo")
    return value


def begin(step: str, subject: str) -> None:
    """Leave a witness that this step's body began."""
    witness.mark(Path(setting("AUDITOR_FOLDER")) / "witness.jsonl", step, subject)


def read_metadata(name: str) -> prompt.Facts:
    """Read the distribution's metadata."""
    begin("read_metadata", name)
    return distributions.facts(name)


def read_licence(name: str, file: str) -> str:
    """Read one licence file."""
    begin("read_licence", f"{name} {file}")
    return distributions.text(name, file)


async def notify(name: str, finding: Finding, idempotency_key: str) -> int:
    """Tell the webhook about a finding."""
    begin("notify", f"{name} {finding.code}")
    body = {"distribution": name, "code": finding.code, "text": finding.text}
    async with httpx.AsyncClient(timeout=20) as http:
        answer = await http.post(
            setting("AUDITOR_SINK"), json=body, headers={"Idempotency-Key": idempotency_key}
        )  # fmt: skip
    return answer.raise_for_status().status_code


async def ask_model(ctx: relit.Context, name: str, messages: list[dict[str, str]]) -> str:
    """Ask the model for a verdict; its words are emitted as they come."""
    begin("ask_model", name)
    body = {"model": setting("OPENAI_MODEL", "gpt-4o-mini"), "stream": True, "messages": messages}
    headers = {"Authorization": f"Bearer {setting('OPENAI_API_KEY', 'none')}"}
    url = f"{setting('OPENAI_BASE_URL').rstrip('/')}/chat/completions"
    words: list[str] = []
    async with (
        httpx.AsyncClient(timeout=60) as http,
        http.stream("POST", url, json=body, headers=headers) as answer,
    ):
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if word := _word(line):
                words.append(word)
                ctx.emit(word)
    return "".join(words)


def _word(line: str) -> str | None:
    """The piece of text in one line of a streamed answer."""
    if not line.startswith("data: {"):
        return None
    choices: list[dict[str, Any]] = json.loads(line[6:]).get("choices") or []
    return choices[0]["delta"].get("content") if choices else None


@relit.agent
async def auditor(ctx: relit.Context, message: Assignment) -> Verdict:
    """Audit one distribution."""
    name = message.distribution
    facts = await ctx.step(read_metadata, name)
    texts = await ctx.gather(*(ctx.step(read_licence, name, file) for file in facts.files))

    async def ask() -> str:
        return await ask_model(ctx, name, prompt.messages(facts, list(texts)))

    answer = await ctx.step(ask, name="ask_model", retry=relit.Retry(attempts=5), timeout="2m")
    verdict = prompt.read(name, answer)
    notebook = Notebook(ctx.home)

    def write_note(verdict: Verdict) -> str:
        begin("write_note", name)
        return notebook.write(verdict)

    def enter_verdict(verdict: Verdict) -> None:
        begin("enter_verdict", name)
        notebook.enter(verdict)

    await ctx.step(write_note, verdict)
    await ctx.step(enter_verdict, verdict)
    for finding in verdict.findings:
        await ctx.effect(notify, name, finding, doubt="key", timeout="30s")
    return verdict
