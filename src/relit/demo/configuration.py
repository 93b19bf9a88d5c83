"""What the demos' relit.toml say of their agents. Pure. JSON strings are TOML strings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

AUDITOR, WATCHMAN, MESSENGER, GLUTTON = "auditor", "watchman", "messenger", "glutton"
SNAPSHOTS_S = 1
WATCHMANS_CONFIG = "config/watchman.json"


def auditor(environment: Mapping[str, str], workers: int) -> str:
    """An agent written with the SDK, in ``workers`` processes that audit one distribution at a time each."""
    lines = [
        "[worker]",
        "concurrency = 1  # one audit in a process: a kill interrupts at most one model call",
        f"[agents.{AUDITOR}]",
        'entry = "relit.demo.auditor"',
        f"workers = {workers}",
        f"mailbox = {{ concurrency = {workers} }}",
        f"[agents.{AUDITOR}.env]",
        *_values(environment),
        f"[agents.{AUDITOR}.snapshots]",
        f'every = "{SNAPSHOTS_S}s"',
    ]
    return _text(lines)


def watchman(environment: Mapping[str, str]) -> str:
    """An agent of a kind of its own. Not in a sandbox: its Python may lie in a home, and those are hidden there."""
    lines = [
        f"[agents.{WATCHMAN}]",
        f'kind = "{WATCHMAN}"',
        'sandbox = "off"',
        'heal = { good_after = "2s" }',
        f"[agents.{WATCHMAN}.env]",
        *_values(environment),
    ]
    return _text(lines)


def watchmans_kind(command: Sequence[str]) -> str:
    """The file ``kinds/watchman.toml``: all that relit must know of an agent that it did not write."""
    lines = [
        'title = "Watchman"',
        f"command = {json.dumps([*command, '{home}'])}",
        'folders = ["config", "state"]',
        'ports = ["http"]',
        'grace = "2s"',
        "[[config]]",
        f'path = "{WATCHMANS_CONFIG}"',
        'format = "json"',
        "[config.keep]",
        'port = "{port:http}"',
        "every_s = 0.5",
        "[probes.ready]",
        'http = "http://127.0.0.1:{port:http}/healthz"',
    ]
    return _text(lines)


def messenger(environment: Mapping[str, str], *, gateway: str, model: str, sink: str) -> str:
    """An agent that sends messages by a tool of relit's, and goes back to before a turn that it did not survive."""
    lines = [
        "[gateway]",
        f"listen = {json.dumps(gateway)}",
        f"[models.{MESSENGER}]",
        f"url = {json.dumps(model)}",
        "[tools.notify]",
        'description = "Send its owner a message."',
        f"url = {json.dumps(sink)}",
        'arguments = { text = { type = "string" } }',
        'effect = "native-key"',
        'idempotency = "header:Idempotency-Key"',
        "private = true",
        f"[agents.{MESSENGER}]",
        f'kind = "{MESSENGER}"',
        f'model = "{MESSENGER}"',
        'sandbox = "off"',
        'resume = "replay"',
        'idle = { then = "stop" }',
        'grants = ["tool:notify"]',
        f"[agents.{MESSENGER}.env]",
        *_values(environment),
    ]
    return _text(lines)


def messengers_kind(command: Sequence[str]) -> str:
    """The file ``kinds/messenger.toml``."""
    words = [*command, "{port:http}", "{model:url}", "{tools:url}", "{model:key}"]
    lines = [
        'title = "Messenger"',
        f"command = {json.dumps(words)}",
        'ports = ["http"]',
        'tokens = ["model"]',
        'grace = "2s"',
        "[probes.ready]",
        'http = "http://127.0.0.1:{port:http}/healthz"',
        "[inject]",
        'url = "http://127.0.0.1:{port:http}/v1/chat/completions"',
    ]
    return _text(lines)


def glutton(environment: Mapping[str, str], command: Sequence[str]) -> str:
    """A program that takes as much memory as it is told to, and how much there is for all."""
    lines = [
        "[node]",
        'memory = "1G"',
        f"[agents.{GLUTTON}]",
        'kind = "command"',
        f"command = {json.dumps([*command])}",
        'sandbox = "off"',
        "priority = 90",
        f"[agents.{GLUTTON}.env]",
        *_values(environment),
    ]
    return _text(lines)


def strangers(
    kinds: Mapping[str, str], environment: Mapping[str, str], *, gateway: str, runtimes: str, model: str
) -> str:
    """Agents that relit did not write, by name and kind, kept as by somebody who is in a hurry."""
    lines = [
        "[gateway]",
        f"listen = {json.dumps(gateway)}",
        "[node]",
        f"runtimes = {json.dumps(runtimes)}",
        "[models.default]",
        f"url = {json.dumps(model)}",
        'key = "scripted"',
        'model = "scripted"',
    ]
    for name, kind in kinds.items():
        lines += [f"[agents.{name}]", f'kind = "{kind}"', 'heal = { good_after = "2s", retry = "5s" }']
        lines += [f"[agents.{name}.env]", *_values(environment)]
    return _text(lines)


def _values(environment: Mapping[str, str]) -> list[str]:
    return [f"{name} = {json.dumps(value)}" for name, value in environment.items()]


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
