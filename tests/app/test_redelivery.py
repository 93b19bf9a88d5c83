"""Before a message is delivered again to an agent that may still work on it, the agent is started again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from relit.app import agents, turns
from relit.app.budgets import Purse
from relit.app.instances import hold_of
from relit.app.stillness import InstanceHolder, Instances
from relit.app.turns import LocalDoor
from relit.settings import Environment, load
from relit.store.sql.sqlite.store import SqliteStore

FILE = '[models.default]\nurl = "https://x"\n[agents.ada]\nkind = "hermes"\n'


async def test_a_restore_that_goes_on_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "relit.toml").write_text(FILE)
    settings = load(tmp_path / "relit.toml", environment=Environment({}), data=tmp_path / "data")
    run_dir, hold = settings.data / "run", hold_of(settings, "ada")
    run_dir.mkdir(mode=0o700, parents=True)
    restore = InstanceHolder(run_dir, "ada", lambda: Instances([], [hold]))
    brief = InstanceHolder(run_dir, "ada", lambda: Instances([], [hold]), brief=True)
    await restore.hold("restore of snapshot 7")
    looks: list[str] = []

    async def looked(_: float) -> None:
        looks.append(hold.read_text())
        if len(looks) == 3:
            await restore.release()

    def none(*_: Any) -> Any:
        raise AssertionError("not asked for")

    monkeypatch.setattr(turns.asyncio, "sleep", looked)
    async with httpx.AsyncClient() as http:
        purse = Purse(settings, SqliteStore(tmp_path / "relit.db"))
        door = LocalDoor(http, agents.fitted(settings, "ada"), brief, False, none, hold, purse)
        await door.settled()
    assert looks == ["restore of snapshot 7\nada\n"] * 3
    assert not hold.exists()
