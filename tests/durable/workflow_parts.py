"""Small functions and types that the tests of workflows share."""

from __future__ import annotations

import dataclasses
import threading

import msgspec
import pydantic

import relit
from relit.durable.retry import Retry

QUICK = Retry(attempts=3, first=0.001, jitter=0)


class Point(msgspec.Struct):
    x: int
    y: int


@dataclasses.dataclass
class Note:
    text: str
    at: Point


class Verdict(pydantic.BaseModel):
    name: str
    fine: bool = True


async def plus_one(x: int) -> int:
    return x + 1


def where_am_i() -> str:
    return threading.current_thread().name


async def boom() -> None:
    raise ValueError("it is broken")


@relit.workflow
async def adds(ctx: relit.Context, n: int) -> int:
    for _ in range(3):
        n = await ctx.step(plus_one, n)
    return n
