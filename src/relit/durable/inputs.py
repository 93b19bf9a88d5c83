"""A run's input: how a call's arguments are written down and read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from relit.durable.definitions import Workflow
from relit.durable.payload import Payloads
from relit.errors import Conflict


class Input(msgspec.Struct):
    """The payload of a run's input, its parts not decoded yet."""

    args: list[msgspec.Raw] = []
    kwargs: dict[str, msgspec.Raw] = {}


async def encode(payloads: Payloads, args: Sequence[Any], kwargs: dict[str, Any]) -> bytes:
    """The payload for a call with these arguments."""
    return await payloads.encode({"args": list(args), "kwargs": kwargs})


async def arguments(workflow: Workflow[Any], payloads: Payloads, data: bytes) -> tuple[list[Any], dict[str, Any]]:
    """The arguments in ``data``, as the workflow's annotations say."""
    packed: Input = await payloads.decode(data, Input)
    decode, places = payloads.packer.decode, workflow.positional
    args = [decode(raw, places[i] if i < len(places) else workflow.rest) for i, raw in enumerate(packed.args)]
    kwargs = {name: decode(raw, workflow.named.get(name, Any)) for name, raw in packed.kwargs.items()}
    return args, kwargs


def check(workflow: Workflow[Any], args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Raise ``Conflict`` when the workflow cannot be called like that."""
    try:
        workflow.signature.bind(None, *args, **kwargs)
    except TypeError as error:
        raise Conflict(
            f"{workflow.target} cannot be called with these arguments", why=str(error), fix="match its parameters"
        ) from error
