"""What the memory semaphore does: ``python -m bench.memory.main``. A memory cgroup plays the node's machine (v1, root).

The last line printed is one JSON object; a missed promise ends it with exit code 1. ``QUICK=1`` is the short form.
Agents are programs with a heap; those of the density are a third of OpenClaw's size in the short form. The full form
also has real OpenClaws, and takes three quarters of an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench.memory import claws, rounds, verdict
from bench.memory.machine import swap_file

from relit.pressure.footprint import MB

_T0 = time.monotonic()


class Plan(NamedTuple):
    """How much is measured."""

    hogs: int
    starts: int
    fits: int
    start_mb: int
    start_s: float
    machine_mb: int
    heaps: int
    heap_mb: int
    turns: int
    pause_s: float
    meter_s: float
    claws: int = 0  # real OpenClaws
    claw_minutes: float = 0.0


QUICK = Plan(6, 8, 3, 80, 1.5, 900, 5, 240, 6, 0.1, 3)
FULL = Plan(30, 60, 12, 100, 6.0, 4096, 25, 1200, 60, 1.0, 30, 25, 12)
CLAW_MB = 1300  # at most, each


def say(text: str) -> None:
    """Progress goes to stderr, so that stdout is only the result."""
    print(f"[{time.monotonic() - _T0:.1f}] {text}", file=sys.stderr, flush=True)


def measured(folder: Path, plan: Plan, quick: bool) -> dict[str, Any]:
    """All of it."""
    found: dict[str, Any] = {"openclaw_in_4g": None}
    limit = 1500 * MB
    found["kernel_alone_oom_kills"] = rounds.hog_alone(folder, limit, 2 if quick else 10)
    say(f"a hog beside ten agents, nobody watches: {found['kernel_alone_oom_kills']} OOM kills")
    found |= rounds.hog_earlyoom(limit, plan.hogs)
    if "earlyoom_oom_kills" in found:
        say(f"earlyoom: {found['earlyoom_oom_kills']} OOM kills, right victim {found['earlyoom_right_victim']:.2f}")
    found |= rounds.hog(folder / "hog", limit, plan.hogs)
    say(f"relit: {found['oom_kills']} OOM kills, right victim {found['right_victim']:.2f}")
    found |= rounds.meter(folder / "meter", 100, plan.meter_s)
    say(f"the meter: {found['meter_cpu_pct']:.2f} % of a core with 100 agents")
    found |= rounds.storm(folder / "storm", plan.starts, plan.fits, plan.start_mb, plan.start_s)
    say(f"{plan.starts} starts where {plan.fits} fit: {found['start_storm_efficiency']:.2f} of what the CPU allows")
    found |= dense(folder, plan, quick)
    return found | real(folder, plan) if plan.claws else found


def real(folder: Path, plan: Plan) -> dict[str, Any]:
    """OpenClaws: frozen with swap, and awake without."""
    limit = plan.machine_mb * MB
    with swap_file(folder, plan.claws * CLAW_MB * MB) as swap:
        if not swap:
            return {"swap": "none can be switched on here"}
        found = claws.density(folder / "claws", limit, plan.claws, plan.claw_minutes, say)
    say(f"{found['claw_answered']} of {found['claw_asked']} messages answered by {plan.claws} OpenClaws")
    awake = claws.awake(folder / "awake", limit, plan.claws // 2, say)
    say(f"awake, without swap: {awake}")
    ratio = round(found["openclaw_in_4g"] / max(1, awake), 2)
    return found | {"openclaw_stock": awake, "ratio_density_stock": ratio}


def dense(folder: Path, plan: Plan, quick: bool) -> dict[str, Any]:
    """With a swap file, which is switched off again."""
    limit, need = plan.machine_mb * MB, (plan.heaps * plan.heap_mb * 3 // 2 + 512) * MB
    found: dict[str, Any] = {"machine_mb": plan.machine_mb, "heap_mb": plan.heap_mb}
    with swap_file(folder, need) as swap:
        if not swap:
            return found | {"swap": "none can be switched on here"}
        found |= rounds.density(folder / "dense", limit, plan.heaps, plan.heap_mb, plan.turns, plan.pause_s)
        say(f"{plan.heaps} agents of {plan.heap_mb} MB in {plan.machine_mb} MB: wake {found['wake_frozen_p50_ms']} ms")
        if not quick:
            found |= against_the_kernel(folder, plan, found["turn_p99_s"])
    alone = rounds.stock(folder, limit, plan.heap_mb)
    say(f"awake, without swap: {alone}")
    return found | {"stock": alone, "ratio_density_stock": round(plan.heaps / max(1, alone), 2)}


def against_the_kernel(folder: Path, plan: Plan, slowest: float) -> dict[str, Any]:
    """How many the kernel's own swapping holds whose slowest answer is no slower than ours."""
    tried: dict[int, float] = {}
    for count in (plan.heaps, plan.heaps * 3 // 4, plan.heaps // 2, plan.heaps // 4):
        limit = plan.machine_mb * MB
        tried[count] = rounds.stock_swap(folder, limit, count, plan.heap_mb, plan.turns, plan.pause_s)
        say(f"{count} awake, the kernel swaps: slowest answer {tried[count]:.2f} s (ours {slowest:.2f})")
        if tried[count] <= slowest:
            return {"stock_swap": tried, "ratio_density_stock_swap": round(plan.heaps / count, 2)}
    return {"stock_swap": tried, "ratio_density_stock_swap": None}


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("QUICK")))
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="relit-bench-") as name:
        found = measured(Path(name), QUICK if quick else FULL, quick)
    found |= {
        "quick": quick, "cpus": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[:2],
        "seconds": round(time.monotonic() - _T0, 1),
        "systemd_oomd": "left out: it needs cgroup v2 and systemd, and a machine that is a v1 cgroup has neither",
    }  # fmt: skip
    print(verdict.promises(found), file=sys.stderr)
    print(json.dumps(found))
    return 1 if verdict.missed(found) else 0


if __name__ == "__main__":
    sys.exit(main())
