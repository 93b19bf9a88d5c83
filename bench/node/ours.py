"""relit's keeper and node, as `relit up` starts them, with agents that are the benchmark's child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from bells import Bells
from processes import free_ports, gone, until, watched

from relit.control.box import Box
from relit.control.care import Care
from relit.control.values import Backoff, InstanceSpec, InstanceStatus, Probe
from relit.node import record, status

HERE = Path(__file__).resolve().parent
STABLE_MS = 200  # a life so long is stable, so that the next restart is at once: the benchmark kills again and again
NOT_FOR_AGENTS = ("/etc/shadow", "/etc/gshadow", "/etc/ssh")


class Relit:
    """One run folder. Agents are ``relit-0`` …, those in a sandbox ``boxed-0`` …"""

    name = "relit"

    def __init__(self, folder: Path, child: Path, bells: Bells, count: int, boxed: int) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.run_dir.mkdir(parents=True, mode=0o700)
        self._child = child
        self._bells = bells
        self._specs = folder / "specs.json"
        ports = free_ports(count)
        self.plain = [self._spec(f"relit-{number}", port) for number, port in enumerate(ports)]
        self.boxed = [self._in_box(self._spec(f"boxed-{number}")) for number in range(boxed)]
        self.names = [spec.name for spec in self.plain]
        self.boxed_names = [spec.name for spec in self.boxed]
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher = ThreadPoolExecutor(1)

    def _spec(self, name: str, port: int = 0) -> InstanceSpec:
        """As a `command` agent has it, with a live probe where it has a port."""
        place = self.folder / "agents" / name
        for part in ("home", "tmp", "log"):
            (place / part).mkdir(parents=True, mode=0o700)
        return InstanceSpec(
            name=name,
            argv=[str(self._child), str(self._bells.path), name, *([str(port)] if port else [])],
            env={"PATH": os.environ["PATH"]},
            log=str(place / "log" / "raw.log"),
            live=[Probe(kind="http", target=f"http://127.0.0.1:{port}/")] if port else [],
            backoff=Backoff(stable_ms=STABLE_MS),
            hold=str(place / "hold"),
            care=Care(agent=name, kind="command", home=str(place / "home"), tmp=str(place / "tmp")),
            record=str(place / "incidents"),
        )

    def _in_box(self, spec: InstanceSpec) -> InstanceSpec:
        assert spec.care is not None, "_spec gives it"
        box = Box(
            home=spec.care.home,
            tmp=spec.care.tmp,
            read=[str(self._child.parent)],
            write=[str(self._bells.path.parent)],
            hide=[str(self.folder), *(each for each in NOT_FOR_AGENTS if os.access(each, os.R_OK))],
        )
        return msgspec.structs.replace(spec, box=box)

    # --- life --------------------------------------------------------------------------------------------------

    def start(self, specs: Sequence[InstanceSpec]) -> None:
        """Start the node, and the keeper with it; what already runs is adopted."""
        self._write(specs)
        with open(self.folder / "daemon.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "daemon.py"), str(self.run_dir), str(self._specs)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def apply(self, specs: Sequence[InstanceSpec]) -> None:
        """Change what is wanted."""
        self._write(specs)
        os.kill(self.node, signal.SIGHUP)

    def _write(self, specs: Sequence[InstanceSpec]) -> None:
        self._specs.write_bytes(msgspec.json.encode(list(specs)))

    def stop(self) -> None:
        """Everything, in good order."""
        if self._process is None:
            return
        self._process.terminate()
        if self._process.wait(60) != 0:
            raise SystemExit(f"the node did not end well: {self.told()}")

    def kill(self) -> None:
        """Node and keeper together, with no warning."""
        both = self.processes()
        for pid in both:
            os.kill(pid, signal.SIGKILL)
        assert self._process is not None, "it was started"
        self._process.wait()
        until(lambda: not os.path.exists(f"/proc/{both[1]}"), "the keeper was killed and is still there")

    # --- looking -----------------------------------------------------------------------------------------------

    @property
    def node(self) -> int:
        """The node's pid."""
        assert self._process is not None, "it was started"
        return self._process.pid

    def processes(self) -> list[int]:
        """The daemon: node and keeper."""
        keeper = status.read(self.run_dir, timeout_s=10).keeper
        if keeper is None:
            raise SystemExit(f"no keeper answers: {self.told()}")
        return [self.node, keeper]

    def seen(self) -> dict[str, InstanceStatus]:
        """What this node last wrote of each instance; nothing while the record is an earlier node's."""
        known = record.read(self.run_dir)
        if known is None or known.process.pid != self.node:
            return {}
        return {each.name: each for each in known.instances}

    def pids(self, names: Sequence[str]) -> dict[str, int]:
        """Those of them that are ready."""
        seen = self.seen()
        ready = {name: seen[name] for name in names if name in seen and seen[name].state == "ready"}
        return {name: each.pid for name, each in ready.items() if each.pid}

    def ready(self, names: Sequence[str]) -> None:
        """Wait until all are, and heard."""
        until(lambda: len(self.pids(names)) == len(names), f"not all agents became ready: {self.told()}", every_s=0.002)
        self._bells.until(names)

    def told(self) -> str:
        """Its log's end."""
        return (self.folder / "daemon.log").read_text(errors="replace")[-2000:]

    # --- measured ----------------------------------------------------------------------------------------------

    def hang(self, names: Sequence[str]) -> Callable[[], float]:
        """Stop some agents by a signal; the answer waits for their ends and answers how long the last one took."""
        pids = list(self.pids(names).values())
        pidfds, since = watched(pids), time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        ends = self._watcher.submit(gone, pidfds, since)

        def found() -> float:
            took = max(ends.result())
            self._bells.until(names, round(since * 1e9))
            return took

        return found

    def readopted(self) -> tuple[float, float]:
        """Kill node and keeper and start a new node: seconds until all agents are watched again, from its first own
        instruction and from its process's start."""
        before = self.pids(self.names)
        assert len(before) == len(self.names), "all are ready"
        self.kill()
        started = time.monotonic_ns()
        self.start(self.plain)
        self.ready(self.names)
        now = time.monotonic_ns()
        if self.pids(self.names) != before:
            raise SystemExit("some agents were started anew instead of adopted")
        began = int((self.run_dir / "began").read_text())
        return (now - began) / 1e9, (now - started) / 1e9
