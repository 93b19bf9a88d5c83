"""Values on the command line: JSON, or text."""

from __future__ import annotations

import json
import sys
from typing import Any

import click


def json_value(text: str, name: str) -> Any:
    """``text`` as JSON; ``-`` reads standard input."""
    try:
        return json.loads(_given(text))
    except json.JSONDecodeError as error:
        raise click.UsageError(f"{name} is not JSON: {error}") from error


def json_or_text(text: str) -> Any:
    """``text`` as JSON if it is JSON, else as a string; ``-`` reads standard input."""
    given = _given(text)
    try:
        return json.loads(given)
    except json.JSONDecodeError:
        return given


def _given(text: str) -> str:
    return sys.stdin.read() if text == "-" else text
