"""What relit must know about a step's function, looked up once: name, sync or async, result type, options."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import msgspec

from relit.durable.retry import Retry
from relit.lib.durations import Duration
from relit.store.values import Doubt

P = ParamSpec("P")
T = TypeVar("T")


class Options(msgspec.Struct, frozen=True):
    """A step's or effect's options, as its decorator or its call gives them. ``None``: not said."""

    name: str | None = None
    retry: Retry | None = None
    timeout: Duration | None = None
    heartbeat: Duration | None = None
    doubt: Doubt | None = None
    lookup: Callable[..., Any] | None = None


class Function(msgspec.Struct, frozen=True):
    """A function as relit sees it."""

    fn: Any
    name: str
    is_async: bool
    type: Any
    takes_key: bool
    options: Options


class Tool(Generic[P, T]):
    """A function that an agent may call: it has a name, a description and a JSON Schema, and says what it does."""

    def __init__(self, fn: Callable[P, T], name: str, description: str, effect: Doubt | None) -> None:
        self.fn = fn
        self.name = name
        self.description = description
        self.effect = effect
        functools.update_wrapper(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.fn(*args, **kwargs)

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the arguments; an ``idempotency_key`` is none of a model's."""
        hints = type_hints(self.fn)
        fields: list[Any] = []
        for name, parameter in inspect.signature(self.fn).parameters.items():
            if name == "idempotency_key":
                continue
            hint = hints.get(name, Any)
            given = parameter.default is not inspect.Parameter.empty
            fields.append((name, hint, parameter.default) if given else (name, hint))
        schema = msgspec.json.schema(msgspec.defstruct(self.name, fields, kw_only=True))
        definitions: dict[str, Any] = schema["$defs"]
        found: dict[str, Any] = definitions.pop(self.name)
        return {**found, **({"$defs": definitions} if definitions else {})}


def type_hints(fn: Any) -> dict[str, Any]:
    """The annotations of ``fn``, resolved; empty when one of them cannot be."""
    try:
        return typing.get_type_hints(fn, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}  # names imported for type checkers only: values are read as builtins


def look_at(fn: Callable[..., Any]) -> Function:
    """``fn`` as a ``Function``; remembered on the function itself."""
    home: Any = getattr(fn, "__func__", fn)
    known: Function | None = getattr(home, "__relit_function__", None)
    if known is not None and known.fn is home:  # functools.wraps copies attributes: it must be this one's own
        return known
    made = _inspect(fn, home)
    try:
        home.__relit_function__ = made
    except AttributeError:
        pass  # a builtin or a slotted object: looked at again next time
    return made


def _inspect(fn: Callable[..., Any], home: Any) -> Function:
    plain: Any = home
    while isinstance(plain, (functools.partial, Tool)):
        plain = plain.func if isinstance(plain, functools.partial) else plain.fn
    called = plain if inspect.isroutine(plain) else getattr(plain, "__call__", plain)  # noqa: B004
    hints = type_hints(called) if getattr(called, "__annotations__", None) else {}
    kind = hints.get("return", Any)
    options: Options = getattr(plain, "__relit_options__", Options())
    return Function(
        fn=home,
        name=options.name or _name(home, plain),
        is_async=inspect.iscoroutinefunction(called),
        type=type(None) if kind is None else kind,
        takes_key=_takes_key(called),
        options=_with_tool(options, home),
    )


def _name(home: Any, plain: Any) -> str:
    if isinstance(home, Tool):
        return home.name
    name: str = getattr(plain, "__name__", type(plain).__name__)
    return name


def _with_tool(options: Options, home: Any) -> Options:
    if isinstance(home, Tool) and home.effect is not None and options.doubt is None:
        return msgspec.structs.replace(options, doubt=home.effect)
    return options


def _takes_key(fn: Any) -> bool:
    code = getattr(fn, "__code__", None)
    if code is None:
        return False
    return "idempotency_key" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
