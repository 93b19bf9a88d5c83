"""What relit learns about functions, and the decorators that say more."""

from __future__ import annotations

import functools
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

import relit
from relit.durable.definitions import collect, workflows
from relit.durable.functions import look_at
from relit.errors import ConfigError
from relit.store.values import Mailbox


async def fetch(url: str) -> list[int]:
    return [len(url)]


def plain(x: int) -> str:
    return str(x)


class Client:
    async def get(self, url: str, *, idempotency_key: str = "") -> bytes:
        return url.encode()

    def __call__(self, x: int) -> int:
        return x


def test_a_function_is_looked_at_once() -> None:
    assert look_at(fetch) is look_at(fetch)
    assert (look_at(fetch).name, look_at(fetch).is_async, look_at(fetch).type) == ("fetch", True, list[int])
    assert (look_at(plain).name, look_at(plain).is_async, look_at(plain).type) == ("plain", False, str)


def test_methods_partials_and_callables_are_understood() -> None:
    client = Client()
    assert look_at(client.get).name == "get"
    assert look_at(client.get).takes_key
    assert look_at(client.get).is_async
    assert look_at(functools.partial(fetch, "x")).name == "fetch"
    assert look_at(functools.partial(fetch, "x")).is_async
    assert look_at(client).name == "Client"
    assert not look_at(client).is_async
    assert look_at(len).name == "len"
    assert look_at(lambda: 1).name == "<lambda>"


def test_a_wrapper_is_not_taken_for_what_it_wraps() -> None:
    look_at(fetch)

    @functools.wraps(fetch)
    def wrapper(*args: Any) -> Any:
        return 1

    assert not look_at(wrapper).is_async


def test_options_ride_on_the_function() -> None:
    @relit.step(name="load", timeout="3s", heartbeat="1s", retry=relit.Retry(attempts=9))
    def fn() -> None: ...

    found = look_at(fn)
    assert found.name == "load"
    assert (found.options.timeout, found.options.heartbeat) == ("3s", "1s")
    assert found.options.retry is not None
    assert found.options.retry.attempts == 9
    assert found.type is type(None)


def test_a_tool_describes_itself() -> None:
    @relit.tool
    def search(query: str, limit: int = 10) -> list[str]:
        """Search the web."""
        return [query] * limit

    assert search("x", limit=2) == ["x", "x"]
    assert (search.name, search.description) == ("search", "Search the web.")
    schema = search.schema
    assert schema["properties"]["query"] == {"type": "string"}
    assert schema["properties"]["limit"] == {"type": "integer", "default": 10}
    assert schema["required"] == ["query"]


def test_collect_finds_workflows_and_agents_once() -> None:
    @relit.workflow
    async def one(ctx: relit.Context) -> None: ...

    @relit.agent(mailbox=Mailbox(name="clerk", concurrency=2))
    async def clerk(ctx: relit.Context, message: str) -> None: ...

    @clerk.workflow(name="file")
    async def two(ctx: relit.Context) -> None: ...

    module = ModuleType("sample")
    vars(module).update(one=one, clerk=clerk, two=two, again=one, fetch=fetch)
    assert sorted(each.target for each in collect(module)) == ["clerk/file", "clerk/message", "test_functions/one"]


def test_two_workflows_of_one_name_are_refused() -> None:
    def make() -> Any:
        @relit.workflow(name="same", agent="a")
        async def flow(ctx: relit.Context) -> None: ...

        return flow

    with pytest.raises(ConfigError, match="a/same"):
        workflows([make(), make()])


def test_a_workflow_must_be_async() -> None:
    def flow(ctx: relit.Context) -> None: ...

    with pytest.raises(ConfigError, match="async def"):
        relit.workflow(flow)  # type: ignore[call-overload]


def test_importing_relit_loads_nothing_heavy() -> None:
    code = "import relit, sys; print(sorted(m for m in sys.modules if m.startswith(('relit', 'msgspec', 'asyncio'))))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['relit']"


def test_everything_that_relit_exports_is_there() -> None:
    for name in set(relit.__all__) - {"Client", "connect"}:
        assert getattr(relit, name) is not None
        assert name in dir(relit)
    with pytest.raises(AttributeError, match="nonsense"):
        relit.nonsense  # noqa: B018
