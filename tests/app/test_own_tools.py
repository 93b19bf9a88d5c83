"""Tools of relit's own, and functions: what they write down is their agent's, and holds no secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from relit import errors
from relit.app.functions import Described, FunctionTools
from relit.app.house_tools import HouseTools
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.gateway.tools.base import NotSent, Unsure
from relit.settings import Environment, Settings, load
from relit.store.blobs import ObstoreBlobs
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.tools import ToolCall

SECRET = b"sk-verysecretvalue12345"
FILE = """
[models.default]
url = "https://x"
[tools.charge]
function = "scales:charge"
[agents.a]
kind = "hermes"
[agents.a--b]
kind = "hermes"
"""


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    store = SqliteStore(tmp_path / "relit.db")
    await store.start()
    yield Engine(store, Payloads(ObstoreBlobs(str(tmp_path / "blobs"))))
    await store.stop()


@pytest.fixture
def configured(tmp_path: Path) -> Settings:
    (tmp_path / "relit.toml").write_text(FILE)
    return load(tmp_path / "relit.toml", environment=Environment({}), data=tmp_path / "data")


@pytest.fixture
def tools(configured: Settings, engine: Engine) -> HouseTools:
    def none() -> Any:
        raise AssertionError("not asked for")

    return HouseTools(configured, engine, none, [SECRET])


def call(tool: str, agent: str = "a") -> ToolCall:
    return ToolCall(id="1", agent=agent, tool=tool, effect="native-key", hash="h", key=f"k-{agent}")


async def test_no_agent_takes_or_ends_anothers_schedule(tools: HouseTools, engine: Engine) -> None:
    """Whatever they are called."""
    await tools.send(call("schedule", "a--b"), {"name": "c", "message": "tick", "every": "1h"})
    for asked in ({"message": "mine", "every": "1h"}, {"cancel": True}):
        with pytest.raises(NotSent, match="taken"):
            await tools.send(call("schedule", "a"), {"name": "b--c", **asked})
    [kept] = await engine.store.schedules()
    assert (kept.name, kept.agent) == ("a--b--c", "a--b")


async def test_no_secret_is_written_into_notes_schedules_or_messages(tools: HouseTools, engine: Engine) -> None:
    said = f"the key is {SECRET.decode()}."
    for name, asked in (
        ("remember", {"name": "key", "text": said}),
        ("send_to_agent", {"agent": "a--b", "message": said}),
        ("schedule", {"name": "key", "message": said, "every": "1h"}),
    ):
        with pytest.raises(NotSent, match="hold a secret"):
            await tools.send(call(name), asked)
    assert (await engine.store.tools.notes("a"), await engine.store.runs(), await engine.store.schedules()) == (
        [],
        [],
        [],
    )


async def test_a_moment_is_that_of_the_call_however_late_it_is_allowed(configured: Settings, engine: Engine) -> None:
    asked: list[tuple[str, str, list[bytes]]] = []

    class Kept:
        async def restore(self, agent: str, at: str, paths: list[bytes]) -> Any:
            asked.append((agent, at, paths))
            return SimpleNamespace(to=7)

    tools = HouseTools(configured, engine, lambda: nullcontext(cast("Any", Kept())))
    made = msgspec.structs.replace(call("restore_file"), started_at=1_000_000_000_000)
    for at in ("10 minutes ago", "12"):
        assert not (await tools.send(made, {"path": "a/b", "at": at})).failed
    with pytest.raises(NotSent, match="not a time"):
        await tools.send(made, {"path": "a", "at": "some while ago"})
    assert asked == [("a", "@999999400000", [b"a/b"]), ("a", "12", [b"a/b"])]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errors.RunTimeout("it took too long"), "it took too long"),
        (errors.RunFailed("it failed"), "it failed"),
        (errors.PayloadError("its output cannot be read"), None),
        (errors.StoreUnavailable("the store is away"), None),
    ],
)
async def test_a_function_that_was_started_never_counts_as_not_done(
    configured: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch, error: errors.RelitError, told: str | None
) -> None:
    """Its run goes on, or has ended: the same call is the same run."""

    async def result(engine: Engine, run: str) -> object:
        raise error

    monkeypatch.setattr(Engine, "result", result)
    tools = FunctionTools(configured, engine, {"charge": Described("Charge.", {}, True)})
    if told is None:
        with pytest.raises(Unsure):
            await tools.send(call("charge"), {})
    else:
        outcome = await tools.send(call("charge"), {})
        assert outcome.failed
        assert told in outcome.content[0]["text"]
    assert len(await engine.store.runs()) == 1


async def test_a_functions_key_is_known_as_long_as_its_run_is_kept(configured: Settings, engine: Engine) -> None:
    [tool] = FunctionTools(configured, engine, {"charge": Described("Charge.", {}, True)}).tools
    assert (tool.effect, tool.key_ms) == ("native-key", configured.file.retention.runs_ms)


async def test_a_function_gets_no_secret_by_way_of_the_journal(configured: Settings, engine: Engine) -> None:
    tools = FunctionTools(configured, engine, {"charge": Described("Charge.", {}, True)}, [SECRET])
    with pytest.raises(NotSent, match="hold a secret"):
        await tools.send(call("charge"), {"card": SECRET.decode()})
    assert await engine.store.runs() == []
