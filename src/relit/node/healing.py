"""What the ladder decides, done: rungs 2 and 3. Rung 1 is a start, and rung 4 an incident."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import msgspec

from relit.agents import config, env_file, leftovers, state
from relit.agents.door import is_free
from relit.control.base import Control
from relit.control.care import Care, ConfigFile, KnownGood, Repair, Tried
from relit.control.values import REPAIR, VALIDATE, InstanceSpec
from relit.drivers.base import Driver, Exit
from relit.errors import KeeperUnreachable, RelitError, ServerUnreachable
from relit.lib.clock import Clock
from relit.lib.service import finished
from relit.node import bisect
from relit.node.ladder import Ending, Facts, Verdict, reachable
from relit.node.launching import launch_of
from relit.node.redact import Redactor, telling
from relit.node.trouble import told

LINGER_S, LOOK_S = 2.0, 0.02  # how long a taken port is looked at before that counts
TRIES = 6  # so often an action's budget for clones of older homes: each may take as long as a start
VALIDATE_S = 60.0  # for an agent's own check of its configuration
_READ, _SAID = 64 << 10, 600  # bytes of what it says that are looked through for secrets; characters that are told
_LOG = logging.getLogger(__name__)
ASK_S = 30.0  # for what is known to be good: a snapshot of the home is taken on the way


class Healing:
    """The hands of one node. ``calm``: whether memory is ample."""

    def __init__(self, control: Control, driver: Driver, clock: Clock, *, calm: Callable[[], bool]) -> None:
        self._calm = calm
        self._control = control
        self._driver = driver
        self._clock = clock
        self._validating = asyncio.Lock()

    async def fit(self, spec: InstanceSpec) -> tuple[Ending, str] | None:
        """See to what it needs before a start. Answers what is wrong, and in which words; ``None`` for nothing."""
        if spec.fault:
            return "faulty", spec.fault
        care = spec.care
        if care is None:
            return None
        if care.needs and not await asyncio.to_thread(os.path.isdir, care.needs):
            return "blocked", f"{care.needs} is not there: relit agent install {care.agent}"
        if taken := [f"port {port} is taken" for port in await _taken(care.ports)]:
            return "blocked", ", ".join(taken)
        if (care.config or care.env_file) and (wrong := await asyncio.to_thread(_fit, care)):
            return "config", wrong
        if (care.databases or care.settle) and (fault := await state.look(care)):
            return fault.cause, fault.what
        return None

    async def check(self, care: Care) -> str:
        """What is wrong with its configuration as it lies there while it runs; empty for nothing."""
        wrong = [await asyncio.to_thread(config.check, Path(care.home), each) for each in care.config]
        return "\n".join(filter(None, wrong))

    @property
    def busy(self) -> bool:
        """Whether an agent's own check can wait: it costs as much as a start, so it is one at a time, and none while
        memory is short."""
        return self._validating.locked() or not self._calm()

    async def validate(self, spec: InstanceSpec, care: Care) -> str | None:
        """What the agent's own check says of it, in another process of its; empty for nothing, ``None`` where it could
        not be asked, or came to no end."""
        async with self._validating:
            for each in care.config:
                if each.validate:
                    try:
                        wrong = await self._validated(spec, each)
                    except RelitError as error:  # of an agent whose runtime or folder is gone its next start tells more
                        _LOG.info("the configuration of %s was not checked: %s", spec.name, error)
                        return None
                    if wrong != "":
                        return wrong
        return ""

    async def _validated(self, spec: InstanceSpec, file: ConfigFile) -> str | None:
        with _Words(spec) as words:
            end = await self._aside(spec, VALIDATE, file.validate, VALIDATE_S, words.log)
            if end is None or end.code is None:
                return None
            if end.code == 0:
                return ""
            return f"{file.path}: {await asyncio.to_thread(words.said) or f'its own check says {end}'}"

    async def _is_wrong(self, spec: InstanceSpec, care: Care, lived: bool | None) -> bool | None:
        """Of one that ended as if it were: an exit code may have other causes, which its own check tells from that.
        ``None``: nobody knows."""
        if await self.check(care):
            return True
        if not any(each.validate for each in care.config):
            return lived  # else it was something beside it, or is mended already
        said = await self.validate(spec, care)
        return None if said is None else said != ""

    async def known_good(
        self, spec: InstanceSpec, care: Care, ending: Ending, *, lived: bool | None, before: Sequence[str]
    ) -> KnownGood | None:
        """What it could go back to after that; ``None`` when nobody answers. What volumes refuse to tell is as good as
        not there: the ladder goes on, and in the end a person is told. ``lived``: it was started on the
        configuration that is there (``None``: that may be another by now); ``before``: those that were broken in this
        trouble."""
        wrong = await self._is_wrong(spec, care, lived) if ending == "config" else None
        try:
            async with asyncio.timeout(ASK_S):
                broken = wrong is True
                found = await self._control.known_good(care.agent, care.config, broken=broken, before=before)
        except (TimeoutError, ServerUnreachable):
            return None
        except RelitError as error:
            found = KnownGood(broken=list(before), why=told(error))
        return msgspec.structs.replace(found, valid=wrong is False)

    def facts(self, found: KnownGood) -> Facts:
        """The same for the ladder."""
        now = self._clock.now_ms()
        older = sorted([*found.older, *found.others], reverse=True) if found.clones else found.older
        return Facts(
            good=found.number,
            age_ms=max(0, now - found.at_ms),
            config=(found.was or found.number) if found.config else 0,
            changed=found.newest != found.number,
            valid=found.valid,
            older=tuple((number, max(0, now - at_ms)) for number, at_ms in older),
            clones=found.clones,
        )

    async def act(self, spec: InstanceSpec, care: Care, verdict: Verdict, found: KnownGood) -> str:
        """Do it, within its budget; answers the outcome. Raises what made it impossible."""
        try:
            async with asyncio.timeout(_budget_ms(care, verdict) / 1000):
                match verdict.action:
                    case "recreate":
                        return await self._clear(care)
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

    async def _clear(self, care: Care) -> str:
        try:
            return await asyncio.to_thread(leftovers.clear, care)
        except OSError as error:
            raise RelitError(f"what {care.agent} left behind could not be cleared away", why=str(error)) from error

    async def works(self, care: Care | None) -> bool:
        """Whether it is in the middle of a call to a model or a tool, for all that is known."""
        try:
            return care is not None and care.agent in (await self._control.activity()).calls
        except RelitError:
            return False

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
        end = await self._aside(spec, REPAIR, repair.argv, repair.timeout_ms / 1000)
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
            await finished(self._driver.start(launch))  # a start that nobody waited for could not be ended
            async with asyncio.timeout(within_s):
                return await self._driver.wait(launch.key)
        except TimeoutError:
            return None
        except KeeperUnreachable:
            return Exit()
        finally:
            await finished(self._over(launch.key))

    async def _over(self, key: str) -> None:
        """Nothing of it is left, whether it had ended or not."""
        with contextlib.suppress(KeeperUnreachable):
            await self._driver.kill(key)
            await self._driver.wait(key)
            await self._driver.forget(key)


class _Words:
    """What another command of an agent's says, without its secrets. ``log``: where it goes meanwhile, and is removed
    from in the end."""

    def __init__(self, spec: InstanceSpec) -> None:
        self._redactor = Redactor({*spec.secrets, *telling(spec.env)})
        self.log = str(Path(spec.log).with_name("check.log")) if spec.log else ""

    def __enter__(self) -> Self:
        self._remove()
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            if self.log:
                Path(self.log).unlink(missing_ok=True)

    def said(self) -> str:
        """The end of it, on one line."""
        with contextlib.suppress(OSError):
            if self.log:
                whole, _ = self._redactor.redact(Path(self.log).read_bytes()[-_READ:])
                return " ".join(whole.decode(errors="replace").split())[-_SAID:]
        return ""


def _budget_ms(care: Care, verdict: Verdict) -> int:
    """What it may take. Clones are tried one after the other, and then there is still one thing to do."""
    return care.ladder.heal_ms * (TRIES + 2 if verdict.action == "bisect" else 1)


def _fit(care: Care) -> str:
    """What its files must say; answers what is wrong with them, a line for each."""
    home = Path(care.home)
    told = [config.fit(home, care.config), env_file.fit(home, care.env_file) if care.env_file is not None else ""]
    return "\n".join(filter(None, told))


async def _taken(ports: Sequence[int]) -> list[int]:
    """Those that somebody has, and does not let go of: what was killed a moment ago may still be ending."""
    until = asyncio.get_running_loop().time() + LINGER_S
    while (found := [port for port in ports if not is_free(port)]) and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - a port tells nobody
        await asyncio.sleep(LOOK_S)
    return found


def _kept(replaced: str) -> str:
    return f"; what it replaced is in {replaced}" if replaced else ""
