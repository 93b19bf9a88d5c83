"""The measurements, one function each."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from bench.memory import earlyoom
from bench.memory.house import LOOK_S, PROGRAMS, House, house
from bench.memory.machine import Machine, machine
from bench.node.processes import cpu_s, free_ports, pss_kb

from relit.control.values import InstanceSpec, Parking, Probe
from relit.pressure.footprint import MB
from relit.pressure.shedding import KILLED_S

STOP, FREEZE = Parking(then="stop", wakes=True), Parking(then="freeze", wakes=True, after_ms=1500)
HOLDS_MB = 40
HOG_S = 20.0


# --- a hog ------------------------------------------------------------------------------------------------------------


def hog_alone(folder: Path, limit: int, rounds: int) -> int:
    """What the kernel does without anybody: OOM kills in so many rounds of ten agents and a hog."""
    with machine("alone", limit) as small:
        agents = [_plain(small, "hold", HOLDS_MB) for _ in range(10)]
        for _ in range(rounds):
            hog = _plain(small, "hog")
            try:
                hog.wait(HOG_S)
            except subprocess.TimeoutExpired:
                hog.kill()
        kills = small.oom_kills()
        for each in agents:
            each.kill()
            each.wait()
    return kills


def hog_earlyoom(limit: int, rounds: int) -> dict[str, Any]:
    """The same with earlyoom; nothing where it is not to be had."""
    with machine("earlyoom", limit) as small:
        if (words := earlyoom.command(limit, rounds, HOLDS_MB, small.place / "memory.oom_control")) is None:
            return {}
        done = subprocess.run(words, preexec_fn=small.enter, capture_output=True, text=True)
    if done.returncode:
        return {"earlyoom": f"does not run here: {done.stderr.strip()[-300:]}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _plain(small: Machine, *words: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", str(PROGRAMS), *map(str, words)], preexec_fn=small.enter, stderr=subprocess.DEVNULL
    )


def hog(folder: Path, limit: int, rounds: int) -> dict[str, Any]:
    """Ten agents at work, and one that takes all that there is, again and again."""
    agents = [f"agent-{number}" for number in range(10)]
    with machine("hog", limit) as small, house(folder, small) as home:
        specs = [home.spec(name, "hold", HOLDS_MB, priority=50 + 4 * at) for at, name in enumerate(agents)]
        home.busy([*agents, "hog"])
        home.start(specs)
        home.until(lambda: home.all_in(agents, "ready"), 30, "the agents")
        time.sleep(2)
        right, took = 0, []
        home.start_more(specs := [*specs, home.spec("hog", "hog", priority=10, parking=STOP)])
        for number in range(rounds):
            since = time.monotonic()
            if number:
                home.wake("hog")
            home.until(lambda: home.named("instance.parked", since), HOG_S, "a parking")  # noqa: B023 - used at once
            time.sleep(2 * KILLED_S)
            victims = [each["instance"] for each in home.named("instance.parked", since)]
            right += victims == ["hog"]
            took += [each["t"] - since for each in home.named("instance.died", since)][:1]
        lost = [each["instance"] for each in home.named("instance.died") if each["instance"] != "hog"]
        return {
            "oom_kills": small.oom_kills(), "protected_lost": len(lost), "right_victim": right / rounds,
            "hog_rounds": rounds, "hog_lived_s": round(median(took), 3) if took else None,
        }  # fmt: skip


# --- many starts at once ----------------------------------------------------------------------------------------------


def storm(folder: Path, count: int, fits: int, size_mb: int, seconds: float) -> dict[str, Any]:
    """``count`` starts at once where ``fits`` have room: idle ones make way. Efficiency: of what the CPU could do."""
    limit = (size_mb * fits + 700) * MB
    names = [f"start-{number:02}" for number in range(count)]
    with machine("storm", limit) as small, house(folder, small) as home:
        specs: list[InstanceSpec] = []
        for at, name in enumerate(names):
            ready = folder / name / "ready"
            specs.append(home.spec(
                name, "work", size_mb, seconds, ready, priority=60 - at * 20 // count, parking=STOP,
                ready=Probe(kind="file", target=str(ready), every_ms=100), peak=(size_mb + 12) * MB, cpu_s=seconds,
                of="start",
            ))  # fmt: skip
        began = time.monotonic()
        home.start(specs)
        home.until(lambda: len({each["instance"] for each in home.named("instance.ready")}) == count, 600, "all starts")
        took = time.monotonic() - began
        order = [each["instance"] for each in home.named("instance.started")]
        first = list(dict.fromkeys(order))
        inversions = sum(first.index(a) > first.index(b) + fits for a, b in zip(names, names[fits + 2 :], strict=False))
        ideal = count * seconds / (os.cpu_count() or 1)
        return {
            "start_storm_efficiency": round(ideal / took, 3), "storm_starts": count, "storm_fits": fits,
            "storm_s": round(took, 1), "storm_oom_kills": small.oom_kills(), "storm_out_of_order": inversions,
            "storm_started_again": len(order) - count,
        }  # fmt: skip


# --- frozen ones ------------------------------------------------------------------------------------------------------


def density(folder: Path, limit: int, count: int, heap_mb: int, turns: int, pause_s: float) -> dict[str, Any]:
    """``count`` agents with heaps on a machine that holds few of them; each message wakes one. With swap."""
    names = [f"heap-{number:02}" for number in range(count)]
    ports = dict(zip(names, free_ports(count), strict=True))
    chance = Random(7)
    with machine("density", limit) as small, house(folder, small) as home:
        home.busy([])
        home.start([
            home.spec(
                name, "heap", heap_mb, ports[name], parking=FREEZE, peak=(heap_mb + 12) * MB, cpu_s=0.5, of="heap",
                ready=Probe(kind="http", target=f"http://127.0.0.1:{ports[name]}/", every_ms=200),
            ) for name in names
        ])  # fmt: skip
        home.until(lambda: home.all_in(names, "ready", "frozen", "stopped"), 300, "all agents")
        home.until(lambda: home.all_in(names, "frozen"), 120, "all frozen")
        time.sleep(3)
        resident = [pss_kb([each.pid or 0]) / 1024 for each in home.status().values()]
        wakes, answers = [], []
        for _ in range(turns):
            home.until(lambda: _frozen(home), 60, "a frozen one")
            woke, answered = _turn(home, chance.choice(_frozen(home)), ports)
            wakes.append(woke)
            answers.append(answered)
            time.sleep(pause_s * 2 * chance.random())
        return {
            "agents": count, "frozen_mb": round(median(resident), 1),
            "wake_frozen_p50_ms": round(median(wakes) * 1000, 1),
            "turn_p50_s": round(median(answers), 3), "turn_p99_s": round(sorted(answers)[-1], 3),
            "density_oom_kills": small.oom_kills(), "died": len(home.named("instance.died")), "answered": len(answers),
        }  # fmt: skip


def _frozen(home: House) -> list[str]:
    """As nearly all of those are that get a message every ten minutes."""
    return [name for name, each in home.status().items() if each.state == "frozen"]


def _turn(home: House, name: str, ports: dict[str, int]) -> tuple[float, float]:
    """(seconds to its first answer, seconds to the end of a turn)."""
    home.busy([name])
    began = time.monotonic()
    home.wake(name)
    while not _asked(ports[name], "GET"):
        time.sleep(LOOK_S)
    woke = time.monotonic() - began
    assert _asked(ports[name], "POST"), "it answers"
    took = time.monotonic() - began
    home.busy([])
    return woke, took


def _asked(port: int, method: str) -> bool:
    way = http.client.HTTPConnection("127.0.0.1", port, timeout=60 if method == "POST" else 0.5)
    try:
        way.request(method, "/")
        return way.getresponse().read() == b"ok"
    except OSError:
        return False
    finally:
        way.close()


def stock(folder: Path, limit: int, heap_mb: int) -> int:
    """How many such agents the machine holds when all are awake and there is no swap, until the kernel kills one."""
    with machine("stock", limit) as small:
        awake: list[subprocess.Popen[bytes]] = []
        try:
            while small.oom_kills() == 0:
                port = free_ports(1)[0]
                made = _plain(small, "heap", heap_mb, port)
                awake.append(made)
                while made.poll() is None and not _asked(port, "GET"):
                    time.sleep(0.05)
            return len(awake) - 1
        finally:
            for each in awake:
                each.kill()
                each.wait()


def stock_swap(folder: Path, limit: int, count: int, heap_mb: int, turns: int, pause_s: float) -> float:
    """The slowest answer of as many agents, all awake, where the kernel swaps as it likes."""
    chance = Random(7)
    ports = free_ports(count)
    with machine("swapped", limit) as small, ThreadPoolExecutor(4) as crowd:
        awake = [_plain(small, "heap", heap_mb, port) for port in ports]
        try:
            list(crowd.map(_until_up, ports))
            answers = []
            for _ in range(turns):
                began = time.monotonic()
                assert _asked(chance.choice(ports), "POST"), "it answers"
                answers.append(time.monotonic() - began)
                time.sleep(pause_s * 2 * chance.random())
            return round(sorted(answers)[-1], 3)
        finally:
            for each in awake:
                each.kill()
                each.wait()


def _until_up(port: int) -> None:
    while not _asked(port, "GET"):
        time.sleep(0.1)


# --- the meter --------------------------------------------------------------------------------------------------------


def meter(folder: Path, count: int, seconds: float) -> dict[str, Any]:
    """CPU of a node with ``count`` sleepers: with its semaphore, and with its looks left out."""
    shares = []
    for name, plan in (("looks", ""), ("blind", "1")):
        os.environ["RELIT_BENCH_BLIND"] = plan
        with house(folder / name, None) as home:
            specs = [home.spec(f"sleeper-{number}", "hold", 1) for number in range(count)]
            home.start(specs)
            home.until(lambda: home.all_in([each.name for each in specs], "ready"), 60, "the sleepers")  # noqa: B023
            time.sleep(6)
            before, began = cpu_s([home.pid]), time.monotonic()
            time.sleep(seconds)
            shares.append((cpu_s([home.pid]) - before) / (time.monotonic() - began) * 100)
    return {"meter_cpu_pct": round(max(0.0, shares[0] - shares[1]), 3), "node_idle_cpu_pct": round(shares[0], 3)}
