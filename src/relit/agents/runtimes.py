"""Runtimes: what a kind of agent needs, installed once and shared by all agents of the kind.

    root/openclaw/2026.9.6/      node_modules, package-lock.json, node -> ../../node/24.19.0
    root/hermes/0.19.0/          venv
    root/node/24.19.0/           bin/node, npm: shared by kinds
                                 in each: runtime.json (what went in), runtime.sums.json (checksums)

A version is there whole or not at all, whatever is killed when (``runtime_folder``). The root may be moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, closing, suppress
from pathlib import Path

from relit.agents.recipes import NODE, checked
from relit.agents.recipes import Recipe as Recipe
from relit.agents.runtime_failures import wrong
from relit.agents.runtime_folder import Lock, alone, discard, tidy
from relit.agents.runtime_making import Made, aside, make, make_node, node_aside
from relit.agents.runtime_pip import Python, running
from relit.agents.runtime_record import Artifact as Artifact
from relit.agents.runtime_record import Runtime as Runtime
from relit.agents.runtime_record import read, use
from relit.agents.runtime_steps import LIMIT_S, Steps
from relit.agents.runtime_steps import Progress as Progress
from relit.agents.runtime_sums import differences
from relit.agents.versions import fits, numbers
from relit.errors import Conflict, Invalid, NotFound
from relit.lib.clock import SYSTEM_CLOCK, Clock
from relit.lib.service import finished
from relit.lib.space import is_full

Troubles = list[str]
Found = list[Runtime]
Still = Callable[[str], AbstractAsyncContextManager[None]]


class Runtimes:
    """The runtimes below ``root``. ``env`` is the user's environment: pip and npm find their settings through it.

    ``say`` is called for each phase of an installation and each line that a tool prints, in the event loop.
    ``python`` makes virtual environments where it fits (else a fitting one on PATH); ``limit_s`` is for one tool.
    """

    def __init__(
        self,
        root: Path,
        say: Callable[[Progress], None],
        *,
        env: Mapping[str, str],
        clock: Clock = SYSTEM_CLOCK,
        python: Python | None = None,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._root = root
        self._say = say
        self._env = env
        self._clock = clock
        self._python = python or running()
        self._limit_s = limit_s

    def find(self, kind: str, version: str) -> Runtime | None:
        """That version, if it is here and whole. Of the Node that it needs, too; checksums are left to ``verify``."""
        found = read(self._place(kind, version))
        if found is None or (found.node and self.find(NODE, found.node) is None):
            return None
        return found

    def list(self) -> Found:
        """All that is installed; Node, too, as kind ``node``."""
        places = sorted(place for place in self._root.glob("[!.]*/[!.]*") if read(place))
        found = [self.find(place.parent.name, place.name) for place in places]
        return [each for each in found if each]

    async def install(self, recipe: Recipe) -> Runtime:
        """The recipe's version, made if it is not here. One that is here stays as it is, whatever recipe it came from.

        Raises ``RelitError``; its ``retry`` is true when the network failed. What was fetched remains in the caches of
        pip and npm. When cancelled it ends what it started, and leaves nothing.
        """
        if recipe.kind == NODE:
            raise Invalid("Node is no kind of agent", why="it comes with the kinds that need it")
        if ready := self.find(recipe.kind, recipe.version):
            use(ready.path)
            await finished(asyncio.to_thread(tidy, ready.path.parent))
            return ready
        try:
            return await self._install(recipe)
        except OSError as error:
            raise wrong(recipe, str(error), f"df -h {self._root}" if is_full(error) else "") from error

    async def _install(self, recipe: Recipe) -> Runtime:
        steps, place = self._steps(recipe), self._place(recipe.kind, recipe.version)
        async with alone(place.parent, lambda: steps.begin("wait", f"{recipe.kind} is being installed already")):
            if ready := self.find(recipe.kind, recipe.version):
                return ready
            node = await self._node(steps) if recipe.node else ""
            return await make(steps, place, node, self._python)

    def _steps(self, recipe: Recipe) -> Steps:
        return Steps(recipe, env=self._env, say=self._say, clock=self._clock, limit_s=self._limit_s)

    async def renew(self, recipe: Recipe, still: Still, *, node: str = "") -> Runtime:
        """A new one in the place of one that is here and damaged. ``node``: a damaged Node under it, made anew too.

        Both are made aside. Only when they are whole ``still`` is entered, with the Node that is exchanged, if any:
        within it nobody may run on what goes. As ``install`` raises; as long as ``still`` was not entered, all that was
        here is here.
        """
        try:
            made = await self._renewed(recipe, still, node)
        except OSError as error:
            raise wrong(recipe, str(error), f"df -h {self._root}" if is_full(error) else "") from error
        if node and made.node != node:
            with suppress(Conflict):  # others need it still: they are mended by themselves
                await finished(asyncio.to_thread(self.remove, NODE, node))
        return made

    async def _renewed(self, recipe: Recipe, still: Still, bad: str) -> Runtime:
        steps, place = self._steps(recipe), self._place(recipe.kind, recipe.version)
        async with AsyncExitStack() as held:
            waiting = alone(place.parent, lambda: steps.begin("wait", f"{recipe.kind} is being installed already"))
            await held.enter_async_context(waiting)
            under = await self._node_aside(steps, held) if bad else None
            if under is not None:
                node, lies = under.record.version, under.place.name
            else:
                node, lies = await self._node(steps) if recipe.node else "", ""
            made = await held.enter_async_context(aside(steps, place, node, self._python, lies))
            async with still(bad if node == bad else ""):
                if under is not None:
                    await finished(asyncio.to_thread(under.publish))
                return await finished(asyncio.to_thread(made.publish))

    async def _node_aside(self, steps: Steps, held: AsyncExitStack) -> Made:
        waiting = alone(self._root / NODE, lambda: steps.begin("wait", "Node is being installed already"))
        await held.enter_async_context(waiting)
        return await held.enter_async_context(node_aside(steps, self._root / NODE))

    async def _node(self, steps: Steps) -> str:
        """The version of the newest Node here that the recipe takes, else of a new one."""
        folder = self._root / NODE
        async with alone(folder, lambda: steps.begin("wait", "Node is being installed already")):
            here = [each.version for each in self.list() if each.kind == NODE]
            fitting = [version for version in here if fits(steps.recipe.node, version)]
            return max(fitting, key=numbers) if fitting else (await make_node(steps, folder)).version

    def remove(self, kind: str, version: str) -> None:
        """Take a version away; agents that run on it must have been stopped. Seconds for a large one: not in an event
        loop. Node is refused while a kind needs it.
        """
        place = self._place(kind, version)
        if not place.is_dir():
            raise NotFound(f"{kind} {version} is not installed", why=f"there is no folder {place}")
        with ExitStack() as held:
            # Who installs another kind may just have chosen this Node.
            every = [each for each in sorted(self._root.iterdir()) if each.is_dir()]
            for folder in every if kind == NODE else [place.parent]:
                lock = held.enter_context(closing(Lock(folder)))
                if not lock.take():
                    raise Conflict(f"{kind} {version} cannot be removed now", why=f"{folder.name} is being installed")
            self._see_unused(kind, version)
            discard(place)

    def tidy(self) -> None:
        """Remove what killed installers have left behind. Not in an event loop."""
        for folder in self._root.glob("[!.]*"):
            tidy(folder)

    def _see_unused(self, kind: str, version: str) -> None:
        users = [f"{each.kind} {each.version}" for each in self.list() if kind == NODE and each.node == version]
        if users:
            raise Conflict(f"Node {version} cannot be removed", why=f"{', '.join(users)} needs it")

    async def verify(self, runtime: Runtime) -> Troubles:
        """What is no longer as it was installed, in words (see ``runtime_sums``); its Node's troubles included."""
        found = await finished(asyncio.to_thread(differences, runtime.path, runtime.sums))
        if runtime.node:
            node = self.find(NODE, runtime.node)
            under = await self.verify(node) if node else ["it is not installed"]
            found += [f"Node {runtime.node}: {each}" for each in under]
        return found

    def _place(self, kind: str, version: str) -> Path:
        try:
            checked(kind, version)
        except ValueError as error:
            raise Invalid(str(error)) from error
        return self._root / kind / version
