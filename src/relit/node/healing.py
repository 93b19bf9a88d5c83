"""What the ladder decides, done: rungs 2 and 3. Rung 1 is a start, and rung 4 an incident."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from relit.agents import config, leftovers, state
from relit.agents.door import is_free
from relit.control.base import Control
from relit.control.care import Care, KnownGood, Repair, Tried
from relit.control.values import InstanceSpec
from relit.drivers.base import Driver, Exit, Launch
from relit.errors import KeeperUnreachable, RelitError, ServerUnreachable
from relit.lib.clock import Clock
from relit.lib.ids import new_id
from relit.lib.service import finished
from relit.node import bisect
from relit.node.ladder import Ending, Facts, Verdict, reachable
from relit.node.redact import Redactor, telling
from relit.pressure.shedding import fresh_score

LINGER_S, LOOK_S = 2.0, 0.02  # how long a taken port is looked at before that counts
TRIES = 6  # so often an action's budget for clones of older homes: each may take as long as a start
VALIDATE_S, _SAID = 60.0, 600  # for an agent's own check of its configuration; bytes of what it says
ASK_S = 30.0  # for what is known to be good: a snapshot of the home is taken on the way


def launch_of(spec: InstanceSpec, *, name: str = "", argv: Sequence[str] = ()) -> Launch:
    """A life of an instance, or of another command in its place."""
    return Launch(
        key=new_id(),
        name=name or spec.name,
        argv=list(argv) or spec.argv,
        env=spec.env,
        cwd=spec.cwd,
        log=spec.log,
        tag="" if name else spec.tag(),
        hold=None if name else spec.hold,
        box=spec.box,
        limits=spec.limits,
        oom=None if spec.demand is None else fresh_score(spec.demand.priority),
    )


class Healing:
    """The hands of one node."""

    def __init__(self, control: Control, driver: Driver, clock: Clock) -> None:
        self._control = control
        self._driver = driver
        self._clock = clock
        self._validating = asyncio.Lock()

    async def fit(self, care: Care | None) -> tuple[Ending, str] | None:
        """See to what it needs before a start. Answers what is wrong, and in which words; ``None`` for nothing."""
        if care is None:
            return None
        if care.needs and not await asyncio.to_thread(os.path.isdir, care.needs):
            return "blocked", f"{care.needs} is not there: relit agent install {care.agent}"
        if taken := [f"port {port} is taken" for port in await _taken(care.ports)]:
            return "blocked", ", ".join(taken)
        if care.config and (wrong := await asyncio.to_thread(config.fit, Path(care.home), care.config)):
            return "config", wrong
        if (care.databases or care.settle) and (wrong := await state.look(care)):
            return "damaged", wrong
        return None

    async def check(self, care: Care) -> str:
        """What is wrong with its configuration as it lies there while it runs; empty for nothing."""
        wrong = [await asyncio.to_thread(config.check, Path(care.home), each) for each in care.config]
        return "\n".join(filter(None, wrong))

    async def validate(self, spec: InstanceSpec, care: Care) -> str | None:
        """What the agent's own check says of it, in another process of its; empty for nothing, ``None`` where it comes
        to no end. It costs as much as a start, so it is one at a time."""
        async with self._validating:
            for each in care.config:
                if each.validate:
                    words = _Words(spec)
                    end = await self._aside(spec, "validate", each.validate, VALIDATE_S, words.log)
                    if end is None or end.code is None:
                        return None
                    if end.code != 0:
                        return f"{each.path}: {await asyncio.to_thread(words.said) or f'its own check says {end}'}"
        return ""

    async def known_good(self, care: Care, ending: Ending) -> KnownGood | None:
        """What it could go back to after that; ``None`` when nobody answers."""
        try:
            async with asyncio.timeout(ASK_S):
                files = [each.path for each in care.config]
                return await self._control.known_good(care.agent, files, broken=ending == "config")
        except (TimeoutError, ServerUnreachable):
            return None

    def facts(self, found: KnownGood) -> Facts:
        """The same for the ladder."""
        now = self._clock.now_ms()
        older = sorted([*found.older, *found.others], reverse=True) if found.clones else found.older
        return Facts(
            good=found.number,
            age_ms=max(0, now - found.at_ms),
            config=(found.was or found.number) if found.config else 0,
            changed=found.newest != found.number,
            older=tuple((number, max(0, now - at_ms)) for number, at_ms in older),
            clones=found.clones,
        )

    async def act(self, spec: InstanceSpec, care: Care, verdict: Verdict, found: KnownGood) -> str:
        """Do it, within its budget; answers the outcome. Raises what made it impossible."""
        try:
            async with asyncio.timeout(_budget_ms(care, verdict) / 1000):
                match verdict.action:
                    case "recreate":
                        return await asyncio.to_thread(leftovers.clear, care)
                    case "config":
                        went = await self._control.go_back(care.agent, verdict.to, sorted(found.config))
                        return f"{', '.join(sorted(found.config))} as in snapshot {went.to}" + _kept(went.replaced)
                    case "volume":
                        went = await self._control.go_back(care.agent, verdict.to)
                        return f"{went.written} written, {went.removed} removed" + _kept(went.replaced)
                    case "bisect":
                        return await self._bisect(spec, care, reachable(self.facts(found), care.ladder))
                    case "repair":
                        assert care.repair is not None, "the ladder asks for it only then"
                        return await self._repair(spec, care.repair)
                    case "restart":
                        return ""
        except TimeoutError as error:
            raise RelitError(
                f"{verdict.action} of {care.agent} was not done in {_budget_ms(care, verdict) // 1000} s"
            ) from error

    async def mark_good(self, care: Care) -> int:
        """Take a snapshot that is known to be good; 0 when that cannot be now."""
        try:
            return await self._control.mark_good(care.agent)
        except RelitError:  # it is told where volumes tell their troubles; the next round tries again
            return 0

    async def _bisect(self, spec: InstanceSpec, care: Care, numbers: Sequence[int]) -> str:
        """Go back to the newest of these homes that a clone comes up with. RelitError when none does."""
        until_ms = self._clock.boot_ms() + TRIES * care.ladder.heal_ms
        seen: dict[int, Tried] = {}
        worked = dict[int, bool]()
        while (index := bisect.following(len(numbers), worked)) is not None and self._clock.boot_ms() < until_ms:
            seen[index] = await self._control.try_home(care.agent, numbers[index], spec.startup_ms)
            worked[index] = not seen[index].why
        tried = "; ".join(f"{numbers[each]} {seen[each].why or 'came up'}" for each in sorted(seen))
        best = bisect.newest(worked)
        if best is None:
            left = f"; for {len(numbers) - len(seen)} there was no time" if index is not None else ""
            raise RelitError(f"no older home of {care.agent} came up in a clone", why=tried + left)
        went = await self._control.go_back(care.agent, numbers[best])
        notes = "".join(f"; {each}" for each in seen[best].notes)
        return f"snapshot {went.to}, of {len(seen)} tried in a clone: {tried}{notes}{_kept(went.replaced)}"

    async def _repair(self, spec: InstanceSpec, repair: Repair) -> str:
        """The agent's own command, in the agent's place."""
        end = await self._aside(spec, "repair", repair.argv, repair.timeout_ms / 1000)
        if end is None:
            return f"{repair.argv[-1]}: no end in {repair.timeout_ms // 1000} s, killed"
        return f"{' '.join(repair.argv[-4:])}: {end}"

    async def _aside(
        self, spec: InstanceSpec, what: str, argv: Sequence[str], within_s: float, log: str | None = None
    ) -> Exit | None:
        """Another command of the agent's, in a life of its own; how it ended, ``None``: it was killed after that.
        ``log``: not the agent's."""
        launch = launch_of(spec, name=f"{spec.name}.{what}", argv=argv)
        if log is not None:
            launch = msgspec.structs.replace(launch, log=log)
        try:
            await self._driver.start(launch)
            end = await self._end_of(launch.key, within_s)
            await self._driver.forget(launch.key)
        except KeeperUnreachable:
            return Exit()
        return end

    async def _end_of(self, key: str, within_s: float) -> Exit | None:
        try:
            async with asyncio.timeout(within_s):
                return await self._driver.wait(key)
        except TimeoutError:
            await self._kill(key)
            return None
        except asyncio.CancelledError:
            await finished(self._kill(key))
            raise

    async def _kill(self, key: str) -> None:
        with contextlib.suppress(KeeperUnreachable):
            await self._driver.kill(key)
            await self._driver.wait(key)


