"""Compare relit's gateway with LiteLLM's proxy and a bare one on aiohttp: ``python -m bench.gateway.main``.

One scripted model on the loopback answers all of them. Every round calls it directly and through each, every second
round backwards; differences and ratios are taken inside a round, and medians of the rounds reported. The last line
printed is one JSON object; a missed promise ends it with exit code 1. ``QUICK=1`` is the short form: fewer and shorter
rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.gateway import asked, verdict
from bench.gateway.load import Body, Door, crowd, once_each
from bench.gateway.ours import Cast, Relit
from bench.gateway.peers import Bare, LiteLLM, ended, spoken
from bench.gateway.pinning import apart, waited_s
from bench.gateway.rounds import Calling, Side, interleaved
from bench.gateway.tools import added_ms
from bench.gateway.upstream import Script
from bench.node.processes import cpu_s, pss_kb

AT_ONCE, STREAMS, CALLS = 16, 500, 50
JOURNALED, COMMITS = 20, 2  # calls whose commits are counted, and how many each may have
FLAT_OUT = Script(20)  # as fast as it can
PACED = Script(20, 100, 10)  # a fast model: a hundred words a second
_T0 = time.monotonic()


class Plan(NamedTuple):
    """How much is measured. ``all``: also what nothing is promised of."""

    rounds: int
    calls_s: float  # of each side, in a round
    stream: Script
    ramp_s: float  # in which the streams begin
    tools: int  # calls to a tool
    all: bool


QUICK = Plan(rounds=3, calls_s=1, stream=Script(100, 50, 50), ramp_s=4, tools=200, all=False)
FULL = Plan(rounds=9, calls_s=4, stream=Script(600, 50, 50), ramp_s=10, tools=1000, all=True)


def say(text: str) -> None:
    """Progress goes to stderr, so that stdout is only the result."""
    print(f"[{time.monotonic() - _T0:.1f}] {text}", file=sys.stderr, flush=True)


def fsync_ms(folder: Path) -> float:
    """The median of some, with pauses as between calls."""
    took = []
    with (folder / "synced").open("wb", buffering=0) as file:
        for _ in range(40):
            file.write(os.urandom(20_000))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
            time.sleep(0.005)
    return median(took) * 1000


class Bench:
    """relit, its peers and their model, side by side."""

    def __init__(self, folder: Path, plan: Plan, stack: ExitStack) -> None:
        self.plan = plan
        self.folder = folder
        self.found: dict[str, float | None] = {}
        self.rows: dict[str, dict[str, float]] = {"relit": {}, "bare": {}, "LiteLLM": {}}
        self.model, self.url = spoken(sys.executable, "-m", "bench.gateway.upstream")
        stack.callback(ended, self.model)
        self.litellm = LiteLLM(folder / "litellm", self.url, FLAT_OUT)
        stack.callback(self.litellm.stop)
        self.bare = Bare(self.url)
        stack.callback(self.bare.stop)
        many = AT_ONCE * (plan.rounds + 1)  # agents of its own for each round: no turn becomes endless
        self.paced = Cast("paced", many, PACED)
        self.fast, self.whole = Cast("fast", many, FLAT_OUT), Cast("whole", many, FLAT_OUT)
        self.streaming, self.again = Cast("streaming", STREAMS, plan.stream), Cast("again", 1, FLAT_OUT)
        self.casts = [self.paced, self.fast, self.whole, self.streaming, self.again]
        self.relit = Relit(folder / "relit", self.url, self.casts)
        stack.callback(self.relit.stop)

    async def up(self) -> None:
        """All listen, and every agent is in a turn."""
        for cast in self.casts:
            await self.relit.begin(cast)
        self.relit.start()
        self.litellm.ready()
        say("all are up")

    async def journal(self) -> None:
        """How many transactions a streamed call is, and what the disk takes for one."""
        here = await crowd(self.relit.doors(self.fast)[:1], asked.question)
        await here.call(0, 0)
        await asyncio.sleep(0.5)
        before = self.relit.commits()
        for number in range(1, JOURNALED + 1):
            await here.call(0, number)
        here.close()
        await asyncio.sleep(0.5)  # the last one is written down a moment after it was heard
        commits = (self.relit.commits() - before) / JOURNALED
        say(f"journal: {commits:g} commits for a streamed call; one fsync here: {fsync_ms(self.folder):.2f} ms")
        if commits > COMMITS:
            raise SystemExit(f"a streamed call is to be at most {COMMITS} commits")

    # --- beside the others -----------------------------------------------------------------------------------------

    def _sides(self, cast: Cast) -> list[Side]:
        doors, passes = self.relit.doors(cast), [self.bare.door(cast.script)] * AT_ONCE
        return [
            Side("relit", lambda number: doors[AT_ONCE * number :][:AT_ONCE], self.relit.pids),
            Side("bare", lambda number: passes, self.bare.pids),
        ]

    async def paced_calls(self) -> None:
        """What a call takes longer through somebody, and what it costs there, while no core is full."""
        straight = [Door(self.url, f"{PACED.path}/v1")] * AT_ONCE
        sides = [Side("direct", lambda number: straight), *self._sides(self.paced)]
        how = Calling(asked.question, self.plan.calls_s, PACED.seconds)
        found = await interleaved(sides, self.plan.rounds, how)
        for name in ("relit", "bare"):
            for figure in ("p50_ms", "p99_ms", "first_ms"):
                self.rows[name][f"added {figure}"] = verdict.added(found, name, figure)
            self.rows[name]["paced: cpu_ms"] = verdict.middle(found, name, "cpu_ms")
        self.found["added_p50_ms"] = verdict.added(found, "relit", "p50_ms")
        self.found["added_p99_ms"] = verdict.added(found, "relit", "p99_ms")
        self.found["ratio_cpu_bare"] = verdict.ratio(found, "relit", "bare", "cpu_ms")
        for figure in ("p50_ms", "p99_ms", "cpu_ms"):
            say(f"paced calls, {figure}: {verdict.each_round(found, figure)}")

    async def flat_out(self) -> None:
        """How many calls each passes that are answered at once: streamed, and whole."""
        await self._at_once(self.fast, asked.question)
        if self.plan.all:
            await self._at_once(self.whole, asked.plain)

    async def _at_once(self, cast: Cast, body: Body) -> None:
        other = [self.litellm.door()] * AT_ONCE
        litellm = Side("LiteLLM", lambda number: other, self.litellm.pids)
        sides = [*self._sides(cast)[: 2 if self.plan.all else 1], litellm]
        found = await interleaved(sides, self.plan.rounds, Calling(body, self.plan.calls_s))
        for side in sides:
            for figure in ("per_s", "cpu_ms"):
                self.rows[side.name][f"{cast.name}: {figure}"] = verdict.middle(found, side.name, figure)
        say(f"{cast.name} calls, per_s: {verdict.each_round(found, 'per_s')}")
        if cast is self.fast:
            self.found["ratio_rps_litellm"] = verdict.ratio(found, "relit", "LiteLLM", "per_s")

    def memory(self) -> None:
        """After all have done the same."""
        for name, pids in (("relit", self.relit.pids), ("bare", self.bare.pids), ("LiteLLM", self.litellm.pids)):
            self.rows[name]["PSS, MB"] = pss_kb(pids) / 1024
        self.found["ratio_rss_litellm"] = self.rows["relit"]["PSS, MB"] / self.rows["LiteLLM"]["PSS, MB"]
        say(f"memory: { ({name: round(row['PSS, MB'], 1) for name, row in self.rows.items()}) } MB")

    # --- alone -----------------------------------------------------------------------------------------------------

    async def replay(self) -> None:
        """A turn of many calls, and the same turn delivered again."""
        calls = asked.turn(CALLS)
        here = await crowd(self.relit.doors(self.again), lambda number, count: calls[count])
        for number in range(CALLS):
            await here.call(0, number)
        await self.relit.deliver(self.again, life=2)
        began = time.perf_counter()
        heard = [await here.call(0, number) for number in range(CALLS)]
        self.found["replay_50_calls_s"] = time.perf_counter() - began
        here.close()
        if not all(each.replayed for each in heard):
            raise SystemExit(f"{sum(not each.replayed for each in heard)} of {CALLS} calls were made again")
        say(f"replay: {CALLS} calls of up to {len(calls[-1]) >> 10} KB in {self.found['replay_50_calls_s']:.3f} s")

    def tools(self) -> None:
        """Calls to a tool, written down before and after."""
        door = self.relit.doors(self.again)[0]
        self.found["tool_added_p50_ms"] = added_ms(door, self.url, self.plan.tools)
        say(f"tools: a call takes {self.found['tool_added_p50_ms']:.2f} ms more through the gateway")

    async def streams(self) -> None:
        """Many at once through one core; who calls and who answers have the other one."""
        self.litellm.stop()
        self.bare.stop()
        straight = [Door(self.url, f"{self.plan.stream.path}/v1")] * STREAMS
        with apart(self.relit.pids, [os.getpid(), self.model.pid]) as alone:
            if self.plan.all:
                await self._stalls("direct", straight)
            self.found["streams_500_max_stall_ms"] = await self._stalls("relit", self.relit.doors(self.streaming))
        if not alone:
            say("streams: there is but one core, for everybody")

    async def _stalls(self, name: str, doors: Sequence[Door]) -> float:
        """The longest pause beyond the schedule, in ms."""
        here, pids, schedule = await crowd(doors, asked.question), self.relit.pids, self.plan.stream
        began, cpu, waited = time.perf_counter(), cpu_s(pids), waited_s(pids)
        heard = await once_each(here, self.plan.ramp_s)
        seconds = time.perf_counter() - began
        cpu, waited = cpu_s(pids) - cpu, waited_s(pids) - waited
        here.close()
        stalls = [each.pause * 1000 - schedule.every_ms for each in heard]
        late = max(each.first * 1000 - schedule.first_ms for each in heard)
        half = verdict.percentile(stalls, 0.5)
        say(f"{len(heard)} streams, {name}: longest stall {max(stalls):.1f} ms (of half of them {half:.1f})")
        say(
            f"first chunks up to {late:.1f} ms late; relit {cpu / seconds:.0%} of a core, "
            f"waiting {waited / seconds:.0%}"
        )
        return max(stalls)


async def run(folder: Path, plan: Plan) -> Bench:
    """All parts."""
    with ExitStack() as stack:
        bench = Bench(folder, plan, stack)
        await bench.up()
        await bench.journal()
        gc.freeze()
        await bench.paced_calls()
        await bench.flat_out()
        bench.memory()
        await bench.replay()
        bench.tools()
        await bench.streams()
    return bench


def main() -> int:
    """0 when every promise that was measured is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("QUICK")))
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="relit-bench-gateway-") as name:
        bench = asyncio.run(run(Path(name), QUICK if given.quick else FULL))
    print(verdict.sides(bench.rows), end="\n\n")
    result = verdict.result(bench.found)
    print(verdict.promises(result), end="\n\n")
    say(f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after; {os.cpu_count()} cores, Linux {platform.release()}")
    print(json.dumps(result))
    return 1 if verdict.missed(result) else 0


if __name__ == "__main__":
    sys.exit(main())
