"""From intent to receipt: what was begun, and what came of it, is on disk, whatever the store and the service do."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tools_house import Scripted, house, mail

from relit.errors import StoreUnavailable
from relit.gateway.tools.base import Outcome, Tool, Unsure
from relit.gateway.tools.http import HttpTools
from relit.gateway.tools.plan import HttpTool, LookUp
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.sql.tools import SqlTools
from relit.store.tools import ToolCall, ToolEnd


async def only(store: SqliteStore) -> ToolCall:
    [found] = await store.tools.of_agent("scout")
    return found


async def test_each_attempt_says_on_disk_until_when_it_may_have_an_effect(tmp_path: Path) -> None:
    """The next gateway looks for what this one did, and not before that."""
    deadlines: list[int] = []

    async def act(call: ToolCall, arguments: dict[str, Any]) -> Outcome:
        deadlines.append((await only(home.store)).deadline_at or 0)
        raise Unsure("cut off")

    source = Scripted([mail(effect="lookup", timeout=0.3)], act)
    async with house(tmp_path, source) as home:
        began = await home.store.now_ms()
        await home.call(to="ann")
        assert (await only(home.store)).state == "in_doubt"
    assert len(deadlines) == 3
    assert all(later - earlier >= 300 for earlier, later in pairwise([began, *deadlines]))


async def test_a_receipt_waits_for_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tried = SqlTools.end, 0

    async def end(calls: SqlTools, end: ToolEnd) -> ToolCall:
        nonlocal tried
        tried += 1
        if tried < 3:
            raise StoreUnavailable("the store cannot be reached")
        return await real(calls, end)

    monkeypatch.setattr(SqlTools, "end", end)
    monkeypatch.setattr("relit.gateway.tools.carrying.AWAY_S", 0.01)
    async with house(tmp_path, Scripted([mail()])) as home:
        assert await home.call(to="ann") == ("sent to ann", False)
        assert (await only(home.store)).state == "done"
        assert (tried, len(home.source.made)) == (3, 1)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("200 OK", b"<html>please log in</html>"),
        ("200 OK", b'{"items": [{"id": 1'),
        ("302 Found", b'{"items": []}'),
        ("500 Oops", b'{"items": []}'),
    ],
)
async def test_a_look_up_that_cannot_be_read_says_nothing(status: str, body: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
    tools = HttpTools(
        [HttpTool(tool=Tool("drop", effect="lookup"), url=url, private=True, lookup=LookUp(url, "items.0"))]
    )
    call = ToolCall(id="1", agent="a", tool="drop", effect="lookup", hash="h", key="k")
    async with server:
        with pytest.raises(Unsure, match="look-up"):
            await tools.look(call, {})
        await tools.stop()


async def test_what_nobody_could_look_up_is_not_sent_again(tmp_path: Path) -> None:
    source = Scripted([mail(effect="lookup", timeout=0.1)], lambda call, arguments: Unsure("cut off"))

    def found(call: ToolCall) -> Outcome | None:
        raise Unsure("the look-up cannot be read")

    source.found = found
    async with house(tmp_path, source) as home:
        words, _ = await home.call(to="ann")
        assert "nobody knows" in words
        assert len(source.made) == 1
