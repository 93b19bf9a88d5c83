"""Compare relit's node with other supervisors: ``python bench/node/main.py``.

Everybody keeps 100 children of the same program. Every round kills some of each, and every second round backwards;
ratios are taken inside a round. The last line printed is one JSON object; a missed promise ends it with exit code 1.
``QUICK=1`` is the short form: runit only, no OpenClaw.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import verdict
from bells import Bells, compiled
from ours import Relit
from peers import PEERS, daemon_pss_mb, installed
from processes import cpu_s, descendants, gone, pss_kb, watched
from restarts import Kills, Side, interleaved, p50

COUNT, BOXED = 100, 12
BARE = 20  # of those that are only killed one by one
HUNG = 5
SETTLE_S = 2.0
ROOT = Path(__file__).resolve().parents[2]
_T0 = time.monotonic()


class Plan(NamedTuple):
    """How much is measured."""

    peers: list[str]
    rounds: int
    kills: int  # of each side, in a round
    storms: int
    idle_s: float
    readopts: int
    real: bool


SPARES_S = 1.2  # after this the next sandbox of whoever was started again is made
QUICK = Plan(peers=["runit", "runit, bare"], rounds=6, kills=8, storms=2, idle_s=6, readopts=2, real=False)
FULL = Plan(peers=list(PEERS), rounds=9, kills=11, storms=3, idle_s=40, readopts=5, real=True)


def say(text: str) -> None:
    """Progress goes to stderr, so that stdout is only the result."""
    print(f"[{time.monotonic() - _T0:.1f}] {text}", file=sys.stderr, flush=True)


class Bench:
    """relit and its peers, side by side."""

    def __init__(self, folder: Path, plan: Plan, stack: ExitStack) -> None:
        self.plan = plan
        self.folder = folder
        self.stack = stack
        self.bells = Bells(folder / "bells")
        (folder / "bin").mkdir()
        self.child = compiled(folder / "bin")
        self.relit = Relit(folder / "relit", self.child, self.bells, COUNT, BOXED)
        self.found: dict[str, float | None] = {}
        self.memory: dict[str, float] = {}
        self.sides = [
            Side("relit", self.relit.names, self._rung),
            Side("relit, sandboxed", self.relit.boxed_names, self.relit.pids, SPARES_S),
        ]

    def _rung(self, names: Any) -> dict[str, int]:
        return {name: self.bells.last[name].pid for name in names}

    def alone(self) -> None:
        """What the daemon costs by itself, before there is anything else to look after."""
        self.stack.callback(self.relit.stop)
        self.relit.start(self.relit.plain[:1])
        self.relit.ready(self.relit.names[:1])
        time.sleep(SETTLE_S)
        small = pss_kb(self.relit.processes())
        self.relit.apply(self.relit.plain)
        self.relit.ready(self.relit.names)
        time.sleep(SETTLE_S)
        whole = pss_kb(self.relit.processes())
        self.memory["relit"] = self.found["daemon_pss_mb"] = whole / 1024
        self.found["pss_per_agent_kb"] = (whole - small) / (COUNT - 1)
        say(f"memory: {whole / 1024:.1f} MB with {COUNT} agents, {small / 1024:.1f} MB with one")

    def idle(self) -> None:
        """CPU of the daemon while it asks every agent whether it lives, and nothing happens."""
        daemon = self.relit.processes()
        began, before = time.monotonic(), cpu_s(daemon)
        time.sleep(self.plan.idle_s)
        self.found["idle_cpu_pct"] = (cpu_s(daemon) - before) / (time.monotonic() - began) * 100
        say(f"idle: {self.found['idle_cpu_pct']:.2f} % of a core")

    def start_peers(self) -> None:
        """Those that are installed."""
        for name in self.plan.peers:
            if not installed(name):
                say(f"{name} is left out: bench/setup.py node installs it")
                continue
            count = BARE if name == "runit, bare" else COUNT
            peer = PEERS[name](name, self.folder, self.child, self.bells, count)
            peer.start()
            self.stack.callback(self._stop, peer)
            if count == COUNT:
                self.memory[name] = daemon_pss_mb(peer.pid, {self.bells.last[each].pid for each in peer.names})
            self.sides.append(Side(name, peer.names, self._rung))
            say(f"{name}: {count} children")

    def _stop(self, peer: Any) -> None:
        pidfds = watched(descendants(peer.pid))
        peer.stop()
        gone(pidfds, 0)

    def restarts(self) -> list[dict[str, float]]:
        """Killed one by one. Meanwhile some agents hang, and are to be found."""
        self.relit.apply(self.relit.plain + self.relit.boxed)
        self.relit.ready(self.relit.boxed_names)
        kills = Kills(self.bells)
        hung = self.relit.hang(self.relit.names[-HUNG:])
        sides = [side._replace(names=side.names[:-HUNG]) if side.name == "relit" else side for side in self.sides]
        found = interleaved(sides, lambda side: p50(kills.one_by_one(side, self.plan.kills)), self.plan.rounds)
        self.found["restart_p50_ms"] = verdict.middle(found, "relit")
        self.found["restart_sandboxed_p50_ms"] = verdict.middle(found, "relit, sandboxed")
        self.found["ratio_restart_runit"] = verdict.ratio(found, "relit", "runit")
        self.found["ratio_restart_runit_bare"] = verdict.ratio(found, "relit", "runit, bare")
        say(f"restarts: {[{name: round(each, 2) for name, each in one.items()} for one in found]}")
        self.found["hang_found_s"] = hung()
        self.relit.ready(self.relit.names)
        say(f"hang: {self.found['hang_found_s']:.1f} s")
        return found

    def storms(self) -> list[dict[str, float]]:
        """All killed at once."""
        kills = Kills(self.bells)
        sides = [side for side in self.sides if len(side.names) == COUNT]
        found = interleaved(sides, kills.storm, self.plan.storms)
        self.found["storm_s"] = verdict.best(found, "relit")
        say(f"storms: {[{name: round(each, 2) for name, each in one.items()} for one in found]}")
        return found

    def readopt(self) -> None:
        """Node and keeper killed."""
        self.relit.apply(self.relit.plain)
        found = []
        for _ in range(self.plan.readopts):
            self.relit.ready(self.relit.names)
            found.append(self.relit.readopted())
        self.found["readopt_s"] = min(each for each, _ in found)
        self.found["readopt_with_start_s"] = min(each for _, each in found)
        say(f"readopt: {[tuple(round(value, 3) for value in each) for each in found]}")


def run(folder: Path, plan: Plan) -> dict[str, Any]:
    """All parts; answers every key of the last line."""
    with ExitStack() as stack:
        bench = Bench(folder, plan, stack)
        bench.alone()
        bench.idle()
        bench.start_peers()
        restarts = bench.restarts()
        storms = bench.storms()
        bench.readopt()
    names = [side.name for side in bench.sides]
    print(verdict.sides(names, restarts, storms, bench.memory), end="\n\n")
    if plan.real:
        bench.found |= real()
    figures: dict[str, Any] = {key: verdict.short(bench.found.get(key)) for key in (*verdict.BOUNDS, *bench.found)}
    return figures | {"medians": {name: verdict.medians(name, restarts, storms) for name in names}}


def real() -> dict[str, float]:
    """What is measured with a real agent, by a process of its own: nothing else runs then."""
    done = subprocess.run([sys.executable, "-m", "bench.node.real"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit("the part with a real OpenClaw failed")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    say(f"OpenClaw: {found}")
    return found


def main() -> int:
    """0 when every promise that was measured is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("QUICK")))
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="relit-bench-node-") as name:
        result = run(Path(name), QUICK if given.quick else FULL)
    result |= {"quick": given.quick, "load": [round(load, 1), round(os.getloadavg()[0], 1)], "cpus": os.cpu_count()}
    result |= {"kernel": platform.release(), "seconds": round(time.monotonic() - _T0, 1)}
    print(verdict.promises(result), end="\n\n")
    print(json.dumps(result))
    return 1 if verdict.missed(result) else 0


if __name__ == "__main__":
    sys.exit(main())