class _Words:
    """What another command of an agent's says, without its secrets. ``log``: where it goes meanwhile."""

    def __init__(self, spec: InstanceSpec) -> None:
        self._redactor = Redactor({*spec.secrets, *telling(spec.env)})
        self.log = str(Path(spec.log).with_name("check.log")) if spec.log else ""
        if self.log:
            Path(self.log).unlink(missing_ok=True)

    def said(self) -> str:
        """The end of it, on one line."""
        if not self.log:
            return ""
        path = Path(self.log)
        with contextlib.suppress(OSError):
            text = self._redactor.redact(path.read_bytes()[-_SAID:])[0].decode(errors="replace")
            path.unlink()
            return " ".join(text.split())
        return ""


def _budget_ms(care: Care, verdict: Verdict) -> int:
    """What it may take. Clones are tried one after the other, and then there is still one thing to do."""
    return care.ladder.heal_ms * (TRIES + 2 if verdict.action == "bisect" else 1)


async def _taken(ports: Sequence[int]) -> list[int]:
    """Those that somebody has, and does not let go of: what was killed a moment ago may still be ending."""
    until = asyncio.get_running_loop().time() + LINGER_S
    while (found := [port for port in ports if not is_free(port)]) and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - a port tells nobody
        await asyncio.sleep(LOOK_S)
    return found


def _kept(replaced: str) -> str:
    return f"; what it replaced is in {replaced}" if replaced else ""
