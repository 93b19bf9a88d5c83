"""`relit demo`: real work, real kills, a table of what it cost."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from random import Random

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from relit.client import Client
from relit.demo import (
    breakdown,
    configuration,
    distributions,
    figures,
    glutton,
    licences,
    messenger,
    mishap,
    plan,
    prompt,
    squeeze,
    watchman,
    witness,
)
from relit.demo.errand import Errands
from relit.demo.figures import Blow, Breakdown, Errand, Figures, Kept, Mishap, Squeeze
from relit.demo.installation import Installation, free_address
from relit.demo.licences import Verdict
from relit.demo.model import ScriptedModel
from relit.demo.notebook import Notebook
from relit.demo.notebook import text as note_text
from relit.demo.serving import Served
from relit.demo.sink import Sink
from relit.demo.storm import Storm
from relit.documents import Run
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.ids import system_random
from relit.settings.environment import Environment

OPENAI_URL = "https://api.openai.com/v1"
_WORK_S = 44.0  # what all model calls together should take
_SINK_S = 0.4
_LOOK_S = 0.4
Tell = Callable[[float, str], None]


class Model:
    """Which model answers: a scripted one on this machine, or a real one if the environment names it."""

    def __init__(self, workers: int, audits: int, work_s: float) -> None:
        env = Environment()
        self.real_url = env.get("OPENAI_BASE_URL") or (OPENAI_URL if env.get("OPENAI_API_KEY") else None)
        seconds = min(8.0, max(0.3, work_s * workers / max(audits, 1)))
        self.scripted = ScriptedModel(prompt.answer, seconds=seconds)

    @contextmanager
    def serve(self) -> Iterator[str]:
        """The base URL to ask, as long as the block lasts."""
        if self.real_url is not None:
            yield self.real_url
        else:
            with Served(self.scripted.app) as url:
                yield f"{url}/v1"

    def calls(self, lines: list[witness.Line]) -> list[tuple[float, Hashable]]:
        """When each call was made. Counted at the scripted model; with a real one, by the steps that were begun."""
        if self.real_url is None:
            return [*self.scripted.arrivals]
        return [(line.at, line.place) for line in lines if line.step == "ask_model"]


class Told(msgspec.Struct, frozen=True):
    """What the auditor told the webhook."""

    distribution: str
    code: str
    text: str


class Demo:
    """One storm over one installation."""

    def __init__(
        self,
        names: list[str],
        *,
        kills: int,
        workers: int,
        seed: int | None,
        console: Console,
        seconds: float = 170,
        work_s: float = _WORK_S,
    ) -> None:
        self.console = console
        self.names = names
        self._seconds = seconds
        self.expected = {name: expect(name) for name in self.names}
        self.model = Model(workers, len(names), work_s)
        self.sink = Sink(seconds=_SINK_S)
        self._errands = Errands()
        self._errand: Errand | None = None
        self._squeeze: Squeeze | None = None
        self._kills = kills
        self._workers = workers
        self._chance = Random(seed) if seed is not None else system_random()
        self._mishap: Mishap | None = None
        self._breakdown: Breakdown | None = None
        self._bodies = sum(4 + len(distributions.facts(name).files) for name in self.names) + sum(
            len(verdict.findings) for verdict in self.expected.values()
        )

    def run(self) -> Figures:
        """The whole of it."""
        errands = self._errands
        with (
            self.model.serve() as model, Served(self.sink.app) as sink,
            Served(errands.model.app) as other, Served(errands.sink.app) as owner,
        ):  # fmt: skip
            house = self._house({"OPENAI_BASE_URL": model, "AUDITOR_SINK": f"{sink}/findings"}, other, owner)
            self._say(f"An agent audits the licences of {len(self.names)} distributions. Its folder: {house.folder}")
            try:
                house.up()
                measured = asyncio.run(self._measure(house))
            finally:
                house.down()
        self._print(measured, house)
        return measured

    def _house(self, environment: dict[str, str], model: str, owner: str) -> Installation:
        """All agents in an installation that is still to be started."""
        house = Installation()
        tables = configuration.auditor({**environment, "AUDITOR_FOLDER": str(house.folder)}, self._workers)
        tables += configuration.watchman(house.mark)
        tables += configuration.messenger(
            house.mark, gateway=free_address(), model=f"{model}/v1", sink=f"{owner}/messages"
        )
        tables += configuration.glutton(house.mark, [sys.executable, "-I", glutton.__file__, str(house.glut)])
        kinds = {
            configuration.WATCHMAN: configuration.watchmans_kind([sys.executable, "-I", watchman.__file__]),
            configuration.MESSENGER: configuration.messengers_kind([sys.executable, "-I", messenger.__file__]),
        }
        house.configure(tables, kinds)
        return house

    async def _measure(self, house: Installation) -> Figures:
        began = SYSTEM_CLOCK.monotonic()
        async with house.client() as client:
            sent = await client.send_many("auditor", [{"distribution": name} for name in self.names])
            runs = dict(zip(self.names, [each.id for each in sent], strict=True))
            tell = self._teller(began)
            after = self._after(house, client, tell)
            storm = Storm(house, client, runs, lambda: self._share(house), after, self._chance)
            with self._progress() as progress:
                await self._weather(house, client, storm, progress)
            if self._kills:
                self._breakdown = await breakdown.happen(house, client, tell)
                self._errand = await self._errands.happen(house, client, tell)
                self._squeeze = await squeeze.happen(house, client, tell)
            seconds = SYSTEM_CLOCK.monotonic() - began
            return await self._count(client, house, storm.blows, runs, seconds)

    async def _weather(self, house: Installation, client: Client, storm: Storm, progress: Progress) -> None:
        """Kill, and wait until all the work is done."""
        task = progress.add_task("auditing", total=self._bodies, kills=0)
        try:
            async with asyncio.timeout(self._seconds), asyncio.TaskGroup() as group:
                raging = group.create_task(storm.rage(plan.draw(self._kills, self._chance)))
                while not (raging.done() and await self._all_done(client)):
                    progress.update(task, completed=self._done(house), kills=len(storm.blows))
                    await asyncio.sleep(_LOOK_S)
            progress.update(task, completed=self._bodies, kills=len(storm.blows))
        except ExceptionGroup as several:
            raise several.exceptions[0] from several
        except TimeoutError:
            self._say(f"Not everything was done after {self._seconds:.0f} s.")

    def _teller(self, began: float) -> Tell:
        """Says what happened, with its time since ``began``."""

        def tell(at: float, what: str) -> None:
            self._say(f"{at - began:6.1f} s  {what}")

        return tell

    def _after(self, house: Installation, client: Client, tell: Tell) -> Callable[[Blow], Awaitable[None]]:
        """What follows a kill: a line, and once, in the middle of the storm, the mishap."""
        left = max(1, self._kills // 2)

        async def after(blow: Blow) -> None:
            nonlocal left
            left -= 1
            back = "it was idle" if blow.seconds is None else f"back after {blow.seconds:.2f} s"
            tell(blow.at, f"killed the {blow.role} (pid {blow.pid}): {back}")
            if left == 0:
                self._mishap = await mishap.happen(house, client, tell)

        return after

    async def _all_done(self, client: Client) -> bool:
        found = await client.runs(agent="auditor", limit=len(self.names), payloads="none")
        return all(run.final for run in found)

    async def _count(
        self, client: Client, house: Installation, blows: list[Blow], runs: dict[str, str], seconds: float
    ) -> Figures:
        found = {run.id: run for run in await client.runs(agent="auditor", limit=len(runs), payloads="full")}
        steps = [step for id in runs.values() async for step in client.journal(id, payloads="none")]
        verdicts = {name: verdict_of(found.get(id)) for name, id in runs.items()}
        told = self._told(verdicts)
        lines = witness.read(house.witness)
        steps_again, steps_redone = figures.apart(figures.bodies(lines), self._mishap)
        bought_twice, bought_again = figures.apart(self.model.calls(lines), self._mishap)
        return Figures(
            sent=len(runs),
            completed=sum(verdict is not None for verdict in verdicts.values()),
            wrong=0 if self.model.real_url else sum(verdicts[name] != self.expected[name] for name in self.names),
            steps=sum(step.kind != "superseded" for step in steps),
            blows=blows,
            steps_again=steps_again,
            bought_twice=bought_twice,
            findings=sum(len(verdict.findings) for verdict in verdicts.values() if verdict is not None),
            delivered=len(told),
            delivered_twice=sum(told.values()) - len(told),
            raw_requests=len(self.sink.requests),
            notes=_agreeing(Notebook(house.home(configuration.AUDITOR)), verdicts),
            versions=await self._versions(client),
            mishap=self._mishap,
            breakdown=self._breakdown,
            errand=self._errand,
            squeeze=self._squeeze,
            steps_redone=steps_redone,
            redone_needlessly=figures.needlessly(lines, self._mishap),
            bought_again=bought_again,
            seconds=seconds,
        )

    def _told(self, verdicts: dict[str, Verdict | None]) -> Counter[Told]:
        """What took effect at the sink. A real model that is asked again may say something else than what was told
        before the journal went back, so only what the verdicts say counts then."""
        told = Counter(msgspec.json.decode(delivery.body, type=Told) for delivery in self.sink.effective)
        if self.model.real_url is None:
            return told
        said = {
            Told(name, each.code, each.text) for name, found in verdicts.items() if found for each in found.findings
        }
        return Counter({each: count for each, count in told.items() if each in said})

    async def _versions(self, client: Client) -> Kept:
        newest = (await client.snapshot("auditor")).snapshot
        taken = await client.snapshots("auditor", limit=1000)
        return Kept(
            snapshots=len(taken),
            freezes_ms=[each.freeze_us / 1000 for each in taken if each.freeze_us],
            packed=(await client.volumes.stats()).pack_bytes,
            home=newest.bytes,
        )

    def _done(self, house: Installation) -> int:
        return len({line.place for line in witness.read(house.witness)})

    def _share(self, house: Installation) -> float:
        return self._done(house) / self._bodies

    # --- what a person sees --------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps · {task.fields[kills]} kills"),
            TimeElapsedColumn(),
            console=self.console,
        )

    def _print(self, measured: Figures, house: Installation) -> None:
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for row in figures.rows(measured):
            mark = {True: "[green]kept[/]", False: "[red]BROKEN[/]", None: ""}[row.kept]
            table.add_row(row.label, row.value, row.bound, mark)
        self.console.print()
        self.console.print(table)
        relit = f"relit --data {house.data} --config {house.folder / 'relit.toml'}"
        show = next((f"show {blow.run}" for blow in measured.blows if blow.run is not None), "show RUN")
        look = "\n".join(f"  {relit} {words}" for words in ("up", "runs", show, "volume log auditor", "down"))
        self._say(f"\nEverything is still there. To look further:\n{look}\n  rm -r {house.folder}")


def expect(name: str) -> Verdict:
    """The verdict that the rules give on an installed distribution."""
    facts = distributions.facts(name)
    texts = [distributions.text(name, file)[: prompt.TEXT_LIMIT] for file in facts.files]
    return licences.judge(name, facts.declared, texts)


def _agreeing(notebook: Notebook, verdicts: dict[str, Verdict | None]) -> int:
    """Of how many distributions both the page and the index say what the run concluded."""
    pages, index = notebook.pages(), notebook.index()
    known = {name: verdict for name, verdict in verdicts.items() if verdict is not None}
    return sum(pages.get(name) == note_text(verdict) and index.get(name) == verdict for name, verdict in known.items())


def verdict_of(run: Run | None) -> Verdict | None:
    """What a completed run concluded."""
    if run is None or run.state != "completed":
        return None
    return msgspec.convert(run.output, Verdict)


def run(
    *,
    kills: int = 10,
    workers: int = 3,
    seed: int | None = None,
    seconds: int = 170,
    as_json: bool = False,
    console: Console | None = None,
) -> int:
    """Run the demo, on every distribution installed here. The exit code: 0, or 1 when a bound was broken.

    ``as_json``: the figures go to standard output as one JSON object, everything else to ``console``.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that nothing stays behind
    console = console or Console(stderr=as_json)
    demo = Demo(distributions.names(), kills=kills, seconds=seconds, workers=workers, seed=seed, console=console)
    measured = demo.run()
    if as_json:
        print(msgspec.json.encode(measured).decode())
    return 0 if figures.kept(measured) else 1
