"""What a life of a turn asks otherwise than the one before is on record, with the parts that differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway_house import CHAT, client, provider, sends
from turns_house import life, recorder

from relit.store.sql.sqlite.store import SqliteStore

USED = json.dumps({"model": "m", "choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 100}}).encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(USED), USED)
SYSTEM = {"role": "system", "content": "It is 15:04."}
ASKED = {"model": "m", "max_tokens": 100, "messages": [SYSTEM, {"role": "user", "content": "hello"}]}
TITLE = {"model": "m", "messages": [{"role": "user", "content": "Think of a title."}]}


async def diverged(store: SqliteStore, folder: Path, *second: dict[str, Any]) -> list[dict[str, Any]]:
    """What is told when a life asks these, after one that asked ``ASKED``."""
    async with provider(sends(OK)) as there, recorder(there.url, store, folder) as here, client(here) as http:
        await life(store, 1)
        assert (await http.post(CHAT, json=ASKED)).status_code == 200
        await life(store, 2)
        for each in second:
            assert (await http.post(CHAT, json=each)).status_code == 200
    return [
        each.data for each in await store.events(names=["turn.diverged"]) if (each.agent, each.run) == ("scout", "r1")
    ]


async def test_the_next_gateway_knows_that_there_was_another_life(store: SqliteStore, tmp_path: Path) -> None:
    async with provider(sends(OK)) as there:
        for number in (1, 2):
            async with recorder(there.url, store, tmp_path / "blobs") as here, client(here) as http:
                await life(store, number)
                for _ in range(2):
                    assert (await http.post(CHAT, json=ASKED)).status_code == 200
    assert [each.state for each in await store.calls.of_run("r1")] == ["done", "done", "replayed", "replayed"]
    assert not await store.events(names=["turn.diverged"])


async def test_once_for_a_conversation_that_goes_another_way(store: SqliteStore, tmp_path: Path) -> None:
    [data] = await diverged(store, tmp_path / "blobs", {**ASKED, "max_tokens": 101}, ASKED)
    first, second, _ = await store.calls.of_run("r1")
    assert (data["before"], data["asked"]) == (first.key, second.key)
    assert (data["number"], data["differs"]) == (1, "max_tokens")


async def test_instructions_that_change_by_themselves_are_told(store: SqliteStore, tmp_path: Path) -> None:
    """They make it another conversation: a mask is missing."""
    later = {**ASKED, "messages": [{**SYSTEM, "content": "It is 15:05."}, *ASKED["messages"][1:]]}
    [data] = await diverged(store, tmp_path / "blobs", later, later)
    assert (data["number"], data["differs"]) == (1, "messages[0]")


async def test_they_are_told_once_for_a_life(store: SqliteStore, tmp_path: Path) -> None:
    later = [
        {**ASKED, "messages": [{**SYSTEM, "content": f"It is 15:0{each}."}, *ASKED["messages"][1:]]} for each in (5, 6)
    ]
    assert len(await diverged(store, tmp_path / "blobs", *later)) == 1


async def test_a_conversation_that_goes_on_is_no_other_way(store: SqliteStore, tmp_path: Path) -> None:
    """A further call of it is made after those that were replayed; another conversation had begun, too."""
    longer = {**ASKED, "messages": [*ASKED["messages"], {"role": "assistant", "content": "hi"}]}
    async with provider(sends(OK)) as there, recorder(there.url, store, tmp_path) as here, client(here) as http:
        await life(store, 1)
        for each in (ASKED, {**TITLE, "messages": [*TITLE["messages"], ASKED["messages"][1]]}):
            await http.post(CHAT, json=each)
        await life(store, 2)
        for each in (ASKED, longer):
            await http.post(CHAT, json=each)
    assert await store.events(names=["turn.diverged"]) == []


async def test_one_that_has_nothing_in_common_is_no_other_way(store: SqliteStore, tmp_path: Path) -> None:
    assert await diverged(store, tmp_path / "blobs", TITLE, ASKED) == []
    assert [each.state for each in await store.calls.of_run("r1")] == ["done", "done", "replayed"]
