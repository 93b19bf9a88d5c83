"""``@relit.step``, ``@relit.effect`` and ``@relit.tool``: options said once, beside the function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from relit.durable.functions import Options, Tool
from relit.durable.retry import Retry
from relit.lib.durations import Duration
from relit.store.values import Doubt

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@overload
def step(fn: F) -> F: ...


@overload
def step(
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    heartbeat: Duration | None = None,
) -> Callable[[F], F]: ...


def step(
    fn: F | None = None,
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    heartbeat: Duration | None = None,
) -> F | Callable[[F], F]:
    """Say how ``ctx.step`` runs this function. It stays an ordinary function."""
    return _attach(fn, Options(name=name, retry=retry, timeout=timeout, heartbeat=heartbeat))


@overload
def effect(fn: F) -> F: ...


@overload
def effect(
    *,
    name: str | None = None,
    doubt: Doubt | None = None,
    lookup: Callable[..., Any] | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
) -> Callable[[F], F]: ...


def effect(
    fn: F | None = None,
    *,
    name: str | None = None,
    doubt: Doubt | None = None,
    lookup: Callable[..., Any] | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
) -> F | Callable[[F], F]:
    """Say how ``ctx.effect`` runs this function, and how a doubt about it is settled.

    ``doubt``: ``"key"`` (call again with the same ``idempotency_key``), ``"lookup"`` (``lookup(key)`` tells whether
    it happened: its result, or ``None``) or ``"ask"`` (a person decides; the default).
    """
    return _attach(fn, Options(name=name, retry=retry, timeout=timeout, doubt=doubt, lookup=lookup))


def _attach(fn: F | None, options: Options) -> F | Callable[[F], F]:
    def attach(target: F) -> F:
        target.__relit_options__ = options  # type: ignore[attr-defined]
        return target

    return attach if fn is None else attach(fn)


@overload
def tool(fn: Callable[P, T]) -> Tool[P, T]: ...


@overload
def tool(
    *, name: str | None = None, description: str | None = None, effect: Doubt | None = None
) -> Callable[[Callable[P, T]], Tool[P, T]]: ...


def tool(
    fn: Callable[P, T] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Doubt | None = None,
) -> Tool[P, T] | Callable[[Callable[P, T]], Tool[P, T]]:
    """Make a function a tool: name, description (its docstring) and JSON Schema for a model.

    ``effect`` says how it changes the world (``key``, ``lookup``, ``ask``); ``None``: it only reads.
    """

    def make(target: Callable[P, T]) -> Tool[P, T]:
        return Tool(target, name or target.__name__, description or inspect.getdoc(target) or "", effect)

    return make if fn is None else make(fn)
