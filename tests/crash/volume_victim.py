"""Keeps volumes until it kills itself: ``volume_victim.py FOLDER (tell|settle|count|ship|recover) [POINT:N]``.

``tell`` does everything that volumes do, ``settle`` only starts and ends; ``count`` is ``tell``, and says which
points it passed. ``ship`` sends relit's own store along, if the packs are in a bucket; ``recover`` brings it all back.

Everything that it was answered stands in FOLDER/told, a line each, on disk before it goes on. What it is about to ask
for stands there before. With POINT:N it ends itself with SIGKILL at the Nth passing of that crash point.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pickle
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import apsw

sys.path.append(str(Path(__file__).parents[1] / "volumes"))

from shapes import difference as difference
from shapes import shape

from relit.app import parts
from relit.app.keeping import _shipping
from relit.app.recover import recover
from relit.app.volumes import Kept, Tuning, kept
from relit.lib import crashpoints
from relit.lib.clock import SYSTEM_CLOCK
from relit.settings import Settings, load
from relit.store.sql.sqlite.store import SqliteStore
from relit.volumes.rebuild import Rebuilder, Rebuilt
from relit.volumes.watch.opening import open_watcher

AGENT, FORK = "ada", "bob"
HOUR, YEAR = 3_600_000, 400 * 24 * 3_600_000
MANY = 5_100  # rows: more than one transaction takes
PACK = 192 << 10


class Later:
    """The machine's clocks, moved forward: what pruning goes by."""

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset

    def now_ms(self) -> int:
        return SYSTEM_CLOCK.now_ms() + self.offset

    def boot_ms(self) -> int:
        return SYSTEM_CLOCK.boot_ms() + self.offset

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic() + self.offset / 1000


class Told:
    """What was asked for and what was answered, in a file that outlives the process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "told"
        self._shapes = folder / "shapes"
        self._shapes.mkdir(exist_ok=True)

    def add(self, **line: Any) -> None:
        """On disk when this returns."""
        with open(self._path, "a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def lines(self) -> list[dict[str, Any]]:
        """All of them."""
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []

    def seen(self, home: Path) -> str:
        """The name of what is there now; empty for nothing."""
        if not home.is_dir():
            return ""
        found = shape(home)
        name = hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:16]
        (self._shapes / name).write_bytes(pickle.dumps(found))
        return name

    def shape(self, name: str) -> Any:
        """What has that name."""
        return pickle.loads((self._shapes / name).read_bytes())


def settings_in(folder: Path) -> Settings:
    """Of the data folder below ``folder``."""
    return load(folder / "relit.toml", data=folder / "data")


@asynccontextmanager
async def volumes(folder: Path, later: Later) -> AsyncIterator[Kept]:
    """The volumes of that folder, as a node's process has them."""
    settings, options = settings_in(folder), json.loads((folder / "options").read_text())
    tuning = Tuning(pack_bytes=PACK, young_ms=0, later=later, options=options)
    async with (
        parts.engine(settings) as engine,
        kept(settings, engine.store, open_watcher("sweep"), _raise, tuning) as made,
    ):
        yield made


async def rebuilt(made: Kept, store: SqliteStore) -> Rebuilt:
    """What that store gets out of the packs."""
    return await Rebuilder(store.catalog, made.objects, made.care.open_pack, "local").rebuild()


def _raise(error: BaseException) -> None:
    raise error


# --- a home that changes -------------------------------------------------------------------------------------------


