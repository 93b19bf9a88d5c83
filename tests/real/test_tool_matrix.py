"""A turn of twelve calls to a model and eleven to tools, on both real agents, cut at eighteen points: nothing is done
twice.

For each way to go on (continue, replay) and to act (native, strict) one agent lives through eighteen turns: in ten of
them it is killed, in five the gateway, in three everything. ``make test-crash`` cuts further ones, so that each victim
was killed at each point. ``.bench/tool-matrix/`` keeps a line for each: the docs' table is made of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from counting_sink import CountingSink
from real_house import RealHouse

from relit.testing.llm import Answer, Rule, ToolCall
from relit.testing.llm.ask import MODEL_CALLS, Ask

pytestmark = pytest.mark.timeout(1700)

SHELL = {"openclaw": "exec", "hermes": "terminal"}
OURS = {"openclaw": "relit__{}", "hermes": "mcp__relit__{}"}
WORK = {"openclaw": "workspace", "hermes": "work"}
STEPS = ("look", "shell", "mail", "shell", "look", "shell", "order", "shell", "look", "shell", "post")
MAIL, ORDER, POST = (STEPS.index(each) for each in ("mail", "order", "post"))
SHELLS = STEPS.index("order") + 1
IN_A_STREAM = 2  # pieces
Victim = Literal["agent", "gateway", "everything"]
VICTIMS: tuple[Victim, ...] = ("gateway", "everything")  # beside the agent
TABLE = Path(__file__).parents[2] / ".bench" / "tool-matrix"


@dataclass(frozen=True)
class Point:
    """Where a turn is cut: while the model answers call ``model`` (when ``after`` pieces of its answer have come),
    while a service works on step ``tool``, or while the command of step ``shell`` runs."""

    name: str
    victim: Victim
    model: int | None = None
    after: int = 0
    tool: int | None = None
    shell: int | None = None


POINTS = (
    Point("first-call", "agent", model=0),
    Point("while-reading", "agent", tool=0),
    Point("while-mailing", "agent", tool=MAIL),
    Point("after-mailing", "agent", model=MAIL + 1),
    Point("in-a-stream", "agent", model=ORDER, after=IN_A_STREAM),
    Point("while-ordering", "agent", tool=ORDER),
    Point("in-a-shell", "agent", shell=SHELLS),
    Point("after-a-shell", "agent", model=SHELLS + 1),
    Point("while-posting", "agent", tool=POST),
    Point("last-call", "agent", model=len(STEPS)),
    Point("gateway-in-a-call", "gateway", model=ORDER + 1),
    Point("gateway-in-a-stream", "gateway", model=ORDER, after=IN_A_STREAM),
    Point("gateway-while-mailing", "gateway", tool=MAIL),
    Point("gateway-while-posting", "gateway", tool=POST),
    Point("gateway-in-a-shell", "gateway", shell=SHELLS),
    Point("everything-in-a-stream", "everything", model=ORDER, after=IN_A_STREAM),
    Point("everything-while-ordering", "everything", tool=ORDER),
    Point("everything-in-a-shell", "everything", shell=SHELLS),
)
FURTHER = tuple(
    dataclasses.replace(each, name=f"{victim}-{each.name}", victim=victim)
    for victim in VICTIMS
    for each in POINTS
    if each.victim == "agent" and f"{victim}-{each.name}" not in {known.name for known in POINTS}
)
IN_A_SHELL = {f"{each.name}-{each.shell}" for each in POINTS if each.shell is not None}


class Script:
    """The model: it goes through the steps, one call each, however often it is interrupted."""

    def __init__(self, kind: str, ran: Path, *, strict: bool) -> None:
        self._kind = kind
        self._ran = ran
        self._shell = OURS[kind].format("shell") if strict else SHELL[kind]

    def answer(self, ask: Ask) -> Answer | str:
        name = name_of(ask)
        number = done(ask)
        if number >= len(STEPS):
            return f"Finished {name}."
        step, what = STEPS[number], f"{name}-{number}"
        if step == "shell":
            return Answer(calls=(ToolCall(self._shell, {"command": self._command(what)}),))
        return Answer(calls=(ToolCall(OURS[self._kind].format(step), {"what": what}),))

    def _command(self, what: str) -> str:
        """That it ran stands in a file at its end. Where it is cut, it waits for a word first."""
        begun, go = (self._ran.with_name(f"{each}-{what}") for each in ("begun", "go"))
        waits = f"touch {begun}; until [ -e {go} ]; do sleep 0.1; done; " if what in IN_A_SHELL else ""
        return f"{waits}echo {what} >> {self._ran}; echo ok {what}"


def name_of(ask: Ask) -> str:
    """Of the turn: it is the first word after ``Point``."""
    words = next((turn.text for turn in ask.turns if turn.role == "user" and "Point " in turn.text), "")
    return words.partition("Point ")[2].split()[0].strip(".") if words else ""


def done(ask: Ask) -> int:
    """How many steps have a result: what is missing was put in by the agent itself, and counts for nothing."""
    said = re.compile(rf"ok[\\\": ]+{re.escape(name_of(ask))}-|nobody knows whether")
    return sum(bool(said.search(turn.text)) for turn in ask.turns if turn.role == "tool")


def is_review(ask: Ask) -> bool:
    """What Hermes asks itself of its last turns, a moment after one has ended."""
    words = [turn.text for turn in ask.turns if turn.role == "user"]
    return bool(words) and words[-1].startswith("Review the conversation above")


def about(name: str, number: int | None = None) -> Callable[[Ask], bool]:
    def matches(ask: Ask) -> bool:
        ours = ask.protocol in MODEL_CALLS and name_of(ask) == name and not is_review(ask)
        return ours and number in (None, done(ask))

    return matches


@dataclass
class Scene:
    """One agent, its services and its model."""

    house: RealHouse
    sink: CountingSink
    kind: str
    resume: str
    tools: str
    ran: Path

    async def gateway(self) -> int:
        """The gateway's pid, when it is ready."""
        return await self.house.ready("gateway")

    async def kill(self, victim: Victim) -> None:
        """And wait until it is back."""
        if victim == "gateway":
            pid = await self.gateway()
            self.house.kill(pid)
            await self.house.ready("gateway", not_pid=pid)
            return
        pid = await self.house.ready("one")
        if victim == "agent":
            self.house.kill(pid)
        else:
            for each in ("gateway", "server", "one"):
                os.kill(await self.house.ready(each), signal.SIGKILL)
            self.house.kill_relit()
            await self.house.relit("up", "--timeout", "300s", timeout=360, codes=(0, 1))  # 1: it does not wait for all
            await self.gateway()
        await self.house.ready("one", not_pid=pid)

    def held(self, point: Point) -> AbstractContextManager[Any]:
        if point.shell is not None:
            return nullcontext()
        if point.tool is not None:
            return self.sink.hold(f"{point.name}-{point.tool}")
        return self.house.llm.hold(about(point.name, point.model), after=point.after)

    async def reached(self, point: Point, hold: Any) -> None:
        if point.model is not None:
            await hold.caught(timeout=180)
            return
        what = f"{point.name}-{point.tool if point.shell is None else point.shell}"
        begun = self.ran.with_name(f"begun-{what}")
        await self.house.until(lambda: what in self.sink.arrived or begun.exists(), what)

    async def answer(self, run: str, point: Point) -> str:
        """A command that waits may end, in whichever home: the agent's goes back perhaps."""
        answer = asyncio.ensure_future(self.house.answer(run))
        while not (await asyncio.wait([answer], timeout=0.2))[0]:
            if point.shell is not None and self.ran.parent.is_dir():
                self.ran.with_name(f"go-{point.name}-{point.shell}").touch()
        return answer.result()


