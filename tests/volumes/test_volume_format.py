"""What the format page says is so: a reader written from it alone restores what relit has packed."""

from __future__ import annotations

import ast
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import independent_reader
import msgspec
import pytest
from packs_for_tests import VOLUME, noise, snapshot, spool_in, text

from relit.lib.clock import SYSTEM_CLOCK
from relit.manifest import Entry, Segment
from relit.store.claim import claim_prefix
from relit.store.objects import FolderObjects
from relit.volumes.beneath import Beneath
from relit.volumes.ignore import Ignore
from relit.volumes.keys import Keys, ids_of, plain_id
from relit.volumes.look import sweep
from relit.volumes.pack import CHUNK, FOOTER, Sealer
from relit.volumes.reading import Reader
from relit.volumes.scan import Home
from relit.volumes.spool import Spool
from relit.volumes.tree import Tree, View
from relit.volumes.upload import key_of

PAGE = (Path(__file__).parents[2] / "docs/reference/volume-format.md").read_text("utf-8")
KEYS = Keys(bytes(range(32)))
FAST = (2**4, 8, 1)
SUITES: dict[str, tuple[Keys | None, str, dict[str, object]]] = {
    "key": (KEYS, KEYS.export(), {}),
    "passphrase": (
        Keys.from_passphrase("grüne Wiese", b"s" * 16, FAST),
        "grüne Wiese",
        {"salt": (b"s" * 16).hex(), "scrypt": list(FAST)},
    ),
    "off": (None, "", {}),
}
suites = pytest.mark.parametrize("suite", list(SUITES))


class Keeper:
    """Packs the trees of one home, as a snapshot does."""

    def __init__(self, folder: Path, suite: str) -> None:
        self.keys, self.secret, self.extra = SUITES[suite]
        self.extra = {"encryption": suite, **self.extra}
        if self.keys is not None:
            self.extra["key"] = self.keys.id_of(b"relit key id 1").hex()
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.spool: Spool = spool_in(folder / "spool", self.keys, limit=1 << 20)
        self.objects = FolderObjects(folder / "store", clock=SYSTEM_CLOCK)
        self.reader = Reader(ids_of(self.keys), memoryview(bytearray(4 << 20)))
        self.tree = Tree([], [])
        self.number = 0

    def take(self) -> int:
        """A snapshot of the home as it is."""
        with Beneath(self.home) as beneath:
            home = Home(beneath, Ignore())
            chunks: dict[bytes, bytes] = {}
            seen = self.reader.see(
                home, self.tree, sweep(home, View(self.tree)), lambda id, data: chunks.setdefault(id, bytes(data))
            )
        self.spool.put(list(chunks.items()))
        self.number += 1
        dropped = snapshot(self.number)
        self.spool.settle(self.spool.put_delta(VOLUME, dropped, self.tree.delta({})), False)
        self.spool.settle(self.spool.put_delta(VOLUME, snapshot(self.number), self.tree.delta(seen)), True)
        self.tree.apply(seen)
        return self.number

    async def store(self) -> Path:
        """Everything in the blob store."""
        await claim_prefix(self.objects, "s1", self.extra)
        self.spool.seal()
        for pack, path in self.spool.sealed():
            await self.objects.put_file(key_of(pack.id), path)
            self.spool.release(pack)
        return self.folder / "store"

    def restored(self, number: int) -> Path:
        store = independent_reader.Store(self.folder / "store", self.secret)
        out = self.folder / f"out-{number}-{len(os.listdir(self.folder))}"
        independent_reader.restore(store, "v1", number, out)
        return out


