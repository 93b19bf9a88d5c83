"""What calls cost. Prices are data (``prices.toml``), and relit.toml may say others. Pure, but for reading the data."""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from relit.gateway.usage import Tokens

_MILLION = 1_000_000
_USD = 1_000_000_000  # amounts are integers of this part of a dollar
_BYTES_PER_TOKEN = 3  # rather too few: text in English has about four (https://platform.openai.com/tokenizer)
OUTPUT_MOST = 8_192  # tokens that are reserved for an answer where the call sets no limit
CONTEXT = 200_000  # tokens; what the provider keeps of a conversation may fill the window of most models
PICTURE = 3_000  # tokens; Anthropic's guide to vision says about 1,600 for one of the largest, OpenAI's about 1,450
_PICTURE = re.compile(rb'"type"\s*:\s*"(?:image_url|input_image|image)"')
_DOCUMENT = re.compile(rb'"type"\s*:\s*"(?:input_file|file|document)"')
_PAGES = re.compile(rb'"file_data"\s*:\s*"|"media_type"\s*:\s*"application/')  # packed: its length tells nothing
_ELSEWHERE = re.compile(rb'"file_url"|"file_id"|"source"\s*:\s*\{\s*"type"\s*:\s*"(?:url|file)"')
_INLINE = re.compile(
    rb'data:image/[a-z+.-]+;base64,[\w+/=]+|"media_type"\s*:\s*"image/[a-z+.-]+"\s*,\s*"data"\s*:\s*"[\w+/=]+'
)
_DATE = re.compile(r"[-@](\d{8}|\d{4}-\d{2}-\d{2}|latest)")
_LIMITS = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
    "embeddings": (),
}
_MOST = 1 << 62


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars for a million tokens. ``cached``: read from the provider's cache (else as ``input``); ``written``:
    into it."""

    input: float = 0.0
    output: float = 0.0
    cached: float | None = None
    written: float | None = None


FREE = Price()


@functools.cache
def known() -> dict[str, Price]:
    """What the data file says, by model."""
    tree = tomllib.loads(Path(__file__).with_name("prices.toml").read_text())
    return msgspec.convert(tree, dict[str, Price])


def price_of(model: str, own: Mapping[str, Price]) -> Price | None:
    """By its name, or by the longest known beginning of it: providers append dates and put their own names before a
    slash. ``None``: nobody knows."""
    for table in (own, known()):
        for name in (model, model.rpartition("/")[2]):
            found = max((each for each in table if _begins(name, each)), key=len, default=None)
            if found is not None:
                return table[found]
    return None


def _begins(model: str, name: str) -> bool:
    return model == name or (model.startswith(name) and _DATE.fullmatch(model.removeprefix(name)) is not None)


def cost(tokens: Tokens, price: Price) -> int:
    """In billionths of a dollar, rounded up."""
    fresh = max(0, tokens.input - tokens.cached - tokens.written)
    cached = price.input if price.cached is None else price.cached
    written = price.input if price.written is None else price.written
    dollars = fresh * price.input + tokens.cached * cached + tokens.written * written + tokens.output * price.output
    return -int(-dollars * (_USD / _MILLION) // 1)


def reserve(protocol: str, sent: int, body: Mapping[str, Any], price: Price) -> int:
    """What a call of ``sent`` bytes may cost, as far as that can be told before it is made."""
    if body.get("previous_response_id") or body.get("conversation"):  # more is read than was sent
        sent += CONTEXT * _BYTES_PER_TOKEN
    dearest = msgspec.structs.replace(price, input=max(price.input, price.written or 0.0))
    output = 0 if protocol == "embeddings" else _answers(body) * _most(protocol, body)
    return min(_MOST, cost(Tokens(input=sent // _BYTES_PER_TOKEN + 1, output=output), dearest))


def further(body: Mapping[str, Any], price: Price) -> int:
    """What ``OUTPUT_MOST`` more tokens of each of its answers cost."""
    return min(_MOST, cost(Tokens(output=_answers(body) * OUTPUT_MOST), price))


def limited(protocol: str, body: Mapping[str, Any]) -> bool:
    """Whether it says how much it may answer."""
    return protocol == "embeddings" or _limit(protocol, body) > 0


def weight(body: bytes) -> int:
    """Bytes of a call, with a picture at what a picture costs: one that is inside is long, one that is named by its
    address is short."""
    if not (pictures := len(_PICTURE.findall(body))):
        return len(body)
    inside = sum(len(each) for each in _INLINE.findall(body))
    return len(body) - inside + pictures * PICTURE * _BYTES_PER_TOKEN


def beside(body: bytes) -> int:
    """Bytes that are read beside it: a document may fill the model's window, whether it is named by its address or lies
    in it, packed. Each page is billed as text and as a picture, and a page without much on it takes a few bytes."""
    found = _DOCUMENT.search(body) is not None and (_ELSEWHERE.search(body) or _PAGES.search(body)) is not None
    return CONTEXT * _BYTES_PER_TOKEN if found else 0


def room(body: Mapping[str, Any]) -> int:
    """Tokens of answers for which ``further`` is."""
    return min(_MOST, _answers(body) * OUTPUT_MOST)


def estimate(sent: int, received: int) -> Tokens:
    """Of a call whose provider did not say."""
    return Tokens(input=sent // (_BYTES_PER_TOKEN + 1), output=received // (_BYTES_PER_TOKEN + 1))


def _most(protocol: str, body: Mapping[str, Any]) -> int:
    return min(_limit(protocol, body) or OUTPUT_MOST, _MOST)


def _limit(protocol: str, body: Mapping[str, Any]) -> int:
    """0: it says none."""
    return max((_number(body.get(name)) for name in _LIMITS.get(protocol, ())), default=0)


def _answers(body: Mapping[str, Any]) -> int:
    return min(_number(body.get("n")) or 1, _MOST)


def _number(value: Any) -> int:
    """As a lenient provider reads it; 0: it is none."""
    try:
        known = isinstance(value, int | float | str) and not isinstance(value, bool)
        return max(0, math.ceil(float(value))) if known else 0
    except (ValueError, OverflowError):
        return 0
