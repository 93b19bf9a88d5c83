"""Another version for an agent: tried in a clone first, gone back from when it does badly. And back again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from relit.agents.kind import Kind
from relit.app import agent_files, agent_installing, agent_versions, by_hand, node_word
from relit.app.agent_adding import APPLY_S
from relit.app.agent_clone import Clone, Open
from relit.app.agent_installing import Say
from relit.app.agent_trial import Trial, reachable
from relit.app.agent_versions import Step
from relit.app.agents import kind_of, version_of
from relit.app.by_hand import UP, Hand
from relit.app.folder import run_dir
from relit.app.instances import copies
from relit.app.vaulted import for_agent
from relit.control.care import Tried
from relit.errors import Conflict, Invalid, NotFound, RelitError
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.service import finished
from relit.settings import Environment, Settings, load


class Upgraded(msgspec.Struct, frozen=True, kw_only=True):
    """What was done. ``pid``: it runs. ``trial``: how its clone did; ``None`` when it went back."""

    name: str
    before: str
    after: str
    snapshot: int
    pid: int | None
    trial: Tried | None = None


class Upgrade:
    """One agent, on its way to another version or back."""

    def __init__(
        self, settings: Settings, environment: Environment, name: str, volumes: Open, say: Say,
        step: Callable[[str], None],
    ) -> None:  # fmt: skip
        agent_files.see_known(settings, name)
        kind = kind_of(settings, name)
        if kind is None or not kind.installs:
            raise Invalid(f"{name} has no version", why="its kind installs nothing", fix="relit agent ls")
        self._settings = settings
        self._environment = environment
        self._name = name
        self._kind: Kind = kind
        self._kind_name = settings.agents[name].kind
        self._volumes = volumes
        self._say = say
        self._step = step
        self._where = agent_files.standing(settings, name)
        self._dir = run_dir(settings)
        self._clone = Clone(settings, name, "trial", volumes)
        self.before = version_of(settings, name, kind)

    # --- forward -----------------------------------------------------------------------------------------------

    async def forward(self, version: str, *, force: bool = False) -> Upgraded:
        """Upgrade. RelitError when it failed: the agent runs on, as it was."""
        version = version or str(self._kind.install.get("version", ""))
        if version == self.before:
            raise Conflict(f"{self._name} has version {version} already", fix="relit agent upgrade NAME VERSION")
        if not force:
            agent_versions.see_good(self._settings, self._kind_name, version)
        self._text(version)  # what is wrong with it is told now
        await agent_installing.ensure(self._settings, self._environment.all, self._kind_name, version, self._say)
        well = await self._is_well()
        self._step("taking a snapshot")
        snapshot = await self._snapshot(version)
        trial = await self._tried(version, snapshot)
        if trial.why:
            if well or await self._is_well():  # else it may be the home that is broken
                self._remember(version, trial.why)
            raise RelitError(
                f"{self._kind_name} {version} failed in a clone of {self._name}, which runs on with {self.before}",
                why=trial.why, fix=f"relit agent upgrade {self._name} VERSION takes another one",
            )  # fmt: skip
        pid, snapshot = await finished(self._switched(version))
        return Upgraded(name=self._name, before=self.before, after=version, snapshot=snapshot, pid=pid, trial=trial)

    def _text(self, version: str) -> str:
        """The file as it is now, with that version, checked. NotFound: the agent is gone meanwhile."""
        now = load(self._settings.path, environment=self._environment, data=self._settings.data)
        agent_files.see_known(now, self._name)
        where = agent_files.standing(now, self._name)
        text = agent_files.with_key(where.text, ("agents", self._name), "version", version)
        drafts: dict[Path, str | None] = {where.path: text}
        load(self._settings.path, environment=self._environment, data=self._settings.data, drafts=drafts)
        return text

    async def _snapshot(self, version: str) -> int:
        async with self._volumes() as volumes:
            taken = await volumes.snapshot(self._name, tag=f"before-{version}", note=f"with {self.before}")
            return taken.snapshot.number

    def _remember(self, version: str, why: str) -> None:
        agent_versions.mark_bad(self._settings, self._kind_name, version, self._name, why)

    # --- in a clone --------------------------------------------------------------------------------------------

    async def _tried(self, version: str, snapshot: int) -> Tried:
        self._step("making a clone")
        async with self._clone.of(snapshot) as home:
            self._step(f"trying {version} in the clone")
            await for_agent(self._settings, self._name, "agent upgrade")
            trial = Trial(
                self._settings, self._environment, self._name, self._kind, version, home, self._step
            )  # fmt: skip
            return await trial.run(models=await reachable(self._settings))

    async def _is_well(self) -> bool:
        """Whether the agent itself runs and answers."""
        running = await node_word.running(self._dir)
        mine = [node_word.of(running, name) for name in copies(self._settings, self._name)]
        return any(each is not None and each.state in UP for each in mine)

    # --- for good ----------------------------------------------------------------------------------------------

    async def _switched(self, version: str) -> tuple[int | None, int]:
        """The agent itself with that version, and ready; else as it was when it was stopped for that: it has worked on
        while its clone was tried. The pid, if it runs, and the snapshot from before."""
        hand = Hand(self._settings, self._name, [])
        held = hand.held
        self._step(f"restarting {self._name} with {version}")
        await hand.stop(reason=f"it is being upgraded to {version}", mine=not held)
        try:
            snapshot = await self._snapshot(version)
            self._went(version, snapshot)  # before it goes: whoever is killed from here on leaves a way back
            await self._put(version)
        except RelitError:
            await self._back(hand, self.before, 0, held)
            self._came_back()
            raise  # nothing was tried: it is not the version's fault
        try:
            pid = await self._started(hand, held)
            if pid is not None:
                agent_versions.mark_good(self._settings, self._kind_name, version)
            return pid, snapshot
        except RelitError as error:
            self._step(f"going back to {self.before}")
            why = f"{error.what}: {error.why}"
            self._remember(version, why)
            await self._back(hand, self.before, snapshot, held)
            self._came_back()
            raise RelitError(
                f"{self._name} did not start with {version}; it is back at {self.before}", why=why,
                fix=f"relit logs {self._name}",
            ) from error  # fmt: skip

    async def _put(self, version: str) -> None:
        text = self._text(version)  # of now: somebody may have edited the file since
        agent_files.put(self._where.path, text)
        written = SYSTEM_CLOCK.monotonic()
        if await node_word.reread(self._dir):
            await node_word.applied(self._dir, written, lambda now: True, APPLY_S)

    async def _started(self, hand: Hand, held: bool) -> int | None:
        if held:
            by_hand.hold(self._settings, self._name)
            return None
        done = await hand.start()
        return done.pid

    async def _back(self, hand: Hand, version: str, snapshot: int, held: bool) -> int | None:
        """With that version, and the home as in that snapshot (0: as it is)."""
        await hand.stop(reason=f"it goes back to {version}", mine=not held)
        await self._put(version)
        if snapshot:
            async with self._volumes() as volumes:
                await volumes.restore(self._name, str(snapshot))
        return await self._started(hand, held)

    # --- back --------------------------------------------------------------------------------------------------

    def _went(self, version: str, snapshot: int) -> None:
        made = Step(before=self.before, after=version, snapshot=snapshot, at_ms=SYSTEM_CLOCK.now_ms())
        agent_versions.put_steps(self._settings, self._name, [*self._steps(), made])

    def _came_back(self) -> None:
        """To the version that it has again."""
        agent_versions.put_steps(self._settings, self._name, self._steps())

    def _steps(self) -> list[Step]:
        now = load(self._settings.path, environment=self._environment, data=self._settings.data)
        version = version_of(now, self._name, self._kind)
        return agent_versions.ways_back(self._settings, self._name, version)

    def last(self) -> Step:
        """The upgrade that a rollback undoes. NotFound."""
        known = self._steps()
        if not known:
            raise NotFound(
                f"{self._name} was not upgraded", why="nothing is known to go back to",
                fix=f"relit agent upgrade {self._name} VERSION; relit restore {self._name} --at WHEN",
            )  # fmt: skip
        return known[-1]

    async def rollback(self) -> Upgraded:
        """The version before, and the files as they were before the upgrade."""
        step = self.last()
        self._text(step.before)
        await agent_installing.ensure(self._settings, self._environment.all, self._kind_name, step.before, self._say)
        self._step(f"going back to {step.before} and snapshot {step.snapshot}")
        hand = Hand(self._settings, self._name, [])
        pid = await finished(self._undone(hand, step))
        return Upgraded(name=self._name, before=self.before, after=step.before, snapshot=step.snapshot, pid=pid)

    async def _undone(self, hand: Hand, step: Step) -> int | None:
        pid = await self._back(hand, step.before, step.snapshot, hand.held)
        self._came_back()
        return pid
