"""The node: keeps this machine's instances alive, with or without a server."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from relit.control.base import Control
from relit.control.care import Incident
from relit.control.values import Desired, InstanceSpec, InstanceState, InstanceStatus, NodeInfo, Probe
from relit.drivers.base import Driver, Life
from relit.errors import Conflict, RelitError
from relit.lib import proc
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.lib.service import Tasks
from relit.node import record
from relit.node.claim import Claim
from relit.node.deadman import DeadMan
from relit.node.disk import Disk
from relit.node.gate import Gate
from relit.node.gauge import Gauge, GaugeFile
from relit.node.healing import Healing
from relit.node.holds import Holds
from relit.node.incidents import Incidents
from relit.node.instance import Instance
from relit.node.ladder import fault, over
from relit.node.learning import Learning
from relit.node.link import Link
from relit.node.listener import Listener
from relit.node.logs import Logs
from relit.node.oom import OURS, OomLog, rank
from relit.node.pools import Pools
from relit.node.redact import telling
from relit.node.roll import Roll
from relit.node.semaphore import Semaphore
from relit.node.share import Share
from relit.node.storm import Faults, Tokens
from relit.node.trouble import UNWANTED, forsaken, left_open
from relit.pressure.admission import Room
from relit.pressure.meter import Meter, cores

_LOG = logging.getLogger(__name__)
FLUSH_S = 1.0


class Node:
    """Watches, decides, heals. ``specs`` are its own instances; the server may want more (``Control.desired``).

    ``stop`` ends the instances too, ``detach`` leaves them to the next node. One node per ``run_dir``. ``room``: how
    much memory there is, ``reserve``: how many bytes of it starts leave free, ``most``: how many all agents may hold.
    ``ping`` is asked as long as the instance ``speaker``, which tells people of troubles, is not away for long.
    """

    def __init__(
        self,
        control: Control,
        driver: Driver,
        specs: Sequence[InstanceSpec],
        *,
        run_dir: Path,
        chance: Random,
        clock: Clock = SYSTEM_CLOCK,
        name: str = "local",
        logs: Logs | None = None,
        ping: Probe | None = None,
        speaker: str = "",
        room: Callable[[], Room] | None = None,
        reserve: int = 0,
        most: int | None = None,
    ) -> None:
        self._control = control
        self._driver = driver
        self._own = list(specs)
        self._dir = run_dir
        self._chance = chance
        self._clock = clock
        self._name = name
        self._instances: dict[str, Instance] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        before = record.read(run_dir)
        self._desired = before.desired if before else Desired()
        self._histories = before.histories if before and before.process.boot == proc.boot_id() else {}
        self._link = Link(control, clock, info=self.info, wanted=self._want)
        self._healing = Healing(control, driver, clock, calm=lambda: self.semaphore.pressure.level == "green")
        self._logs = logs
        self.deadman = None if ping is None else DeadMan(ping, lambda: self._state_of(speaker), clock)
        self._incidents = Incidents(self._link.incident, logs)
        self._tokens = Tokens(clock)
        self._roll = Roll()
        known = before.footprints if before else {}
        self._oom = OomLog()
        room = room or Meter().room
        self._claim = Claim(clock) if most is None else None
        if most is not None:
            room = Share(room, most, self._mains, clock).room
        self._gate = Gate(
            room, clock, reserve=lambda: self.semaphore.reserve(), at_once=cores(), known=known,
            changed=self._changed,
        )  # fmt: skip
        self.semaphore = Semaphore(
            room, clock, self._gate, reserve=reserve, instances=lambda: self._instances.values(),
            snapshot=control.known_good, activity=control.activity, note=self._note, tell=self._tell_gauge,
            sample=self._oom.sample,
        )  # fmt: skip
        self._pools = Pools(clock, lambda: self._instances.values(), self.semaphore.census)
        self._disk = Disk(run_dir, run_dir.parent / "agents", self._note)
        self._tasks = Tasks(self._failed)
        self._holds = Holds()
        self._gauge: GaugeFile | None = None
        self._applying = asyncio.Lock()
        self._ended = asyncio.Event()
        self._fault: BaseException | None = None
        self._stopping = False
        self._unwritten = False
        self._taken_at = self._read_at = self._refused_at = 0.0
        self._refused = ""
        self._lock: int | None = None
        self.trouble = ""  # the node's own last trouble: a fault, a record that could not be written

    # --- service -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take over what runs, start what does not. Raises ``Conflict`` when another node has the folder."""
        self._take_lock()
        try:
            await self._control.start()
            found = await self._driver.lives()
        except BaseException:
            self._release_lock()
            raise
        rank(os.getpid(), OURS)
        self._holds.start(self._tasks)
        if self._logs is not None:
            self._logs.start(self._tasks)
        self._gauge = GaugeFile(self._dir)
        self.semaphore.look()
        await self._apply(found)
        for incident, folder in await asyncio.to_thread(self._forsaken):
            self._incidents.change(incident, str(folder))
        self._tasks.spawn(self._roll.run(), "node-roll")
        self._tasks.spawn(self._gate.run(), "node-gate")
        self._tasks.spawn(self.semaphore.run(), "node-semaphore")
        self._tasks.spawn(self._pools.run(), "node-pools")
        self._tasks.spawn(self._disk.run(), "node-disk")
        self._tasks.spawn(self._incidents.run(), "node-incidents")
        if self.deadman is not None:
            self._tasks.spawn(self.deadman.run(), "node-ping")
        self._tasks.spawn(self._link.deliver(), "node-deliver")
        self._tasks.spawn(self._link.follow(), "node-follow")
        self._tasks.spawn(Learning(self._control, self._gate).run(), "node-learning")

    async def wait(self) -> None:
        """Until the node has ended; raises what made it end by itself."""
        await self._ended.wait()
        if self._fault is not None:
            raise self._fault

    async def stop(self) -> None:
        """Stop every instance, highest order first, then the node."""
        if self._lock is None:
            return
        async with self._applying:
            self._stopping = True
            await self._stop_instances(list(self._instances))
        await self._incidents.flush()
        await self._link.flush(FLUSH_S)
        await self.detach()

    async def detach(self) -> None:
        """End the node and leave the instances running."""
        if self._lock is None:
            return
        await self._tasks.stop()
        if self._logs is not None:
            await self._logs.stop()
        self._holds.close()
        self._oom.close()
        if self._claim is not None:
            self._claim.close()
        if self._gauge is not None:
            self._gauge.close()
        await self._control.stop()
        self._ended.set()
        self._write()
        self._release_lock()

    def status(self) -> list[InstanceStatus]:
        """Every instance as the node sees it now."""
        return [instance.status for instance in self._instances.values()]

    def info(self) -> NodeInfo:
        """Who this node is."""
        return NodeInfo(
            name=self._name,
            process=proc.myself(),
            host=socket.gethostname(),
            instances=self.status(),
            dropped=self._link.dropped,
        )

    def hurry(self, name: str) -> None:
        """Start an instance that backs off at once."""
        self._instances[name].hurry()

    async def apply(self, specs: Sequence[InstanceSpec]) -> None:
        """Replace the node's own specs: new ones start, changed ones restart, missing ones stop. Returns when all have
        stopped that are to."""
        await self.take(specs)
        while self._leaving:
            await asyncio.wait(list(self._leaving.values()))

    async def take(self, specs: Sequence[InstanceSpec], *, read_at: float = 0.0) -> None:
        """The same, without waiting for those that finish what they do first. ``read_at``: when it was begun to read
        what they come from, by the monotonic clock; the record tells it when relit's own processes run with it."""
        self._own = list(specs)
        await self._apply(read_at=read_at)

    def refused(self, why: str, *, read_at: float) -> None:
        """New settings, which were begun to be read then, are not taken: the record tells whoever waits for that."""
        self._refused, self._refused_at = why, read_at
        self._changed()

    # --- wanted and running ------------------------------------------------------------------------------------

    async def _want(self, desired: Desired) -> None:
        self._desired = desired
        await self._apply()

    def _wanted(self) -> dict[str, InstanceSpec]:
        return {spec.name: spec for spec in (*self._desired.instances, *self._own)}

    async def _apply(self, found: Sequence[Life] = (), *, read_at: float | None = None) -> None:
        async with self._applying:
            if self._stopping:
                return
            wanted = self._wanted()
            for name, instance in self._instances.items():
                if wanted.get(name) != instance.spec and name not in self._leaving:
                    self._leaving[name] = self._tasks.spawn(self._leave(instance), f"leave-{name}")
            for name in {life.name for life in found} - wanted.keys():
                self._run(self._leftover(name), found).stop()
            for spec in sorted(wanted.values(), key=lambda spec: spec.order):
                if spec.name not in self._instances:
                    self._run(spec, found)
            if read_at is not None:  # not before it is known who has to leave for it
                self._taken_at = read_at
            self._changed()

    async def _leave(self, instance: Instance) -> None:
        """Stop one, which may take its whole grace and keeps nobody else waiting; then its successor begins, as wanted
        by then."""
        name = instance.spec.name
        instance.stop()
        await asyncio.wait([self._running[name]])
        async with self._applying:
            del self._leaving[name]
            if self._stopping:
                return
            del self._instances[name], self._running[name]
            self._holds.remove(instance.hold)
            if self._logs is not None:
                self._logs.remove(name)
            self._histories.pop(name, None)
            if (spec := self._wanted().get(name)) is not None:
                self._histories[name] = over(instance.history)  # a person has changed it
                self._run(spec, ())
            else:
                instance.trouble.over(UNWANTED)
            self._changed()

    def _forsaken(self) -> list[tuple[Incident, Path]]:
        """Incidents of those that were taken away while no node ran."""
        kept, now = {spec.record for spec in self._wanted().values()}, self._clock.now_ms()
        folders = [each for each in (self._dir.parent / "agents").glob("*/incidents") if str(each) not in kept]
        return [(incident, each) for each in folders if (incident := forsaken(each, now)) is not None]

    def _leftover(self, name: str) -> InstanceSpec:
        """Stands for a life that nobody wants any more, until it is stopped."""
        return InstanceSpec(name=name, argv=[])

    def _run(self, spec: InstanceSpec, found: Sequence[Life]) -> Instance:
        if self._logs is not None and spec.log:
            raw = Path(spec.log)
            self._logs.add(spec.name, raw, raw.with_name("out.log"), {*spec.secrets, *telling(spec.env)})

        def record(incident: Incident) -> None:
            self._incidents.change(incident, spec.record)

        async def drained() -> None:
            if self._logs is not None:
                await self._logs.drained(spec.name)

        lives = [life for life in found if life.name == spec.name]
        hold = self._holds.add(spec.hold, spec.park)
        hold.rest(self._pools.begin(spec.pool, runs=any(life.exit is None for life in lives)))
        instance = Instance(
            spec,
            self._driver,
            Listener(self._note, self._link.died, self._changed, record, drained),
            self._healing,
            self._tokens,
            self._roll,
            self._gate,
            self._oom,
            clock=self._clock,
            chance=self._chance,
            history=self._histories.get(spec.name),
            hold=hold,
            incident=left_open(Path(spec.record)) if spec.record else None,
        )
        self._instances[spec.name] = instance
        self._running[spec.name] = self._tasks.spawn(self._keep(instance, lives), f"instance-{spec.name}")
        return instance

    async def _keep(self, instance: Instance, found: Sequence[Life]) -> None:
        """Run an instance; a fault in our own code must not leave its process unwatched, nor a person untold."""
        faults = Faults()
        while True:
            try:
                return await instance.run(found)
            except Exception as error:  # noqa: BLE001 - whatever it is: it is shown, and the instance taken over anew
                self.trouble = f"{instance.spec.name}: {error!r}"
                _LOG.error("a fault at %s", instance.spec.name, exc_info=error)
                wait_s = faults.another(asyncio.get_running_loop().time())
                if faults.many:
                    instance.trouble.ended(fault(instance.history), "not-started", "", f"relit failed: {error!r}")
            await asyncio.sleep(wait_s)
            with contextlib.suppress(RelitError):  # then the next round finds it by its name
                found = [life for life in await self._driver.lives() if life.name == instance.spec.name]

    async def _stop_instances(self, names: Sequence[str]) -> None:
        def order(name: str) -> int:
            return self._instances[name].spec.order

        for _, together in groupby(sorted(names, key=order, reverse=True), order):
            batch = list(together)
            for name in batch:
                self._instances[name].stop()
            await asyncio.wait([self._running[name] for name in batch])

    # --- telling -----------------------------------------------------------------------------------------------

    def _note(self, name: str, data: dict[str, Any]) -> None:
        self._link.note(name, data)
        if name == "instance.ready":
            self._link.poke()

    def _state_of(self, name: str) -> InstanceState | None:
        instance = self._instances.get(name)
        return None if instance is None else instance.status.state

    def _mains(self) -> list[int]:
        """The main processes of all agents."""
        return [
            each.status.pid for each in self._instances.values() if each.spec.demand and each.status.pid is not None
        ]

    def _tell_gauge(self, gauge: Gauge) -> None:
        if self._gauge is not None:
            other = self._claim.other() if self._claim is not None else None
            self._gauge.write(msgspec.structs.replace(gauge, other=other, disk=self._disk.space))

    def _changed(self) -> None:
        """Something in the record is new: it is written once, when what happens now has happened."""
        if self.deadman is not None:
            self.deadman.look()
        if not self._unwritten:
            self._unwritten = True
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        self._unwritten = False
        if self._lock is None:
            return  # the folder may have another node by now
        histories = {name: instance.history for name, instance in self._instances.items()}
        if not any(self._instances[name].spec.hold is None for name in self._leaving):
            self._read_at = self._taken_at
        now = record.NodeRecord(
            process=proc.myself(),
            read_at=self._read_at,
            refused=self._refused,
            refused_at=self._refused_at,
            running=not self._ended.is_set(),
            instances=self.status(),
            histories=histories,
            footprints=self._gate.known,
            desired=self._desired,
            dropped=self._link.dropped,
            server=self._link.trouble,
            stop_ms=self._stop_ms(),
            trouble=self.trouble or (self._logs.trouble if self._logs is not None else ""),
        )
        try:
            record.write(self._dir, now)
        except OSError as error:  # a full disk must not keep the node from healing; the keeper knows who runs
            self.trouble = f"node.json: {error}"

    def _stop_ms(self) -> int:
        """The longest grace of each order, one after the other."""
        graces: dict[int, int] = {}
        for spec in (instance.spec for instance in self._instances.values()):
            graces[spec.order] = max(graces.get(spec.order, 0), spec.grace_ms)
        return sum(graces.values())

    def _failed(self, error: BaseException) -> None:
        self._fault = error
        self._ended.set()

    # --- one node per folder -----------------------------------------------------------------------------------

    def _take_lock(self) -> None:
        lock = os.open(self._dir / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise Conflict(
                f"a node already keeps the instances of {self._dir}", fix="relit ps shows it; relit down stops it"
            ) from None
        self._lock = lock

    def _release_lock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(OSError):
                os.close(lock)
