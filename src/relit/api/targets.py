"""Which workflows are known: a typing mistake is told at once instead of waiting for ever in a queue."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from relit.durable.definitions import MESSAGE
from relit.errors import Invalid, UnknownWorkflow
from relit.store.base import Store

_MANY = 3


def resolve(asked: str, known: Iterable[str]) -> str | None:
    """The target that ``asked`` means: itself, the agent's messages, or the only one with that workflow name."""
    targets = set(known)
    if "/" in asked:
        return asked if asked in targets else None
    if f"{asked}/{MESSAGE}" in targets:
        return f"{asked}/{MESSAGE}"
    named = sorted(target for target in targets if target.partition("/")[2] == asked)
    return named[0] if len(named) == 1 else None


def unknown(asked: str, known: Iterable[str]) -> UnknownWorkflow:
    """The error that says so, with what may have been meant."""
    targets = sorted(known)
    whole = {_called(target): target for target in targets}
    short = {target.partition("/")[2]: target for target in targets if "/" not in asked}
    names = {**short, **whole}
    near = [names[name] for name in difflib.get_close_matches(_called(asked), names, n=_MANY, cutoff=0.6)]
    meant = f"; did you mean {' or '.join(_called(each) for each in dict.fromkeys(near))}?" if near else ""
    return UnknownWorkflow(
        f"nobody knows {_called(asked)!r}",
        why=f"the workers have {', '.join(map(_called, targets[:10]))}{' …' if len(targets) > 10 else ''}{meant}",
        fix="relit worker MODULE, with the module of it; or force (--force) queues it until a worker comes",
    )


def _called(target: str) -> str:
    """An agent's messages are addressed by its name alone."""
    return target.removesuffix(f"/{MESSAGE}")


def _check(asked: str) -> None:
    agent, slash, workflow = asked.partition("/")
    if not agent or (slash and not workflow) or "/" in workflow:
        raise Invalid(f"{asked!r} is not a target", fix="write agent/workflow")


class Targets:
    """The targets that workers have had, remembered; the store is asked only about new ones.

    ``declared`` names agents of the settings: they are known before their first worker. ``deaf`` are those of them that
    no message can be brought into.
    """

    def __init__(self, store: Store, declared: Collection[str] = (), deaf: Collection[str] = ()) -> None:
        self._store = store
        self._declared = declared
        self._deaf = deaf
        self._known: set[str] = set()

    async def find(self, asked: str, force: bool) -> tuple[str, str]:
        """The target meant, and a note for the caller. Raises ``UnknownWorkflow``, ``Invalid``.

        As long as no worker was ever seen, all is accepted: work may be queued before its first worker starts.
        """
        _check(asked)
        if "/" in asked and asked in self._known:
            return asked, ""
        self._known.update(target for worker in await self._store.workers(live=False) for target in worker.targets)
        if (found := resolve(asked, self._known)) is not None:
            return found, ""
        if asked.removesuffix(f"/{MESSAGE}") in self._deaf and not force:
            raise Invalid(
                f"{asked} takes no messages",
                why="relit keeps it alive and knows no way into it: it is a command, or its kind names none",
                fix="give it a kind that has an [inject] table, or force (--force) queues it until a worker comes",
            )
        if self._known and not force and not self._expected(asked):
            raise unknown(asked, self._known)
        whole = asked if "/" in asked else f"{asked}/{MESSAGE}"
        return whole, f"no worker has had {whole} yet; it waits until one does"

    def _expected(self, asked: str) -> bool:
        """Whether the settings have its agent, whose workers have not come yet."""
        agent = asked.partition("/")[0]
        return agent in self._declared and not any(target.startswith(f"{agent}/") for target in self._known)