def facts(home: Path) -> list[tuple[object, ...]]:
    """Everything that a restore must bring back, bit for bit."""
    found: list[tuple[object, ...]] = []
    first: dict[int, str] = {}
    for path in sorted([home, *home.rglob("*")]):
        name, now = str(path.relative_to(home)), path.lstat()
        content: object = None
        if stat.S_ISLNK(now.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(now.st_mode):
            content = (path.read_bytes(), first.setdefault(now.st_ino, name))
        xattrs = {each: os.getxattr(path, each) for each in os.listxattr(path, follow_symlinks=False)}
        found.append((name, now.st_mode, now.st_uid, now.st_gid, now.st_mtime_ns, now.st_size, content, xattrs))
    return found


def fill(home: Path) -> None:
    """A home with some of everything."""
    (home / "notes").mkdir()
    (home / "notes/a.md").write_text("one\n")
    (home / os.fsdecode(b"caf\xe9 \xff")).write_bytes(b"\x00\x01")
    (home / "empty").touch()
    (home / "empty-folder").mkdir(mode=0o700)
    (home / "state.db").write_bytes(b"SQLite format 3\0" + noise(100 * 16384))  # segments
    (home / "state.db-wal").write_bytes(noise(20_000, 1))
    (home / "big.log").write_bytes(text(3 << 20))
    (home / "link").symlink_to("notes/a.md")
    (home / "dangling").symlink_to("/nowhere")
    os.link(home / "notes/a.md", home / "z-hard")
    os.link(home / "big.log", home / "a-hard")
    with (home / "sparse").open("wb") as file:
        file.write(noise(5000, 2))
        file.seek(1 << 20)
        file.write(noise(200_000, 3))
        file.truncate(3 << 20)
    (home / "hole").touch()
    os.truncate(home / "hole", 1 << 20)
    (home / "run.sh").write_text("#!/bin/sh\n")
    (home / "run.sh").chmod(0o4755)
    os.chown(home / "run.sh", 1234, 4321)
    (home / "run.sh").chmod(0o4755)
    os.utime(home / "notes/a.md", ns=(1, -1_500_000_000))
    os.setxattr(home / "empty", "user.mark", b"\x00yes")


def change(home: Path) -> None:
    with (home / "state.db").open("r+b") as file:
        file.seek(70 * 16384)
        file.write(noise(4096, 9))
    (home / "notes/a.md").unlink()
    (home / "link").unlink()
    (home / "link").mkdir()
    (home / "link/inside").write_text("a folder now")
    (home / "big.log").write_bytes(text(3 << 20) + b"more\n")


def shrink(home: Path) -> None:
    os.truncate(home / "state.db", 10 * 16384)
    (home / "empty-folder").rmdir()


if os.geteuid() != 0:
    if os.environ.get("CI") == "true":
        raise RuntimeError("these tests need root")
    pytest.skip("owners can be given by root alone", allow_module_level=True)


@suites
async def test_every_snapshot_is_restored_bit_for_bit(tmp_path: Path, suite: str) -> None:
    keeper = Keeper(tmp_path, suite)
    wanted = {}
    for step in (fill, change, shrink):
        step(keeper.home)
        wanted[keeper.take()] = facts(keeper.home)
    store = await keeper.store()
    assert len(list(store.glob("packs/??/*"))) > 1
    for number, shape in wanted.items():
        assert facts(keeper.restored(number)) == shape
    assert (keeper.restored(1) / "sparse").stat().st_blocks * 512 < 1 << 20


@suites
async def test_packs_without_their_index_are_enough(tmp_path: Path, suite: str) -> None:
    keeper = Keeper(tmp_path, suite)
    fill(keeper.home)
    keeper.take()
    change(keeper.home)
    keeper.take()
    for path in (await keeper.store()).glob("packs/??/*"):
        data = bytearray(path.read_bytes())
        data[-FOOTER.size - 1] ^= 1
        path.write_bytes(data)
    assert facts(keeper.restored(2)) == facts(keeper.home)


async def test_a_history_that_was_written_anew_begins_there(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, "key")
    fill(keeper.home)
    keeper.take()
    change(keeper.home)
    keeper.take()
    keeper.spool.seal()
    entries, segments = list(keeper.tree.entries.values()), segments_of(keeper.tree)
    whole = Tree([], []).delta({})
    full = msgspec.structs.replace(whole, full=True, entries=entries, segments=segments)
    place = keeper.spool.put_delta(VOLUME, snapshot(2), full, consolidated=True)
    keeper.spool.settle(place, True)
    shrink(keeper.home)
    keeper.take()
    await keeper.store()
    store = independent_reader.Store(tmp_path / "store", keeper.secret)
    store.steps["v1"] = [step for step in store.steps["v1"] if step.number != 1]
    independent_reader.restore(store, "v1", 3, tmp_path / "out")
    assert facts(tmp_path / "out") == facts(keeper.home)


def segments_of(tree: Tree) -> list[Segment]:
    """All of a tree, as a record from nothing lists them."""
    found = []
    for path, entry in tree.entries.items():
        ids = tree.ids(path) if entry.count > 64 else b""
        found += [Segment(path, no, ids[no * 1024 : (no + 1) * 1024]) for no in range(-(-len(ids) // 1024))]
    return found


@suites
async def test_the_reader_runs_alone(tmp_path: Path, suite: str) -> None:
    keeper = Keeper(tmp_path, suite)
    fill(keeper.home)
    keeper.take()
    store = await keeper.store()
    script = Path(independent_reader.__file__)
    subprocess.run([sys.executable, "-I", script, store, keeper.secret, tmp_path / "out", "ada", "1"], check=True)
    assert facts(tmp_path / "out") == facts(keeper.home)


@pytest.mark.parametrize(("suite", "secret"), [("key", Keys(b"o" * 32).export()), ("passphrase", "gruene Wiese")])
async def test_the_reader_refuses_another_secret(tmp_path: Path, suite: str, secret: str) -> None:
    keeper = Keeper(tmp_path, suite)
    store = await keeper.store()
    with pytest.raises(independent_reader.Damaged, match="another store's key"):
        independent_reader.Store(store, secret)


def test_the_reader_knows_nothing_of_relit() -> None:
    tree = ast.parse(Path(independent_reader.__file__).read_text("utf-8"))
    names = {each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    others = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert others == {"blake3", "cryptography", "msgspec", "zstandard"}


def test_the_examples_of_the_page_are_so() -> None:
    told = dict(re.findall(r"^\| (.*) \| `([0-9a-z:-]+)` \|$", PAGE.partition("## Examples")[2], re.M))
    pack = "0123456789abcdef" * 2
    assert told == {
        "key as text": KEYS.export(),
        "key's id": KEYS.id_of(b"relit key id 1").hex(),
        "key check": KEYS.check_of(bytes.fromhex(pack)).hex(),
        "chunk id": KEYS.id_of(b"hello").hex(),
        "chunk id, suite 0": plain_id(b"hello").hex(),
        "header": Sealer(pack, KEYS).header().hex(),
        "header, suite 0": Sealer(pack, None).header().hex(),
        "chunk record, counter 7": Sealer(pack, KEYS).seal(CHUNK, 7, b"hello").hex(),
        "chunk record, counter 7, suite 0": Sealer(pack, None).seal(CHUNK, 7, b"hello").hex(),
        "master key of the passphrase `correct horse`, salt 16 zero bytes, n 32768, r 8, p 1": (
            Keys.from_passphrase("correct horse", bytes(16))._master.hex()
        ),
    }


def test_the_page_names_every_field() -> None:
    from relit.manifest import Delta, Position, Snapshot, Volume
    from relit.volumes.pack import Described

    for struct in (Volume, Snapshot, Delta, Position, Described):
        missing = [field.name for field in msgspec.structs.fields(struct) if f"`{field.name}`" not in PAGE]
        assert missing == [], struct
    rows = PAGE.partition("### Entries")[2].partition("### Segments")[0]
    listed = re.findall(r"^\| \d[\d, ]* \| ([\w, ]+) \|", rows, re.M)
    names = [name for part in listed for name in part.split(", ")]
    assert names == [field.name.removesuffix("_ns") for field in msgspec.structs.fields(Entry)]
