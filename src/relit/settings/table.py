"""What tables of relit.toml are made of."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from relit.lib.names import AGENT

Duration = Annotated[
    str, Meta(pattern=r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d|w)\s*)+$", extra_json_schema={"format": "relit-duration"})
]
Size = Annotated[
    str, Meta(pattern=r"^\s*\d+(\.\d+)?\s*[KMGTkmgt]?(i?[bB])?\s*$", extra_json_schema={"format": "relit-size"})
]
Money = Annotated[
    str,
    Meta(pattern=r"^[0-9]+(\.[0-9]+)? ?USD$", extra_json_schema={"examples": ["5 USD", "0.50 USD"]}),
]
Dollars = Annotated[float, Meta(ge=0)]
Secret = Annotated[str, Meta(min_length=1, extra_json_schema={"writeOnly": True})]
Name = Annotated[str, Meta(pattern=AGENT)]
Positive = Annotated[int, Meta(ge=1)]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table of relit.toml."""
