"""A process that installs, and tells its progress line by line. It kills itself where it is told to.

With a second argument, a number, it does so before it touches a file below the root so often.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec

from relit.agents.runtimes import Progress, Recipe, Runtimes


class Task(msgspec.Struct):
    """``die``: the number of the phase, from 1, or a line of a tool, at which it ends."""

    root: str
    env: dict[str, str]
    recipe: Recipe
    die: int | str = ""


def main(task: Task) -> None:
    phases = 0

    def say(progress: Progress) -> None:
        nonlocal phases
        phases += not progress.line
        print(progress.phase if not progress.line else progress.line, flush=True)
        if task.die and (phases == task.die or progress.line == task.die):
            os.kill(os.getpid(), signal.SIGKILL)

    runtime = asyncio.run(Runtimes(Path(task.root), say, env=task.env).install(task.recipe))
    print(f"installed {runtime.installed_ms}")


def die_before(touch: int, root: str) -> None:
    """The interpreter tells of what it does to files just before it does it."""
    touched = 0

    def hook(event: str, details: tuple[object, ...]) -> None:
        nonlocal touched
        if event.startswith(("os.", "open", "shutil.")) and any(root in str(each) for each in details):
            touched += 1
            if touched == touch:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    task = msgspec.json.decode(sys.argv[1], type=Task)
    if sys.argv[2:]:
        die_before(int(sys.argv[2]), task.root)
    main(task)