def in_database(path: Path, *statements: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL")
    for statement in statements:
        connection.execute(statement)
    connection.close()


def first_files(home: Path) -> None:
    """One of everything."""
    home.mkdir(parents=True)
    for number in range(12):
        (home / f"note-{number}").write_bytes(Random(number).randbytes(3_000))
    (home / "deep" / "er").mkdir(parents=True)
    (home / "empty").mkdir(mode=0o711)
    (home / "large").write_bytes(Random(99).randbytes(400_000))
    (home / "note-large").write_bytes(Random(98).randbytes(150_000))  # soon gone: its pack is mostly dead then
    with open(home / "sparse", "wb") as file:
        file.truncate(2 << 20)
        file.seek(1 << 20)
        file.write(b"island" * 1000)
    os.link(home / "note-0", home / "deep" / "another-name")
    os.link(home / "note-0", home / "deep" / "er" / "a-third")
    (home / "link").symlink_to("deep/er")
    (home / os.fsdecode(b"caf\xe9\n")).write_text("odd")
    os.setxattr(home / "note-1", "user.mark", b"\0\1")
    in_database(home / "a.db", "CREATE TABLE t(x)", "INSERT INTO t VALUES(randomblob(200000))")


def edit(home: Path, turn: int) -> None:
    """Another version."""
    chance = Random(1000 + turn)
    (home / "note-0").write_bytes(chance.randbytes(2_000))  # through all its names
    (home / f"note-{1 + turn % 5}").unlink(missing_ok=True)
    (home / f"new-{turn}").write_bytes(chance.randbytes(40_000))
    with open(home / "large", "r+b") as file:
        file.seek(chance.randrange(390_000))
        file.write(chance.randbytes(5_000))
    in_database(home / "a.db", f"INSERT INTO t VALUES(randomblob({20_000 + turn}))")
    (home / "deep" / f"folder-{turn}").mkdir()
    os.rename(home / "deep" / "er" / "a-third", home / "deep" / "er" / "moving")
    os.rename(home / "deep" / "er" / "moving", home / "deep" / "er" / "a-third")
    (home / "empty").chmod(0o700 + turn % 8)
    (home / "link").unlink()
    (home / "link").symlink_to(f"deep/folder-{turn}")


def many_files(home: Path) -> None:
    """More rows than one transaction takes, of little work: names of one file."""
    (home / "many").mkdir()
    (home / "many" / "0000").write_text("one of many")
    for number in range(1, MANY):
        os.link(home / "many" / "0000", home / "many" / f"{number:04}")


# --- what is done --------------------------------------------------------------------------------------------------


class Story:
    """Everything that volumes do, once; each step says what it wants and what it got."""

    def __init__(self, folder: Path, made: Kept, told: Told, later: Later) -> None:
        self.folder, self.made, self.told, self.later = folder, made, told, later
        self.agents = folder / "data" / "agents"
        self.known: dict[tuple[str, int], str] = {}

    def home(self, agent: str = AGENT) -> Path:
        return self.agents / agent / "home"

    def at(self, agent: str = AGENT) -> str:
        """What the home is now; noted."""
        now = self.told.seen(self.home(agent))
        self.told.add(home=agent, shape=now)
        return now

    def took(self, agent: str, number: int, now: str) -> None:
        self.known[agent, number] = now
        self.told.add(took=agent, number=number, shape=now)

    async def take(self, turn: int | None = None) -> int:
        """Edit, then a snapshot."""
        if turn is not None:
            edit(self.home(), turn)
        now = self.at()
        self.told.add(taking=AGENT, shape=now)
        taken, _ = await self.made.homes.snapshot(AGENT, "request", always=True)
        self.took(AGENT, taken.number, now)
        return taken.number

    async def flush(self) -> None:
        for each in await self.made.uploader.flush():
            self.told.add(stored=each.volume, number=each.number)

    async def restore(self, number: int, *paths: bytes, full: bool = False) -> None:
        was, then = self.at(), self.known[AGENT, number]
        self.told.add(going=AGENT, was=was, then=then)
        going = await self.made.homes.restore(AGENT, number, paths, full=full)
        assert going.after is not None
        if was:
            self.took(AGENT, going.before.number, was)
        self.took(AGENT, going.after.number, then)
        assert self.at() == then, f"a restore of {number} gave something else"

    async def fork(self, number: int) -> None:
        self.told.add(going=FORK, was="", then=self.known[AGENT, number])
        self.told.add(taking=FORK, shape=self.known[AGENT, number])
        await self.made.homes.fork(AGENT, number, FORK)
        self.took(FORK, 1, self.known[AGENT, number])
        await self.made.homes.laid()
        assert self.at(FORK) == self.known[AGENT, number]
        await self.made.care.caretaker.describe()

    async def prune(self, hours: int = 0, years: int = 0) -> None:
        self.later.offset += hours * HOUR + years * YEAR
        self.told.add(later=self.later.offset)
        for each in (await self.made.care.pruner.prune(dry_run=True)).dropped:
            self.told.add(dropping=each.agent, number=each.snapshot.number)
        await self.made.care.pruner.prune()

    async def rebuild(self) -> None:
        store = SqliteStore(self.folder / "rebuilt.db")
        await store.start()
        done = await rebuilt(self.made, store)
        assert not done.problems, done.problems
        await store.stop()

    async def tell(self) -> None:
        first_files(self.home())
        one = await self.take()
        await self.flush()
        (self.home() / "note-large").unlink()
        two = await self.take(1)
        three = await self.take(2)
        await self.flush()
        await self.restore(one)
        await self.take(3)
        with open(self.home() / "large", "r+b") as file:
            file.write(b"spoilt")
        await self.restore((await self.newest()), b"large")
        shutil.rmtree(self.home())
        await self.restore(two)
        await self.restore(three, full=True)
        await self.fork(three)
        await self.flush()
        many_files(self.home())
        await self.take()
        shutil.rmtree(self.home() / "many")
        await self.take(4)
        await self.flush()
        await self.prune(years=1)
        await self.take(5)
        await self.prune(hours=2)
        await self.prune(hours=2)
        await self.take(6)
        await self.flush()
        await self.rebuild()

    async def newest(self) -> int:
        return (await self.made.catalog.volume(AGENT)).newest


async def main(folder: Path) -> None:
    later = Later()
    async with volumes(folder, later) as made:
        await Story(folder, made, Told(folder), later).tell()
        await made.homes.laid()
        await made.care.caretaker.describe()
        await made.uploader.flush()


def arm(spec: str) -> None:
    """Die at the Nth passing of a point."""
    name, _, number = spec.rpartition(":")
    left = int(number)

    def passing(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    crashpoints.install(passing)


def count(folder: Path) -> None:
    """How often each point is passed."""
    passed: Counter[str] = Counter()
    crashpoints.install(lambda point: passed.update([point]))
    asyncio.run(main(folder))
    print(json.dumps(passed))


async def settle(folder: Path) -> None:
    """What a start brings to an end, and nothing else."""
    async with volumes(folder, Later()):
        pass


async def ship(folder: Path) -> None:
    """As ``tell`` would have done now and then."""
    async with volumes(folder, Later()) as made:
        for shipping in _shipping(settings_in(folder), made, _raise):
            await shipping.ship()
        await made.uploader.flush()


async def bring_back(folder: Path) -> None:
    """A lost server."""
    done = await recover(settings_in(folder))
    assert [each for each in done.problems if not each.startswith("no copy of the store")] == []


DOES = {"tell": main, "settle": settle, "ship": ship, "recover": bring_back}

if __name__ == "__main__":
    where, (what, *spec) = Path(sys.argv[1]), sys.argv[2:]
    if what == "count":
        count(where)
    else:
        if spec:
            arm(spec[0])
        asyncio.run(DOES[what](where))
