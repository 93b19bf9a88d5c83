"""The JSON Schema of relit.toml, for editors. ``python -m relit.settings.schema`` writes schema.json anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from relit.settings.model import File

SHIPPED = Path(__file__).with_name("schema.json")


def schema() -> dict[str, Any]:
    """The schema as the Structs say it."""
    (root,), components = msgspec.json.schema_components([File], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "relit.toml",
        **root,
        "$defs": components,
    }


def text() -> str:
    """The schema as it is shipped."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SHIPPED.write_text(text())
