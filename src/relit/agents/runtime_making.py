"""Makes one runtime: its parts, a check that it works, a record, and only then its name."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from relit.agents import runtime_node, runtime_npm, runtime_pip, runtime_record, runtime_sums
from relit.agents.recipes import NODE, Recipe
from relit.agents.runtime_folder import partial, publish
from relit.agents.runtime_pip import Python
from relit.agents.runtime_record import Artifact, Record, Runtime
from relit.agents.runtime_steps import Steps
from relit.lib.service import finished

_SCRATCH = ".scratch"
_KEPT = ("PATH", "LANG", "LC_ALL")  # of the user's environment, for the check


class Parts(msgspec.Struct):
    """What went into a runtime."""

    artifacts: list[Artifact] = []
    node: str = ""
    python: str = ""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime that is whole, aside, and has not got its name yet."""

    place: Path
    final: Path
    record: Record

    def publish(self) -> Runtime:
        """Let it be found; what stands under its name goes. OSError."""
        publish(self.place, self.final)
        return runtime_record.at(self.final, self.record)


async def make_node(steps: Steps, folder: Path) -> Runtime:
    """The newest Node that the recipe takes, below ``folder``. Only for who is ``alone`` there."""
    async with node_aside(steps, folder) as made:
        return await finished(asyncio.to_thread(made.publish))


@asynccontextmanager
async def node_aside(steps: Steps, folder: Path) -> AsyncIterator[Made]:
    """As ``make_node``, but for its name; without that it is removed in the end."""
    steps.begin("node", f"fetching Node {steps.recipe.node}")
    async with partial(folder, "new") as place:
        artifact = await runtime_node.fetch(steps, place, _scratch(place))
        recipe = Recipe(NODE, artifact.version, node=steps.recipe.node)
        yield await _finish(steps, place, folder / artifact.version, recipe, Parts([artifact]))


async def make(steps: Steps, final: Path, node: str, first: Python) -> Runtime:
    """The recipe's runtime, with that version of Node if any. Only for who is ``alone`` in the folder above."""
    async with aside(steps, final, node, first) as made:
        return await finished(asyncio.to_thread(made.publish))


@asynccontextmanager
async def aside(steps: Steps, final: Path, node: str, first: Python, lies: str = "") -> AsyncIterator[Made]:
    """As ``make``, but for its name; without that it is removed in the end. ``lies``: the folder that this Node is in
    as yet."""
    async with partial(final.parent, final.name) as place:
        scratch, parts = _scratch(place), Parts(node=node)
        if node:
            (place / "node").symlink_to(f"../../{NODE}/{lies or node}")
        if steps.recipe.npm:
            steps.begin("packages", f"installing {', '.join(steps.recipe.npm_packages)}")
            parts.artifacts += await runtime_npm.install(steps, place)
        if steps.recipe.pip:
            python, artifacts = await runtime_pip.install(steps, place, scratch, first)
            parts = Parts([*parts.artifacts, *artifacts], node, python.version)
        await _check(steps, place, scratch)
        if lies:
            (place / "node").unlink()
            (place / "node").symlink_to(f"../../{NODE}/{node}")
        yield await _finish(steps, place, final, steps.recipe, parts)


def _scratch(place: Path) -> Path:
    """A folder for what is needed only now."""
    scratch = place / _SCRATCH
    scratch.mkdir()
    return scratch


async def _check(steps: Steps, place: Path, scratch: Path) -> None:
    """The recipe's command, far from the user's own settings and files."""
    if steps.recipe.check:
        steps.begin("check", "trying whether it starts")
        env = {name: steps.env[name] for name in _KEPT if name in steps.env}
        argv = [each.replace("{runtime}", str(place)) for each in steps.recipe.check]
        await steps.run(
            f"the check ({Path(argv[0]).name})",
            argv,
            place,
            {**env, "HOME": str(scratch), "TMPDIR": str(scratch)},
            scratch,
        )


async def _finish(steps: Steps, place: Path, final: Path, recipe: Recipe, parts: Parts) -> Made:
    """Record what was made."""
    steps.begin("record", "taking checksums")
    return await finished(asyncio.to_thread(_made, place, final, recipe, parts, steps.clock.now_ms()))


def _made(place: Path, final: Path, recipe: Recipe, parts: Parts, now_ms: int) -> Made:
    shutil.rmtree(place / _SCRATCH)
    content = runtime_sums.take(place)
    record = Record(
        kind=recipe.kind,
        version=recipe.version,
        installed_ms=now_ms,
        size_bytes=content.size_bytes,
        files=content.files,
        sums=content.sums,
        artifacts=parts.artifacts,
        recipe=recipe,
        node=parts.node,
        python=parts.python,
    )
    runtime_record.write(place, record)
    return Made(place=place, final=final, record=record)
