"""Workflows and agents as a module defines them. There is no registry: ``collect`` reads a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from relit.durable.functions import look_at, type_hints
from relit.durable.retry import ONCE, Retry
from relit.errors import ConfigError
from relit.lib.durations import Duration, to_ms
from relit.store.values import Mailbox

P = ParamSpec("P")
T = TypeVar("T")

MESSAGE = "message"


class Workflow(Generic[T]):
    """A durable function. ``target`` (``agent/name``) is how runs refer to it."""

    def __init__(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        *,
        name: str,
        agent: str,
        timeout_ms: int | None = None,
        retry: Retry = ONCE,
    ) -> None:
        if not inspect.iscoroutinefunction(fn):
            raise ConfigError(
                f"the workflow {name!r} is not an async function",
                why="a workflow awaits its steps",
                fix="write `async def`; its steps may be ordinary functions",
            )
        self.fn = fn
        self.name = name
        self.agent = agent
        self.timeout_ms = timeout_ms
        self.retry = retry
        self.type = look_at(fn).type
        self.signature = inspect.signature(fn)
        self.positional, self.named, self.rest = _parameters(self.signature, type_hints(fn))
        self.__doc__ = fn.__doc__

    @property
    def target(self) -> str:
        """``agent/name``."""
        return f"{self.agent}/{self.name}"

    def __repr__(self) -> str:
        return f"<workflow {self.target}>"


class Agent(Generic[T]):
    """A named agent written in Python: what it does with a message, its mailbox, its workflows."""

    def __init__(self, handler: Workflow[T], mailbox: Mailbox | None) -> None:
        self.name = handler.agent
        self.handler = handler
        self.mailbox = mailbox
        self.workflows: list[Workflow[Any]] = []

    def workflow(
        self, *, name: str | None = None, timeout: Duration | None = None, retry: Retry = ONCE
    ) -> Callable[[Callable[..., Coroutine[Any, Any, Any]]], Workflow[Any]]:
        """Make a function one of this agent's workflows."""

        def make(fn: Callable[..., Coroutine[Any, Any, Any]]) -> Workflow[Any]:
            made = _workflow(fn, name, self.name, timeout, retry)
            self.workflows.append(made)
            return made

        return make

    def __repr__(self) -> str:
        return f"<agent {self.name}>"


def _parameters(signature: inspect.Signature, hints: dict[str, Any]) -> tuple[list[Any], dict[str, Any], Any]:
    """The types of the parameters after ``ctx``: by place, by name, and of ``*args``."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    rest: Any = Any
    for parameter in list(signature.parameters.values())[1:]:
        kind = hints.get(parameter.name, Any)
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = kind
        elif parameter.kind is not parameter.VAR_KEYWORD:
            named[parameter.name] = kind
            if parameter.kind is not parameter.KEYWORD_ONLY:
                positional.append(kind)
    return positional, named, rest


def _workflow(
    fn: Callable[..., Coroutine[Any, Any, T]], name: str | None, agent: str, timeout: Duration | None, retry: Retry
) -> Workflow[T]:
    timeout_ms = None if timeout is None else to_ms(timeout)
    return Workflow(fn, name=name or fn.__name__, agent=agent, timeout_ms=timeout_ms, retry=retry)


def _module_agent(fn: Any) -> str:
    """A workflow that names no agent belongs to one named as its module."""
    module: str = fn.__module__
    if module == "__main__":
        module = Path(inspect.getfile(fn)).stem
    return module.rpartition(".")[2]


@overload
def workflow(fn: Callable[..., Coroutine[Any, Any, T]]) -> Workflow[T]: ...


@overload
def workflow(
    *, name: str | None = None, agent: str | None = None, timeout: Duration | None = None, retry: Retry = ONCE
) -> Callable[[Callable[..., Coroutine[Any, Any, T]]], Workflow[T]]: ...


def workflow(
    fn: Callable[..., Coroutine[Any, Any, T]] | None = None,
    *,
    name: str | None = None,
    agent: str | None = None,
    timeout: Duration | None = None,
    retry: Retry = ONCE,
) -> Workflow[T] | Callable[[Callable[..., Coroutine[Any, Any, T]]], Workflow[T]]:
    """Make an async function ``(ctx, *args)`` a durable workflow.

    ``timeout`` limits a run from its creation; ``retry`` says how often a failed run starts over from its failed step.
    """

    def make(target: Callable[..., Coroutine[Any, Any, T]]) -> Workflow[T]:
        return _workflow(target, name, agent or _module_agent(target), timeout, retry)

    return make if fn is None else make(fn)


@overload
def agent(fn: Callable[..., Coroutine[Any, Any, T]]) -> Agent[T]: ...


@overload
def agent(
    *,
    name: str | None = None,
    mailbox: Mailbox | None = None,
    timeout: Duration | None = None,
    retry: Retry | None = None,
) -> Callable[[Callable[..., Coroutine[Any, Any, T]]], Agent[T]]: ...


def agent(
    fn: Callable[..., Coroutine[Any, Any, T]] | None = None,
    *,
    name: str | None = None,
    mailbox: Mailbox | None = None,
    timeout: Duration | None = None,
    retry: Retry | None = None,
) -> Agent[T] | Callable[[Callable[..., Coroutine[Any, Any, T]]], Agent[T]]:
    """Make an async function ``(ctx, message)`` an agent: it is run for each message in the agent's mailbox.

    A message that fails is tried ``retry.attempts`` times (3), then kept as a dead letter.
    """

    def make(target: Callable[..., Coroutine[Any, Any, T]]) -> Agent[T]:
        handler = _workflow(target, MESSAGE, name or target.__name__, timeout, retry or Retry())
        return Agent(handler, mailbox)

    return make if fn is None else make(fn)


Definition = Workflow[Any] | Agent[Any]


def collect(module: ModuleType) -> list[Workflow[Any]]:
    """The workflows in ``module``: its own, and its agents' handlers and workflows."""
    return workflows(value for value in vars(module).values() if isinstance(value, (Workflow, Agent)))


def workflows(definitions: Iterable[Definition]) -> list[Workflow[Any]]:
    """All workflows in ``definitions``, each once. Raises ``ConfigError`` when two have the same target."""
    found: dict[str, Workflow[Any]] = {}
    for definition in definitions:
        parts = [definition] if isinstance(definition, Workflow) else [definition.handler, *definition.workflows]
        for each in parts:
            known = found.setdefault(each.target, each)
            if known is not each:
                raise ConfigError(
                    f"two workflows are called {each.target!r}",
                    why=f"{known.fn.__module__} and {each.fn.__module__} both define it",
                    fix="give one of them another name: @relit.workflow(name=…)",
                )
    return list(found.values())
