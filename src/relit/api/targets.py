"""Which workflows are known: a typing mistake is told at once instead of waiting for ever in a queue."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from relit.durable.definitions import MESSAGE
from relit.errors import UnknownWorkflow
from relit.store.base import Store

_MANY = 3


def resolve(asked: str, known: Iterable[str]) -> str | None:
    """The target that ``asked`` means: itself, the only one with that workflow name, or the agent's messages."""
    targets = set(known)
    if asked in targets or "/" in asked:
        return asked if asked in targets else None
    named = sorted(target for target in targets if target.partition("/")[2] == asked)
    if len(named) == 1:
        return named[0]
    return f"{asked}/{MESSAGE}" if f"{asked}/{MESSAGE}" in targets else None


def unknown(asked: str, known: Iterable[str]) -> UnknownWorkflow:
    """The error that says so, with what may have been meant."""
    targets = sorted(known)
    whole = {target: target for target in targets}
    short = {target.partition("/")[2]: target for target in targets if "/" not in asked}
    names = {**short, **whole}
    near = [names[name] for name in difflib.get_close_matches(asked, names, n=_MANY, cutoff=0.6)]
    fix = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "relit worker MODULE, with the module of it"
    return UnknownWorkflow(
        f"nobody knows the workflow {asked!r}",
        why=f"the workers have {', '.join(targets[:10])}{' …' if len(targets) > 10 else ''}",
        fix=f"{fix} (to queue it before its worker is started: force)",
    )


class Targets:
    """The targets that workers have had, remembered; the store is asked only about new ones."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: set[str] = set()

    async def find(self, asked: str, force: bool) -> tuple[str, str]:
        """The target meant, and a note for the caller. Raises ``UnknownWorkflow``.

        As long as no worker was ever seen, all is accepted: work may be queued before its first worker starts.
        """
        if (found := resolve(asked, self._known)) is not None and "/" in asked:
            return found, ""
        self._known.update(target for worker in await self._store.workers(live=False) for target in worker.targets)
        if (found := resolve(asked, self._known)) is not None:
            return found, ""
        if (self._known and not force) or "/" not in asked:
            raise unknown(asked, self._known) if self._known else _nobody(asked)
        return asked, f"no worker has had {asked} yet; it waits until one does"


def _nobody(asked: str) -> UnknownWorkflow:
    return UnknownWorkflow(
        f"the workflow {asked!r} cannot be found by its name alone",
        why="no worker has told its workflows yet",
        fix="write agent/workflow, or start the worker first: relit worker MODULE",
    )