@pytest.fixture
async def scene(tmp_path: Path, runtimes: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    kind, resume, tools = request.param
    house, sink = RealHouse(tmp_path, runtimes, {"one": kind}), CountingSink()
    ran = tmp_path / "data" / "agents" / "one" / "home" / WORK[kind] / "ran"
    try:
        await house.llm.start()
        house.llm.rules[:] = [Rule(lambda ask: bool(name_of(ask)), Script(kind, ran, strict=tools == "strict").answer)]
        config = (
            house.config()
            .replace('heal = { good_after = "5s", retry = "5s" }\n', "")
            .replace(
                f'kind = "{kind}"\n',
                f'kind = "{kind}"\nresume = "{resume}"\ntools = "{tools}"\n'
                "heal = { restarts = 100 }\n"  # or the home goes back, after so many kills
                'grants = ["tool:look", "tool:mail", "tool:order", "tool:post"]\n',
            )
        )
        (tmp_path / "relit.toml").write_text(config + sink.tools)
        await house.relit("up", "--timeout", "300s", timeout=360)
        yield Scene(house, sink, kind, resume, tools, ran)
    finally:
        sink.stop()
        await house.stop()


rows = pytest.mark.parametrize(
    "scene",
    [
        (kind, resume, tools)
        for kind in ("hermes", "openclaw")
        for resume in ("continue", "replay")
        for tools in ("native", "strict")
    ],
    indirect=True,
    ids="-".join,
)


@pytest.mark.real
@rows
async def test_eighteen_cuts_and_nothing_is_done_twice(scene: Scene) -> None:
    await survives(scene, POINTS, "")


@pytest.mark.crash
@rows
async def test_who_else_is_killed_there_and_nothing_is_done_twice(scene: Scene) -> None:
    await survives(scene, FURTHER, "-further")


async def survives(scene: Scene, points: Sequence[Point], name: str) -> None:
    cells = [await cell(scene, point) for point in points]
    TABLE.mkdir(parents=True, exist_ok=True)
    (TABLE / f"{scene.kind}-{scene.resume}-{scene.tools}{name}.json").write_text(json.dumps(cells, indent=1))
    assert [each["wrong"] for each in cells if each["wrong"]] == []


async def cell(scene: Scene, point: Point) -> dict[str, Any]:
    """One turn, cut there; what became of it."""
    house, name = scene.house, point.name
    await house.ready("one")
    with scene.held(point) as hold:
        message = {"text": f"Point {name}. Do the work.", "session": name}
        run = await house.send("one", json.dumps(message))
        await scene.reached(point, hold)
        await scene.kill(point.victim)
    said = await scene.answer(run, point)
    twice = len([each for each in house.llm.requests if about(name)(each.ask)]) - len(STEPS) - 1
    doubtful = await doubts(scene, name)
    return {
        "kind": scene.kind, "resume": scene.resume, "tools": scene.tools, "point": name, "victim": point.victim,
        "bought_twice": twice, "in_doubt": doubtful,
        "ran": scene.ran.read_text().count(f"{name}-"), "wrong": wrong(scene, point, said, twice, doubtful),
    }  # fmt: skip


async def doubts(scene: Scene, name: str) -> list[str]:
    """What waits for a person, of this turn."""
    tools = json.loads(await scene.house.relit("effects", "--json", codes=(0, 3)))["tools"]
    return [each["tool"] for each in tools if f"{name}-" in json.dumps(each["arguments"])]


def allowed(scene: Scene, point: Point) -> int:
    """How many calls to the model may come on top of the turn's own."""
    if point.victim != "agent" and point.shell is not None and scene.tools == "strict":
        return 2  # that the command was cut, and that it may look and run it again: two answers, two questions
    return 0 if scene.resume == "replay" and point.victim == "agent" else 1


def wrong(scene: Scene, point: Point, said: str, twice: int, doubtful: list[str]) -> str:
    """What is not as it should be; empty: nothing."""
    name, faults = point.name, []
    if said.strip() != f"Finished {name}.":
        faults.append(f"the answer is {said!r}")
    for number, step in enumerate(STEPS):
        count = scene.sink.count(f"{name}-{number}")
        if step in ("mail", "order", "post") and count != 1:
            faults.append(f"{step} was done {count} times")
    shells = scene.ran.read_text().splitlines()
    for number, step in enumerate(STEPS):
        if step == "shell" and scene.tools == "strict" and shells.count(f"{name}-{number}") != 1:
            faults.append(f"shell {number} ran {shells.count(f'{name}-{number}')} times")
    if doubtful != (["post"] if point.victim != "agent" and point.tool == POST else []):
        faults.append(f"in doubt is {doubtful}")
    if twice > allowed(scene, point):
        faults.append(f"{twice} calls were bought beyond the turn's own")
    return f"{name}: {'; '.join(faults)}" if faults else ""
