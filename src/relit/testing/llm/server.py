"""The server itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.testing.llm.desk import Desk
from relit.testing.llm.exchange import End, Exchange
from relit.testing.llm.hold import Hold
from relit.testing.llm.line import Line, never
from relit.testing.llm.loopback import Loopback
from relit.testing.llm.record import Record
from relit.testing.llm.reply import Reply, Wire, compose
from relit.testing.llm.script import ANY_CALL, Answer, Matching, Rule, Script


class ScriptedLLM:
    """A model server that answers by ``rules``, the first that is true of a request; see ``relit.testing.llm``.

    ``url`` is what Anthropic's clients take for their base URL; OpenAI's take ``url`` + ``/v1``. ``models`` are those
    it lists, but it answers for any. ``key``: requests with another one are refused with 401. ``strict``: so are, with
    400, conversations in which a tool call has no result, as at real providers. ``record``: a file for all requests.
    An error that a rule's Python raised comes out at the end of ``async with``.
    """

    def __init__(
        self,
        rules: Iterable[Rule] = (),
        *,
        port: int = 0,
        models: Sequence[str] = ("scripted",),
        key: str | None = None,
        strict: bool = False,
        record: Path | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._script = Script(rules)
        self._desk = Desk(self._script, models, key, strict)
        self._record = Record(clock, record)
        self._loopback = Loopback(self._take, port)
        self._holds: list[Hold] = []
        self._stopping = False
        self._failures: list[Exception] = []

    @property
    def url(self) -> str:
        """Where it is, from ``start`` on."""
        return self._loopback.url

    @property
    def rules(self) -> list[Rule]:
        """The rules, to be changed at will."""
        return self._script.rules

    @property
    def requests(self) -> list[Exchange]:
        """All requests so far, those that are no model calls among them."""
        return self._record.exchanges

    async def request(
        self, matching: Matching = ANY_CALL, *, after: Exchange | None = None, timeout: float = 10.0
    ) -> Exchange:
        """The first model call that matches, as soon as it has arrived; with ``after``, of those since that one.

        Raises ``TimeoutError``, which names the requests that came instead.
        """
        return await self._record.first(matching, after, timeout)

    def hold(self, matching: Matching = ANY_CALL, *, after: int = 0) -> Hold:
        """Keep the answers to matching model calls open when ``after`` pieces are sent, until ``release``."""
        hold = Hold(matching, after)
        self._holds.append(hold)
        return hold

    async def start(self) -> None:
        """Listen; after ``stop`` at the same ``url`` again. Raises ``OSError`` when the port cannot be had."""
        self._stopping = False
        self._record.open()
        await self._loopback.start()

    async def stop(self) -> None:
        """Cut what is open and listen no more. Safe twice."""
        self._stopping = True
        await self._loopback.stop()
        self._record.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if error is None and self._failures:
            raise self._failures[0]

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        request = Request(scope, receive)
        try:
            raw = await request.body()
        except ClientDisconnect:
            return  # before it had asked anything
        wire = self._desk.wire(request.method, request.url.path, request.headers)
        ask, refusal = self._desk.read(wire, request.headers, raw)
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        exchange = self._record.begin(ask, request.method, path, dict(request.headers))
        end: End = "stopped"
        try:
            end = await self._answer(exchange, wire, refusal, Line(scope, receive, send))
        except Exception as error:
            end = "failed"
            self._failures.append(error)
            raise
        finally:
            self._record.finish(exchange, end)

    async def _answer(self, exchange: Exchange, wire: Wire, refusal: Answer | None, line: Line) -> End:
        answer = refusal or self._desk.answer(exchange.no, exchange.ask)
        reply = compose(wire, exchange.no, exchange.ask, answer)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(exchange, answer, reply, line))
            leaving = group.create_task(line.gone())
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            whole = sending.done()
            sending.cancel()
            leaving.cancel()
        if whole:
            return "finished"
        if line.cut:
            return "cut"
        return "stopped" if self._stopping else "left"

    async def _send(self, exchange: Exchange, answer: Answer, reply: Reply, line: Line) -> None:
        await asyncio.sleep(answer.delay_s)
        await self._reach(exchange, answer, reply, line)
        await line.begin(reply)
        exchange.status = reply.status
        for piece in reply.pieces:
            if exchange.sent:
                await asyncio.sleep(answer.pace_s)
            await line.put(piece)
            exchange.sent += 1
            await self._reach(exchange, answer, reply, line)
        await line.end()

    async def _reach(self, exchange: Exchange, answer: Answer, reply: Reply, line: Line) -> None:
        """What is to happen when so much is sent."""
        for hold in [*self._holds]:
            await hold.reach(exchange, exchange.sent)
        if exchange.sent != min(answer.after, len(reply.pieces) - 1):
            return
        if answer.fault == "cut":
            line.close()
        if answer.fault in ("cut", "hang"):
            await never()
