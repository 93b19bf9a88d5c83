"""A node with its agents on a small machine, as the benchmark sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from bench.memory.machine import Machine

from relit.control.values import Backoff, Demand, InstanceSpec, InstanceStatus, Parking, Probe
from relit.node import parked, record

PROGRAMS = Path(__file__).with_name("programs.py")
QUICKLY = Backoff(first_ms=200, most_ms=500)
LOOK_S = 0.01
KEEP = Parking()


class House:
    """``specs`` are started with it."""

    def __init__(self, folder: Path, machine: Machine | None) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.run_dir.mkdir(parents=True, mode=0o700)
        self._machine = machine
        self._specs, self._events, self._busy = (folder / name for name in ("specs.json", "events.jsonl", "busy.json"))
        self._events.touch()
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def spec(
        self, name: str, *words: object, priority: int = 50, parking: Parking = KEEP, ready: Probe | None = None,
        peak: int = 0, cpu_s: float = 0.0, of: str = "",
    ) -> InstanceSpec:  # fmt: skip
        """A program of the benchmark's."""
        place = self.folder / name
        place.mkdir(mode=0o700, exist_ok=True)
        return InstanceSpec(
            name=name, argv=[sys.executable, "-I", str(PROGRAMS), *map(str, words)], env={"PATH": os.environ["PATH"]},
            hold=str(place / "hold"), ready=ready, backoff=QUICKLY, parking=parking, grace_ms=2000,
            demand=Demand(of=of or name, priority=priority, peak=peak, settled=peak, cpu_s=cpu_s),
        )  # fmt: skip

    def start(self, specs: Sequence[InstanceSpec]) -> None:
        """The node, in the machine."""
        self._specs.write_bytes(msgspec.json.encode(specs))
        words = [sys.executable, "-m", "bench.memory.daemon", self.run_dir, self._specs, self._events, self._busy]
        enter: Callable[[], None] | None = self._machine.enter if self._machine is not None else None
        self._process = subprocess.Popen(list(map(str, words)), preexec_fn=enter)
        self.pid = self._process.pid

    def start_more(self, specs: Sequence[InstanceSpec]) -> None:
        """Those that are new start, the others stay."""
        self._specs.write_bytes(msgspec.json.encode(specs))
        assert self._process is not None, "it runs"
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Everything."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def busy(self, names: Iterable[str]) -> None:
        """Who has something to do from now on."""
        fresh = self._busy.with_suffix(".new")
        fresh.write_text(json.dumps(sorted(names)))
        os.replace(fresh, self._busy)

    def status(self) -> dict[str, InstanceStatus]:
        """By name, as the node last wrote it down."""
        found = record.read(self.run_dir)
        return {each.name: each for each in found.instances} if found else {}

    def events(self) -> list[dict[str, Any]]:
        """Everything so far."""
        lines = self._events.read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def named(self, name: str, since: float = 0.0) -> list[dict[str, Any]]:
        """The events of that name since then."""
        return [each for each in self.events() if each["name"] == name and each["t"] >= since]

    def place(self, name: str) -> Path:
        """The file that says that it is parked."""
        return parked.beside(str(self.folder / name / "hold"))

    def wake(self, name: str) -> bool:
        """As a message does."""
        return parked.wake(self.place(name))

    def until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """TimeoutError."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"{what} did not come in {seconds:.0f} s: {str(self.status())[:400]}")
            time.sleep(LOOK_S)

    def all_in(self, names: Sequence[str], *states: str) -> bool:
        """Whether all of them are in one of these states."""
        now = self.status()
        return all(name in now and now[name].state in states for name in names)


@contextmanager
def house(folder: Path, machine: Machine | None) -> Iterator[House]:
    """Stopped at the end."""
    made = House(folder, machine)
    try:
        yield made
    finally:
        made.stop()
