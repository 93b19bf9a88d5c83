"""``relit run MODULE:WORKFLOW``: store, worker and follower in one process, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from relit.api import follow
from relit.api.operation import Api
from relit.api.parts import Parts
from relit.app import parts
from relit.app.serve import upkeep
from relit.app.stopping import Stop, running, until_signal
from relit.app.work import worker
from relit.durable.definitions import Definition, Workflow
from relit.durable.engine import Engine
from relit.errors import Conflict, NotFound
from relit.lib.service import Service, Tasks
from relit.settings import Settings


class Request:
    """What to run: a workflow with arguments, or a run that is there already."""

    def __init__(
        self, workflow: Workflow[Any], args: Sequence[Any], kwargs: dict[str, Any], run: str | None = None
    ) -> None:
        self.workflow = workflow
        self.args = args
        self.kwargs = kwargs
        self.run = run

    async def begin(self, engine: Engine) -> str:
        """The run's id: of the new run, or of the one that goes on."""
        if self.run is not None:
            return await _known(engine, self.run)
        return await engine.start(self.workflow, self.args, self.kwargs)


async def _known(engine: Engine, asked: str) -> str:
    """The whole id of a run, from its beginning or end."""
    found = await engine.store.find_runs(asked.lower())
    if not found:
        raise NotFound(f"there is no run {asked!r}", fix="relit up, then relit runs")
    if len(found) > 1:
        raise Conflict(f"{asked!r} fits several runs", why=", ".join(found), fix="write more of the id")
    return found[0]


async def run(
    settings: Settings,
    found: Sequence[Definition],
    asked: Request,
    *,
    began: Callable[[str], None],
    frame: Callable[[bytes], None],
) -> bool:
    """Run and follow until the run has ended (true) or a signal came (false: it is kept and can go on)."""
    async with until_signal() as stop, parts.engine(settings) as engine:
        services: list[Service] = [*upkeep(settings, engine, stop.fail), worker(settings, engine, found, stop.fail)]
        async with running(services):
            id = await asked.begin(engine)
            began(id)
            return await _follow(engine, id, stop, frame)


async def _follow(engine: Engine, id: str, stop: Stop, frame: Callable[[bytes], None]) -> bool:
    api = Api(Parts(engine))
    frames = follow.frames(api, follow.Cursor(id), "short")
    tasks = Tasks(stop.fail)
    try:
        drawing = tasks.spawn(_draw(frames, frame), "relit-draw")
        stopping = tasks.spawn(stop.wait(), "relit-until-signal")
        await asyncio.wait({drawing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (drawing, stopping):
            if task.done():
                task.result()
        return drawing.done()
    finally:
        await tasks.stop()


async def _draw(frames: AsyncIterator[bytes], frame: Callable[[bytes], None]) -> None:
    async for each in frames:
        frame(each)
