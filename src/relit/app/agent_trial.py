"""A trial: a clone of an agent, with another version or an older home, silent towards the world, until it is ready and
answers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import msgspec

from relit.agents import config, door, env_file, leftovers, moving, place, state
from relit.agents.adapter import Fitted, Place, configs_of
from relit.agents.kind import Kind, fill
from relit.app import agents
from relit.app.agent_clone import mark_of
from relit.app.agents import machine
from relit.app.folder import run_dir
from relit.app.instances import folder_of, home_of
from relit.app.specs import spec_of
from relit.control.box import Box
from relit.control.care import Care, Tried
from relit.control.values import InstanceSpec, Probe
from relit.drivers import tenant
from relit.drivers.boxed import boxed
from relit.drivers.machine import LANDLOCK_PORTS
from relit.errors import StartFailed
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.durations import size
from relit.lib.proc import MARK, kill_marked
from relit.lib.service import finished
from relit.node import gauge, probe
from relit.node.gauge import Gauge
from relit.node.judging import PATIENCE
from relit.node.launching import launch_of
from relit.node.redact import Redactor, telling, telling_names
from relit.settings import Environment, Settings

_LOOK_S = 0.2
_END_S = 20.0
ROOM_S, _ROOM_LOOK_S = 600.0, 1.0  # for want of memory a clone waits so long
_LINES = 8
_TAIL = 4_000  # bytes of its log that are looked at
_LOG_MOST = 8 << 20


def lacks(node: Gauge | None, needs: int) -> int:
    """Bytes that a start which takes so many would lack; 0 where no node tells."""
    return 0 if node is None else max(0, needs + node.reserved + node.amber - node.free)


class Trial:
    """Of one agent and version, in the folder ``clone``, which holds a snapshot of its home."""

    def __init__(
        self, settings: Settings, environment: Environment, name: str, kind: Kind, version: str, clone: Path,
        step: Callable[[str], None] = lambda said: None,
    ) -> None:  # fmt: skip
        self._step = step
        self._name = name
        self._kind = kind
        self._clone = clone
        self._settings = settings
        self._notes: list[str] = []
        self._until = math.inf
        self._log = clone.parent / "log" / "trial.log"
        self._spec = spec_of(settings, environment, name)
        self._mark = mark_of(clone)
        self._place = self._placed(version)
        self._made = agents.cloned(settings, name, self._place)

    def _placed(self, version: str) -> Place:
        """At the agent's own path, where a box can put the clone there."""
        base = agents.place_of(self._settings, self._name, self._kind)
        self._ports = base.door.ports
        tokens = dict(base.door.tokens)
        if agents.CLONE in tokens:
            tokens[agents.MODEL] = tokens[agents.CLONE]
        runtime = self._settings.runtimes / self._settings.agents[self._name].kind / version
        return msgspec.structs.replace(
            base,
            home=base.home if self._spec.box is not None else str(self._clone),
            tmp=str(self._clone.parent / "tmp"),
            runtime=str(runtime) if base.runtime else "",
            door=door.Door(ports=door.spare(folder_of(self._settings, self._name), self._kind.ports), tokens=tokens),
            model=msgspec.structs.replace(base.model, key=tokens[agents.MODEL]) if base.model else None,
        )

    async def run(self, *, models: bool, within_s: float = math.inf) -> Tried:
        """Whether it becomes ready, and (``models``: they can be reached) answers. Nothing of it goes on afterwards.
        StartFailed: there is no room for it."""
        await self._room()
        began = SYSTEM_CLOCK.monotonic()
        self._until = began + within_s
        if wrong := await self._prepare():
            return self._verdict(wrong, began)
        await asyncio.to_thread(self._log.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        with await asyncio.to_thread(open, self._log, "ab") as log:
            return self._verdict(await self._tried(log, models), began)

    async def _room(self) -> None:
        """It is a start like others, and must not push anybody out: it waits until the node has room for it."""
        needs, until = agents.demand_of(self._settings, self._name).peak, SYSTEM_CLOCK.monotonic() + ROOM_S
        told = False
        while (short := lacks(gauge.read(run_dir(self._settings), SYSTEM_CLOCK.now_ms()), needs)) > 0:
            if not told:
                self._step(f"waiting for memory: {size(short)} are missing for a clone")
                told = True
            if SYSTEM_CLOCK.monotonic() > until:
                raise StartFailed(
                    f"no clone of {self._name} was started",
                    why=f"it may take {size(needs)}, and {size(short)} of that are missing",
                    fix="relit node shows who has the memory; then again",
                )
            await asyncio.sleep(_ROOM_LOOK_S)

    def _verdict(self, why: str, began: float) -> Tried:
        took = round((SYSTEM_CLOCK.monotonic() - began) * 1000)
        return Tried(why=why, took_ms=took, notes=self._notes)

    # --- before ------------------------------------------------------------------------------------------------

    async def _prepare(self) -> str:
        """Make the clone silent and startable; answers what is wrong with it."""
        names = self._place.names()
        files = [
            msgspec.convert(fill(msgspec.to_builtins(each), names), type=type(each))
            for each in configs_of(self._kind, self._place, silent=True)
        ]
        care = Care(
            agent=self._name, kind="", home=str(self._clone), tmp=self._place.tmp, stale=self._kind.stale,
            databases=self._kind.databases, settle=[*self._kind.settle, *self._kind.clone.settle],
        )  # fmt: skip
        await asyncio.to_thread(self._clear, care)
        if self._spec.box is None:
            self._notes.append("no sandbox: the clone ran at another path, with the paths of its configuration changed")
            await asyncio.to_thread(self._repath)
        wrong = await asyncio.to_thread(config.fit, self._clone, files) or await asyncio.to_thread(self._see_variables)
        fault = None if wrong else await state.look(care)
        return wrong or (fault.what if fault is not None else "")

    def _see_variables(self) -> str:
        file = self._made.care.env_file
        return env_file.fit(self._clone, file) if file is not None else ""

    def _clear(self, care: Care) -> None:
        Path(care.tmp).mkdir(mode=0o700, parents=True, exist_ok=True)
        moving.remove(self._clone, self._kind.clone.without)
        leftovers.clear(care)

    def _repath(self) -> None:
        """Its configuration names its home: it lies elsewhere now."""
        home = agents.place_of(self._settings, self._name, self._kind).home
        for each in configs_of(self._kind, self._place):
            with contextlib.suppress(FileNotFoundError, ValueError):  # what cannot be read is told when it is looked at
                tree = config.read(self._clone, each)
                moved = {
                    key: str(self._clone) + value.removeprefix(home)
                    for key, value in config.texts(tree)
                    if value.startswith(f"{home}/")
                }
                if config.keep(tree, moved):
                    place.write(self._clone, each.path, config.dump(tree, each.format))

    # --- its life ----------------------------------------------------------------------------------------------

    async def _tried(self, log: IO[bytes], models: bool) -> str:
        await asyncio.to_thread(kill_marked, self._mark)
        probe.clear(self._inside(self._made.ready) if self._made.ready is not None else None)
        launch = boxed(launch_of(self._instance(), name=f"{self._name}.trial", argv=self._made.argv), machine())
        child = await asyncio.create_subprocess_exec(
            *launch.argv,
            env={**launch.env, MARK: self._mark},
            cwd=launch.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        grace_s = _END_S
        try:
            return await self._watched(child, models)
        except BaseException:
            grace_s = 0.0  # nobody waits for it: whoever asked is asked to end
            raise
        finally:
            await finished(self._end(child, grace_s))

    def _instance(self) -> InstanceSpec:
        """No secret of the agent's goes along: they are for the world."""
        own = self._settings.agents[self._name].env
        hidden = {key for key, value in own.items() if value.startswith("secret:")} | {*telling_names(own)}
        kept = {key: self._elsewhere(value) for key, value in self._spec.env.items() if key not in hidden}
        home = {"RELIT_HOME": self._place.home}
        return msgspec.structs.replace(
            self._spec,
            env=kept | home | self._made.env | self._kind.clone.env,
            cwd=self._made.cwd,
            box=self._box(self._made),
        )

    def _elsewhere(self, value: str) -> str:
        """The clone's home in the place of the agent's, where they lie at different paths."""
        home = str(home_of(self._settings, self._name))
        return value if self._place.home == home else value.replace(home, self._place.home)

    def _box(self, made: Fitted) -> Box | None:
        box = agents.box_of(self._settings, self._name, made)
        if box is None or self._spec.box is None:
            self._notes.append("no sandbox: its network was not limited")
            return None
        if machine().landlock < LANDLOCK_PORTS:
            self._notes.append("its network was not limited: the kernel cannot; its channels were off")
        ports = sorted(self._place.door.ports.values())
        gateway = self._settings.gateway_address[1]
        return msgspec.structs.replace(
            box, stand_in=str(self._clone), tmp=self._place.tmp, ports=ports, connect=[*ports, gateway]
        )

    async def _watched(self, child: asyncio.subprocess.Process, models: bool) -> str:
        seconds = PATIENCE * self._made.startup_ms / 1000
        if self._made.ready is None:
            self._notes.append("its kind has no question for readiness: it ran for some seconds, no more is known")
            return await self._asked(child, [], min(seconds, 5.0))
        if why := await self._asked(child, [self._inside(self._made.ready)], seconds):
            return why
        if self._made.canary is None or not models:
            why = "its kind has none" if self._made.canary is None else "no model can be reached"
            self._notes.append(f"it was asked no question: {why}")
            return ""
        canary = self._inside(self._made.canary)
        return await self._asked(child, [canary], canary.failures * canary.timeout_ms / 1000)

    def _inside(self, asked: Probe) -> Probe:
        """What it asks of the agent is asked of the clone: in its home, on its ports."""
        return msgspec.structs.replace(
            asked,
            target=self._of_clone(asked.target),
            argv=[self._of_clone(each) for each in asked.argv],
            env={key: self._of_clone(value) for key, value in asked.env.items()},
        )

    def _of_clone(self, text: str) -> str:
        text = text.replace(self._place.home, str(self._clone))
        for name, port in self._ports.items():  # of the agent itself, which may be alive and would answer
            if spare := self._place.door.ports.get(name):
                text = re.sub(rf"(?<=:){port}(?!\d)", str(spare), text)
        return text

    async def _asked(self, child: asyncio.subprocess.Process, asked: Sequence[Probe], seconds: float) -> str:
        """Until every question is answered; without any, until the time is over. Answers why not."""
        seconds = max(0.0, min(seconds, self._until - SYSTEM_CLOCK.monotonic()))
        until, why = SYSTEM_CLOCK.monotonic() + seconds, ""
        while SYSTEM_CLOCK.monotonic() < until:
            if child.returncode is not None:
                return f"it ended with {tenant_code(child.returncode)}{self._said()}"
            found = [await probe.ask(each) for each in asked]
            if asked and not any(found):
                return ""
            why = next((each for each in found if each), "")
            if self._log.stat().st_size > _LOG_MOST:
                os.truncate(self._log, 0)
            await asyncio.sleep(_LOOK_S)
        return f"not in {seconds:.0f} s: {why}{self._said()}" if asked else ""

    def _said(self) -> str:
        """The end of its log, without its secrets."""
        with self._log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            read = file.read()
        text = Redactor({*self._spec.secrets, *telling(self._spec.env)}).redact(read)[0].decode(errors="replace")
        lines = text.strip().splitlines()[-_LINES:]
        return f"; it said: {' / '.join(lines)}" if lines else ""

    async def _end(self, child: asyncio.subprocess.Process, grace_s: float) -> None:
        """SIGTERM to its program, then the end of all of it."""
        if child.returncode is None:
            program = tenant.find(child.pid) if self._spec.box is not None else None
            if program is None or not tenant.send(program, signal.SIGTERM):
                child.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await child.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await asyncio.to_thread(kill_marked, self._mark)
        await child.wait()


async def reachable(settings: Settings) -> bool:
    """Whether a model can be asked: there is one, and the gateway answers."""
    if not settings.models:
        return False
    return await probe.ask(Probe(kind="http", target=f"{settings.gateway_url}/healthz")) is None


def tenant_code(code: int) -> str:
    """An exit code, or the signal that ended it."""
    return f"exit {code}" if code >= 0 else f"signal {-code}"
