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
from contextlib import ExitStack, closing
from pathlib import Path

from relit.agents.recipes import NODE, checked
from relit.agents.recipes import Recipe as Recipe
from relit.agents.runtime_failures import wrong
from relit.agents.runtime_folder import Lock, alone, discard
from relit.agents.runtime_making import make, make_node
from relit.agents.runtime_pip import Python, running
from relit.agents.runtime_record import Artifact as Artifact
from relit.agents.runtime_record import Runtime as Runtime
from relit.agents.runtime_record import read
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
            return ready
        try:
            return await self._install(recipe)
        except OSError as error:
            raise wrong(recipe, str(error), f"df -h {self._root}" if is_full(error) else "") from error

    async def _install(self, recipe: Recipe) -> Runtime:
        steps = Steps(recipe, env=self._env, say=self._say, clock=self._clock, limit_s=self._limit_s)
        place = self._place(recipe.kind, recipe.version)
        async with alone(place.parent, lambda: steps.begin("wait", f"{recipe.kind} is being installed already")):
            if ready := self.find(recipe.kind, recipe.version):
                return ready
            node = await self._node(steps) if recipe.node else ""
            return await make(steps, place, node, self._python)

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
            for folder in [place.parent] if kind != NODE else sorted(self._root.iterdir()):
                lock = held.enter_context(closing(Lock(folder)))
                if not lock.take():
                    raise Conflict(f"{kind} {version} cannot be removed now", why=f"{folder.name} is being installed")
            self._see_unused(kind, version)
            discard(place)

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
