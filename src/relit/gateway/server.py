"""The gateway itself: who calls, where it goes, and the answer's way back, byte by byte."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any

import msgspec
from aiohttp import web

from relit.errors import ConfigError, ProviderFault, ProviderSilent
from relit.gateway import arriving, canned, headers
from relit.gateway.again import Next, Pass, Wait
from relit.gateway.answers import Kept
from relit.gateway.crowd import AT_ONCE, Crowd
from relit.gateway.headers import REPLAYED, SERVER
from relit.gateway.health import Health, blames
from relit.gateway.ledger import Ledger, Question
from relit.gateway.listener import Listener
from relit.gateway.naming import named, renamed
from relit.gateway.patient import Patient
from relit.gateway.providers import Answer, Call, Providers, silent
from relit.gateway.refusal import Refused
from relit.gateway.routes import Caller, Callers, Route
from relit.gateway.target import Target, aim, door
from relit.gateway.tools.desk import Desk
from relit.gateway.tools.endpoint import PATH, Endpoint
from relit.gateway.work import Work
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.lib.ids import system_random
from relit.lib.lives import Life, Lives, died
from relit.vault.refusals import Refusals

_LOG = logging.getLogger(__name__)
_GRACE = 1.5  # seconds that answers under way get when the gateway stops
_LINE = 1 << 16  # of a header, or of the request's first line
_BACKLOG = 1024
_TOLD = frozenset({400, 401, 403, 404, 413, 431})  # of what is refused, what may be an attempt


class Gateway:
    """Serves in the caller's loop. ``port`` 0 takes a free one; ``url`` is right from ``start`` on.

    An agent's disconnect cancels its call at the provider. ``/healthz`` tells each route's troubles, without a token.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        callers: Callers,
        host: str = "127.0.0.1",
        port: int = 7718,
        *,
        clock: Clock = SYSTEM_CLOCK,
        ledger: Ledger | None = None,
        chance: Random | None = None,
        lives: Lives = lambda agent: None,
        at_once: int = AT_ONCE,
        desk: Desk | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        self._crowd = Crowd(at_once)
        self._routes = routes
        self._desk = desk
        self._refusals = refusals
        self._tools = Endpoint(desk, self._saw) if desk is not None else None
        self._ledger = ledger
        self._chance = chance or system_random()
        self._lives = lives
        self._underway: dict[tuple[str, str], tuple[str, asyncio.Task[Any]]] = {}
        self._callers = callers
        self._host = host
        self._port = port
        self._clock = clock
        self._health = Health(routes, clock)
        self._providers = Providers()
        self._runner: web.ServerRunner | None = None
        self._calls: dict[asyncio.Task[Any], Callable[[], object]] = {}  # and how each is cancelled
        self._stopping = False

    @property
    def url(self) -> str:
        """Where it is reached from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    async def start(self) -> None:
        """Listen; back when calls are answered. Raises ``ConfigError`` when the address cannot be had."""
        if self._ledger is not None:
            await self._ledger.start()
        if self._desk is not None:
            await self._desk.start()
        if self._refusals is not None:
            await self._refusals.start()
        await self._providers.start()
        server = web.Server(
            self._take,
            handler_cancellation=True,
            access_log=None,
            logger=arriving.LOG,
            auto_decompress=False,
            max_line_size=_LINE,
            max_field_size=_LINE,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise _cannot(self._host, self._port, error) from error
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Take no more calls; those under way get a moment, then they are cut. Safe twice."""
        self._stopping = True
        runner, self._runner = self._runner, None
        if runner is not None:
            for site in runner.sites:
                await site.stop()
            await self._drain()
            await runner.cleanup()
            if self._desk is not None:
                await self._desk.stop()
            if self._refusals is not None:
                await self._refusals.stop()
            if self._ledger is not None:
                await self._ledger.stop()
        await self._providers.stop()

    async def _drain(self) -> None:
        if self._calls:
            await asyncio.wait({*self._calls}, timeout=_GRACE)
        while self._calls:
            for cancel in [*self._calls.values()]:
                cancel()
            await asyncio.wait({*self._calls})

    # --- a call -----------------------------------------------------------------------------------------------------

    async def _take(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None, "aiohttp runs each request in a task"
        self._calls[task] = task.cancel
        try:
            return await self._answer(request)
        except Refused as refused:
            self._refused(request, refused)
            kind = door(request.raw_path)
            return _whole(refused.status, refused.body(kind), "application/json", refused.headers())
        finally:
            del self._calls[task]

    def _refused(self, request: web.BaseRequest, refused: Refused) -> None:
        if refused.status in _TOLD:
            tokens = headers.tokens(request.headers.items())
            known = {found.agent for each in tokens if (found := self._callers.find(each))}
            self._saw(known.pop() if len(known) == 1 else "", refused.code, refused.message)

    def _saw(self, agent: str, code: str, why: str) -> None:
        if self._refusals is not None:
            self._refusals.saw(agent, code, why)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/healthz":
            return _whole(200, msgspec.json.encode(self._health.document()), "application/json")
        if self._stopping:
            raise Refused(503, "stopping", "the gateway is being restarted", retry=True)
        if self._tools is not None and request.path == PATH:
            return await self._tool(self._tools, request)
        target = aim(request.raw_path)
        if target is None:
            raise Refused(404, "not-found", "there is nothing here; calls go to /openai/v1/… or /anthropic/v1/…")
        caller, route = self._admitted(request, target)
        arriving.check(request)
        with self._crowd.place(caller.agent) as placed, self._crowd.room(caller.agent) as take:
            if not placed and not arriving.is_small(request):
                raise self._crowd.full()
            body = await arriving.body(request, target, route.patience.first_byte, take)
            return await self._called(request, target, caller, route, body, placed=placed)

    async def _tool(self, tools: Endpoint, request: web.BaseRequest) -> web.StreamResponse:
        caller = self._caller(request)
        arriving.check(request)
        with self._crowd.place(caller.agent) as placed:
            if not placed:
                raise self._crowd.full()
            await arriving.go_on(request)
            return await tools.answer(request, caller)

    async def _called(
        self,
        request: web.BaseRequest,
        target: Target,
        caller: Caller,
        route: Route,
        body: bytes | None,
        *,
        placed: bool,
    ) -> web.StreamResponse:
        """By the gateway itself, which has always room for that; or by the provider."""
        if target.call is not None and isinstance(body, bytes):
            reply = canned.reply(target.call, body, self._clock.now_ms() // 1000, clone=caller.clone)
            if reply is not None:
                return _whole(200, reply.body, reply.content_type)
        if caller.clone:
            raise Refused(403, "forbidden", "a clone that is tried reaches no provider")
        if not placed:
            raise self._crowd.full()
        call = _call(request, caller.agent, route, target, body)
        return await self._forwarded(request, caller, call)

    def _caller(self, request: web.BaseRequest) -> Caller:
        found = {self._callers.find(token) for token in headers.tokens(request.headers.items())} - {None}
        if len(found) > 1:
            raise Refused(401, "unauthorized", "these are tokens of several callers: a call has one")
        caller = found.pop() if found else None
        if caller is None:
            raise Refused(401, "unauthorized", "this token is not one of an agent here")
        return caller

    def _admitted(self, request: web.BaseRequest, target: Target) -> tuple[Caller, Route]:
        """Who calls, and the route that it may use."""
        caller = self._caller(request)
        route = self._routes.get(caller.route)
        if route is None:
            why = f"{caller.agent} has no model: there is no [models.{caller.route}]"
            raise Refused(404, "not-found", f"{why} in relit.toml")
        if route.kind != target.kind:
            why = f"[models.{route.name}] speaks the protocol of {route.kind}"
            raise Refused(404, "not-found", f"{why}: its calls go to /{route.kind}/v1/…")
        if not target.allowed(request.method, route.also):
            path = target.below.partition("?")[0][:200]
            why = f"agents may not {request.method} {path} of [models.{route.name}]"
            raise Refused(403, "forbidden", f"{why}: name it in its `also` in relit.toml to allow that")
        return caller, route

    async def _forwarded(self, request: web.BaseRequest, caller: Caller, call: Call) -> web.StreamResponse:
        """From the record, where it was made before; else by its route, and while that one fails, by those that stand
        in for it."""
        question = None
        if self._ledger is not None:
            question = await self._ledger.asked(
                caller, call.target, call.body if isinstance(call.body, bytes) else None
            )
            sees = self._see(caller, call, question)
            while (before := self._underway.get(question.again)) is not None and before[0] != question.turn.life:
                await asyncio.wait([before[1]])  # an earlier life's: it is brought to its end, or is being given up
            kept = await self._ledger.replay(caller, call.route, question)
            if sees and self._desk is not None:
                self._desk.answered(caller.agent, question.turn, replayed=kept is not None)
            if kept is not None:
                return _again(kept)
        first, *others = self._line(call)
        asked = call
        for route in others:
            response = await self._counted(request, caller, call, question, others=True)
            if response is not None:
                return response
            call = _by(asked, route)
        response = await self._counted(request, caller, call, question, others=False)
        assert response is not None, f"nobody stands in after {first.name} and the others"
        return response

    def _see(self, caller: Caller, call: Call, question: Question) -> bool:
        """What stands in the agent's prompt matters to its calls to tools, and so does whence its answer comes."""
        if self._desk is None or not isinstance(call.body, bytes):
            return False
        lane = question.match.lane if question.match is not None else ""
        return self._desk.saw(caller.agent, question.turn, lane, call.body)

    def _line(self, call: Call) -> list[Route]:
        found = [call.route]
        if call.repeatable:
            found += [self._routes[name] for name in call.route.fallback if name in self._routes]
        return [each for each in found if each.kind == call.route.kind]

    async def _counted(
        self, request: web.BaseRequest, caller: Caller, call: Call, question: Question | None, *, others: bool
    ) -> web.StreamResponse | None:
        """By one route, between the two entries that the ledger makes of it. ``None``: somebody else is to be asked."""
        recorded = question is not None and question.match is not None
        life = self._lives(caller.agent) if recorded else None
        work = Work()
        task = work.start(self._entered(request, caller, call, question, work, others=others))
        self._calls[task] = work.cancel
        task.add_done_callback(self._calls.pop)
        if question is not None and question.match is not None:
            self._follow(question, task)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not await self._outlives(task, life):  # else it is paid for, and the next life will ask
                work.cancel()
                await asyncio.wait([task])
            raise

    async def _outlives(self, work: asyncio.Task[Any], life: Life | None) -> bool:
        """Whether a call goes on, though its caller has hung up: it died."""
        try:
            return not work.done() and not self._stopping and await died(life) and not self._stopping
        except asyncio.CancelledError:
            return False

    def _follow(self, question: Question, work: asyncio.Task[Any]) -> None:
        """Let a later life of its turn wait for it."""
        self._underway[question.again] = (question.turn.life, work)

        def done(work: asyncio.Task[Any]) -> None:
            if self._underway.get(question.again, ("", None))[1] is work:
                del self._underway[question.again]
            if not work.cancelled() and (error := work.exception()) is not None:
                _LOG.debug("a call failed: %s", error)

        work.add_done_callback(done)

    async def _entered(
        self, request: web.BaseRequest, caller: Caller, call: Call, question: Question | None, work: Work, *,
        others: bool,
    ) -> web.StreamResponse | None:  # fmt: skip
        if self._ledger is not None and question is not None:
            sent = call.body if isinstance(call.body, bytes) or call.body is None else b""
            await work.open(self._ledger.open(caller, call.route, call.target, sent, question))
        try:
            work.check()
            response = await self._tried(request, call, work, others=others)
            if response is None:
                await work.end("failed", "another route stands in")
            self._close(question, work)
            return response
        except asyncio.CancelledError:
            await work.end("cancelled", "its caller went away")
            raise
        except Refused as refused:
            await work.end("failed", refused.message)
            raise
        except OSError as error:  # the caller's connection
            await work.end("cancelled", str(error))
            raise
        except Exception as error:
            await work.end("failed", repr(error))
            raise

    def _close(self, question: Question | None, work: Work) -> None:
        """Whoever hears a stream has it: that it ended is written down meanwhile."""
        if (closing := work.close()) is None:
            return
        self._calls[closing] = lambda: None  # it is not cut short
        closing.add_done_callback(self._calls.pop)
        if question is not None and question.match is not None:
            self._follow(question, closing)

    async def _tried(
        self, request: web.BaseRequest, call: Call, work: Work, *, others: bool
    ) -> web.StreamResponse | None:
        """As often as its route allows, as long as the agent has seen nothing of it."""
        attempt = 1
        while True:
            found = await self._passed(request, call, work, Patient(attempt, call, others, self._chance, self._clock))
            match found:
                case web.StreamResponse():
                    return found
                case Wait(seconds):
                    await asyncio.sleep(seconds)
                    attempt += 1
                case _:
                    return None

    async def _passed(
        self, request: web.BaseRequest, call: Call, work: Work, patient: Patient
    ) -> web.StreamResponse | Wait | Next:
        """The provider's answer. Once that has begun, a fault of its can only be shown by breaking off, too."""
        entry = work.entry
        listener = Listener(request, recorded=entry is not None and entry.kept)
        try:
            async with _within(call.route), self._providers.answer(call, work.sent) as answer:
                verdict = patient.refused(answer)
                if refused := answer.status >= 400:
                    self._judge(call.route, answer)
                if not isinstance(verdict, Pass):
                    if entry is not None:
                        entry.unheard = True  # a refusal costs nothing
                    return verdict
                if entry is not None:
                    entry.began(answer.status, answer.headers)
                if refused or entry is None or not entry.streams:  # a stream's head says nothing that is bought
                    await work.written()
                if refused:  # some clients do not hear a refusal out
                    await work.end("failed")
                await listener.begin(answer)
                last = await work.pour(answer, listener)
                if not refused:
                    self._judge(call.route, answer)
                    if entry is not None:
                        entry.whole()
                    if entry is not None and not (entry.streams and entry.spooled):
                        await work.end("done")
                await listener.hear(last)
                await listener.end()
        except Refused as error:
            if listener.response is None:
                raise
            await work.end("failed", error.message)
            await listener.refuse(error, call.target.kind)
        except ProviderFault as fault:
            if listener.response is None and isinstance(fault, ProviderSilent) and not request.content.is_eof():
                raise arriving.late(call.route.patience.first_byte) from fault  # it waits for the agent
            if not listener.stuck:
                self._failed(call.route, fault.why)
            if entry is not None and not fault.heard:
                entry.unheard = True
            if listener.response is None:
                verdict = patient.broken(fault)
                if not isinstance(verdict, Pass):
                    return verdict
                raise _refusal(fault) from fault
            await work.end("failed", fault.why)
            listener.break_off()
        assert listener.response is not None, "it was answered, or a refusal was raised"
        return listener.response

    def _judge(self, route: Route, answer: Answer) -> None:
        blamed = blames(answer.status)
        if blamed:
            self._failed(route, f"HTTP status {answer.status}")
        elif blamed is False:
            self._health.worked(route.name)

    def _failed(self, route: Route, why: str) -> None:
        if self._health.failed(route.name, why):
            _LOG.warning("[models.%s]: the provider fails: %s", route.name, why)


@asynccontextmanager
async def _within(route: Route) -> AsyncIterator[None]:
    """The whole of an answer. ProviderSilent when it takes longer."""
    try:
        async with asyncio.timeout(route.patience.total) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise silent(route, f"its answer was not whole after {route.patience.total:g} s") from error


def _again(kept: Kept) -> web.Response:
    """An answer from the record, which says so."""
    return web.Response(status=kept.head.status, body=kept.body, headers=[*kept.head.headers, SERVER, REPLAYED])


def _by(call: Call, route: Route) -> Call:
    """The same call by another route, and to its model."""
    body = renamed(call.body, route.model) if isinstance(call.body, bytes) else call.body
    return replace(call, route=route, body=body)


def _call(request: web.BaseRequest, agent: str, route: Route, target: Target, body: bytes | None) -> Call:
    pairs = list(request.headers.items())
    if body is not None:
        return Call(agent, route, target, request.method, pairs, named(body, route.model))
    if not request.body_exists:
        return Call(agent, route, target, request.method, pairs)
    return Call(agent, route, target, request.method, pairs, request.content, request.headers.get("Content-Length"))


def _whole(status: int, body: bytes, content_type: str, more: Mapping[str, str] | None = None) -> web.Response:
    made = dict([("Content-Type", content_type), headers.SERVER])
    return web.Response(status=status, body=body, headers={**made, **(more or {})})


def _refusal(fault: ProviderFault) -> Refused:
    status = 504 if isinstance(fault, ProviderSilent) else 502
    return Refused(status, fault.code, f"{fault.what}: {fault.why}", retry=fault.retry)


def _cannot(host: str, port: int, error: OSError) -> ConfigError:
    taken = error.errno == errno.EADDRINUSE
    return ConfigError(
        f"the gateway cannot listen on {host}:{port}",
        why="another program has the port, perhaps a relit that runs already" if taken else str(error),
        fix="set gateway.listen in relit.toml to a free address of this machine, as 127.0.0.1:7718",
    )
