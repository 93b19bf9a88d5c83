"""An agent gone wrong: its notes are deleted while it works, and it is put back to the second before."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from relit.client import Client
from relit.demo.configuration import AUDITOR as AGENT
from relit.demo.figures import Mishap
from relit.demo.installation import Installation
from relit.demo.notebook import Notebook
from relit.documents import Restored, Snapshot
from relit.errors import NotFound
from relit.lib.clock import SYSTEM_CLOCK

_ENOUGH = 3  # notes that are worth a deletion
_LOOK_S = 0.1


async def happen(house: Installation, client: Client, tell: Callable[[float, str], None]) -> Mishap:
    """Delete the notes, wait until a snapshot has lost them too, restore, compare. ``tell``: (monotonic s, what)."""
    notebook = Notebook(house.home(AGENT))
    await _enough(client)
    await asyncio.sleep(1 - SYSTEM_CLOCK.now_ms() % 1000 / 1000)  # the second before has those notes, too
    wall, at = SYSTEM_CLOCK.now_ms(), SYSTEM_CLOCK.monotonic()
    second = datetime.fromtimestamp(wall // 1000, UTC).astimezone().strftime("%H:%M:%S")
    gone = notebook.pages()
    await asyncio.to_thread(_delete, notebook.folder)
    tell(at, f"deleted the agent's {len(gone)} notes")
    while (await _newest(client)).at <= wall:  # noqa: ASYNC110 - it is taken in another process
        await asyncio.sleep(_LOOK_S)
    began = SYSTEM_CLOCK.monotonic()
    done = await asyncio.to_thread(house.restore, AGENT, second)
    seconds = SYSTEM_CLOCK.monotonic() - began
    found = await _compare(client, notebook, done, gone, at=at, seconds=seconds)
    tell(began, f"relit restore {AGENT} --at {second} --messages redeliver: {found.notes} notes, {seconds:.2f} s")
    return found


async def _compare(
    client: Client, notebook: Notebook, done: Restored, gone: dict[str, str], *, at: float, seconds: float
) -> Mishap:
    """The notes of that snapshot against those that lie in the home now, and that were deleted."""
    then, now = await _pages(client, done.to), notebook.pages()
    after = await client.volumes.resolve(AGENT, done.number or 0)
    unlike = await client.volumes.diff(AGENT, done.to.number, after.number, text=False)
    return Mishap(
        at=at,
        to=_monotonic(done.to.at),
        restored=_monotonic(after.at),
        seconds=seconds,
        notes=len(then),
        lost=sum(not page == now.get(name) == gone.get(name) for name, page in then.items()),
        differing=len(unlike.changes),
    )


def _monotonic(wall_ms: int) -> float:
    return SYSTEM_CLOCK.monotonic() - (SYSTEM_CLOCK.now_ms() - wall_ms) / 1000


async def _enough(client: Client) -> None:
    """Wait for a snapshot that has some notes."""
    while True:
        try:
            if len(await _names(client, await _newest(client))) >= _ENOUGH:
                return
        except NotFound:
            pass  # no snapshot, or none with notes yet
        await asyncio.sleep(_LOOK_S)


async def _newest(client: Client) -> Snapshot:
    """NotFound when there is none."""
    found = await client.snapshots(AGENT, limit=1)
    if not found:
        raise NotFound(f"{AGENT} has no snapshot")
    return found[0]


async def _names(client: Client, snapshot: Snapshot) -> list[str]:
    listed = await client.volumes.ls(AGENT, snapshot.number, "notes")
    return [file.path for file in listed.files if file.path.endswith(".md")]


async def _pages(client: Client, snapshot: Snapshot) -> dict[str, str]:
    """The notes in a snapshot, by distribution."""
    found = {}
    for path in await _names(client, snapshot):
        pieces = [piece async for piece in client.volumes.cat(AGENT, snapshot.number, path)]
        found[Path(path).stem] = b"".join(pieces).decode()
    return found


def _delete(folder: Path) -> None:
    """The agent may be writing into it meanwhile."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
