"""Following one run: until it has settled, or step by step as it goes.

A stream's cursor is ``RUN:SEQ:IDX``: the run (a continued run goes on as the next one), the last journal step and
the last emitted item that the reader has. The run is read before its steps and items: when it is final then, nothing
can come after what is read next.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, closing

import msgspec

from relit import documents
from relit.api import sse
from relit.api.operation import Api
from relit.api.render import Shown
from relit.errors import Invalid
from relit.store import values

_PAGE = 500


class Cursor(msgspec.Struct, frozen=True):
    """How far a reader is."""

    run: str
    seq: int = 0
    idx: int = -1

    def __str__(self) -> str:
        return f"{self.run}:{self.seq}:{self.idx}"


def cursor(text: str, run: str) -> Cursor:
    """The cursor that a reader sends back; the start of ``run`` when it has none. Raises ``Invalid``."""
    if not text:
        return Cursor(run)
    name, _, rest = text.partition(":")
    seq, _, idx = rest.partition(":")
    try:
        return Cursor(name or run, int(seq), int(idx))
    except ValueError as error:
        raise Invalid(f"{text!r} is no place in a stream", fix="send the last id that was received, or none") from error


async def settled(api: Api, run: str, timeout: float) -> values.Run:
    """The run when it is final (the last one, if it was continued), or as it is after ``timeout`` seconds."""
    clock = api.parts.clock
    until = clock.monotonic() + timeout
    while True:
        with closing(api.store.subscribe(f"end:{run}")) as subscription:
            found = await api.store.run(run)
            while not found.final and await api.parts.closing.wait(subscription, max(0.0, until - clock.monotonic())):
                found = await api.store.run(run)
        if found.continued_to is None:
            return found
        run = found.continued_to


async def frames(api: Api, at: Cursor, shown: Shown) -> AsyncGenerator[bytes, None]:
    """Steps, items and changes of state from ``at`` on, until the run is final or the server ends."""
    while True:
        follower = Follower(api, at, shown)
        async with aclosing(follower.frames()) as parts:
            async for frame in parts:
                yield frame
        if follower.next is None:
            return
        at = Cursor(follower.next)


class Follower:
    """Follows one run. ``next`` is set when it was continued as another one."""

    def __init__(self, api: Api, at: Cursor, shown: Shown) -> None:
        self._api = api
        self._at = at
        self._shown = shown
        self._state: tuple[str, str | None] | None = None
        self.next: str | None = None

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Frames, with a comment when it is quiet."""
        api = self._api
        with closing(api.store.subscribe(f"run:{self._at.run}", f"steps:{self._at.run}")) as subscription:
            while True:
                run = await api.store.run(self._at.run)
                async for frame in self._news(run):
                    yield frame
                if run.final:
                    yield await self._end(run)
                    return
                if not await api.parts.closing.wait(subscription, api.parts.options.keep_alive):
                    if api.parts.closing.closed:
                        return
                    yield sse.COMMENT

    async def _news(self, run: values.Run) -> AsyncGenerator[bytes, None]:
        async for frame in self._arrived():
            yield frame
        if (run.state, run.reason) != self._state and not run.final:
            self._state = (run.state, run.reason)
            yield sse.frame("state", str(self._at), await self._api.render.run(run, "none"))

    async def _arrived(self) -> AsyncGenerator[bytes, None]:
        """New steps and items in the order of their times, page by page."""
        while True:
            steps = await self._api.store.steps(self._at.run, self._at.seq, _PAGE)
            items = await self._api.store.stream(self._at.run, self._at.idx, _PAGE)
            for entry in merge(steps, items):
                yield await self._frame(entry)
            if len(steps) < _PAGE and len(items) < _PAGE:
                return

    async def _frame(self, entry: Entry) -> bytes:
        render = self._api.render
        if isinstance(entry, values.Step):
            self._at = Cursor(self._at.run, entry.seq, self._at.idx)
            return sse.frame("step", str(self._at), await render.step(entry, self._shown))
        self._at = Cursor(self._at.run, self._at.seq, entry.idx)
        return sse.frame("item", str(self._at), await render.item(entry))

    async def _end(self, run: values.Run) -> bytes:
        self.next = run.continued_to
        event = "end" if self.next is None else "continued"
        document: documents.Run = await self._api.render.run(run, self._shown)
        return sse.frame(event, str(self._at if self.next is None else Cursor(self.next)), document)


Entry = values.Step | values.StreamItem


def _time(entry: Entry) -> int:
    return entry.finished_at if isinstance(entry, values.Step) else entry.at


def merge(steps: list[values.Step], items: list[values.StreamItem], page: int = _PAGE) -> list[Entry]:
    """Both by time, an item before the step of the same moment; each kind in its own order whatever its clock says.

    What lies beyond the end of a full page of the other kind is left for the next time.
    """
    limit = min((_time(page_of[-1]) for page_of in (steps, items) if len(page_of) >= page), default=None)
    merged: list[Entry] = []
    rest: list[values.StreamItem] = items[::-1]
    for step in steps:
        while rest and rest[-1].at <= step.finished_at:
            merged.append(rest.pop())
        merged.append(step)
    merged += rest[::-1]
    return merged if limit is None else _until(merged, limit)


def _until(entries: list[Entry], limit: int) -> list[Entry]:
    """The longest beginning that is not past ``limit``, but never nothing."""
    late = next((index for index, entry in enumerate(entries) if _time(entry) > limit), len(entries))
    return entries[: max(late, 1)]
