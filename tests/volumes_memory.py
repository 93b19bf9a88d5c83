"""Volumes whose homes are dictionaries: what routes, client and commands say is tested against them."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from relit import documents
from relit.documents import Mark, Messages
from relit.errors import Conflict, NotFound
from relit.lib.moments import At, Number, read_when
from relit.lib.names import shown

T0 = 1_700_000_000_000
NOW = T0 + 3_600_000

Tree = dict[bytes, bytes]


class MemoryVolumes:
    """One snapshot a minute from ``T0`` on; ``homes`` are the files as they are."""

    def __init__(self) -> None:
        self.homes: dict[str, Tree] = {"clerk": {b"notes/a.md": b"one\n", b"caf\xe9": b"\x00\x01"}}
        self.kept: dict[str, list[tuple[documents.Snapshot, Tree]]] = {}
        self.asked: list[Any] = []
        self.damage: list[documents.Damage] = []
        self.notes: list[str] = []

    def _of(self, agent: str) -> list[tuple[documents.Snapshot, Tree]]:
        if agent not in self.kept:
            raise NotFound(f"{agent} has no volume", fix="relit volume ls")
        return self.kept[agent]

    def _find(self, agent: str, when: str) -> tuple[documents.Snapshot, Tree]:
        asked = read_when(when, NOW)
        for snapshot, tree in reversed(self._of(agent)):
            match asked:
                case Number(number):
                    fits = snapshot.number == number
                case At(ms):
                    fits = snapshot.at <= ms
                case _:
                    fits = asked.name == snapshot.id or asked.name in snapshot.tags
            if fits:
                return snapshot, tree
        raise NotFound(f"{agent} has no snapshot {when}", fix=f"relit volume log {agent}")

    def _take(self, agent: str, reason: Any, note: str = "", tags: Sequence[str] = ()) -> documents.Snapshot:
        some = self.kept.setdefault(agent, [])
        number = len(some) + 1
        made = documents.Snapshot(
            id=f"{number:026d}", agent=agent, number=number, at=T0 + number * 60_000, reason=reason,
            files=len(self.homes[agent]), bytes=sum(map(len, self.homes[agent].values())), fresh=2048, freeze_us=4200,
            quiescent=number > 1, note=note, tags=[*tags], local_at=T0,
            skipped=[documents.Skipped(path="run.sock", why="a socket")],
        )  # fmt: skip
        some.append((made, dict(self.homes[agent])))
        return made

    async def list(self) -> documents.Volumes:
        return documents.Volumes(
            volumes=[
                documents.Volume(agent=name, node="n", created_at=T0, snapshots=len(some), newest=len(some))
                for name, some in sorted(self.kept.items())
            ],
            damage=self.damage,
        )

    async def log(self, agent: str, *, limit: int = 100, before: int | None = None) -> documents.Snapshots:
        found = [each for each, _ in reversed(self._of(agent)) if before is None or each.number < before]
        more = found[limit - 1].number if len(found) > limit else None
        return documents.Snapshots(snapshots=found[:limit], next=more)

    async def resolve(self, agent: str, when: str) -> documents.Snapshot:
        return self._find(agent, when)[0]

    async def ls(self, agent: str, when: str, path: bytes = b"", *, deep: bool = False) -> documents.Files:
        snapshot, tree = self._find(agent, when)
        files = [self._file(name, data) for name, data in sorted(tree.items()) if name.startswith(path)]
        return documents.Files(snapshot=snapshot, files=files)

    def _file(self, name: bytes, data: bytes) -> documents.File:
        return documents.File(
            path=shown(name), kind="file", mode=0o644, uid=0, gid=0, mtime_ns=T0 * 10**6, size=len(data)
        )

    async def cat(self, agent: str, when: str, path: bytes) -> AsyncIterator[bytes]:
        tree = self._find(agent, when)[1]
        if path not in tree:
            raise NotFound(f"there was no {shown(path)}")
        for start in range(0, len(tree[path]), 3):
            yield tree[path][start : start + 3]

    async def diff(self, agent: str, a: str, b: str = "now", path: bytes = b"", *, text: bool = True) -> documents.Diff:
        before, old = self._find(agent, a)
        after, new = (None, self.homes[agent]) if b == "now" else self._find(agent, b)
        changes = [
            documents.Change(
                path=shown(name),
                before=self._file(name, old[name]) if name in old else None,
                after=self._file(name, new[name]) if name in new else None,
                text=self._text(old.get(name, b""), new.get(name, b"")) if text else None,
            )
            for name in sorted(old.keys() | new.keys())
            if name.startswith(path) and old.get(name) != new.get(name)
        ]
        return documents.Diff(agent=agent, a=before.number, b=after.number if after else None, changes=changes)

    def _text(self, old: bytes, new: bytes) -> str | None:
        if b"\0" in old + new:
            return None
        return "".join(difflib.unified_diff(old.decode().splitlines(True), new.decode().splitlines(True)))

    async def stats(self, agent: str | None = None) -> documents.VolumeStats:
        return documents.VolumeStats(
            agent=agent or "",
            snapshots=2,
            files=2,
            bytes=10,
            entries=3,
            chunks=4,
            packed=5,
            packs={"open": 1},
            key="ab",
        )

    async def snapshot(
        self, agent: str, *, note: str = "", wait: Mark = "local", tag: str | None = None
    ) -> documents.Taken:
        self.asked.append(wait)
        some = self.kept.get(agent)
        if some and some[-1][1] == self.homes[agent] and not note and not tag:
            return documents.Taken(snapshot=some[-1][0], created=False)
        return documents.Taken(snapshot=self._take(agent, "request", note, [tag] if tag else []), created=True)

    async def restore(
        self,
        agent: str,
        when: str,
        paths: Sequence[bytes] = (),
        *,
        dry_run: bool = False,
        exact: bool = False,
        full: bool = False,
        messages: Messages | None = None,
    ) -> documents.Restored:
        to, tree = self._find(agent, when)
        home = self.homes[agent]
        names = [name for name in tree.keys() | home.keys() if not paths or name.startswith(tuple(paths))]
        done = documents.Restored(
            agent=agent,
            to=to,
            dry_run=dry_run,
            whole=not paths,
            written=sorted(shown(name) for name in names if name in tree and home.get(name) != tree[name]),
            removed=sorted(shown(name) for name in names if name not in tree and (exact or not paths)),
            skipped=[documents.Skipped(path="run", why="stays")],
            effects=[documents.SinceEffect(run="r" * 26, pos="1", name="mail", state="done", at=T0)],
            messages=[documents.SinceMessage(run="m" * 26, state="completed", at=T0)],
            choice=messages,
        )
        if dry_run:
            return done
        before = self._take(agent, "before-restore")
        for name in names:
            if name in tree:
                home[name] = tree[name]
            elif exact or not paths:
                del home[name]
        replaced = "rejected/1" if full else ""
        return msgspec.structs.replace(
            done, replaced=replaced, before=before.number, number=self._take(agent, "restore").number
        )

    async def fork(self, agent: str, new: str, when: str) -> documents.Volume:
        snapshot, tree = self._find(agent, when)
        if new in self.homes:
            raise Conflict(f"there is an agent {new} already")
        self.homes[new] = dict(tree)
        self._take(new, "fork")
        return documents.Volume(agent=new, node="n", created_at=T0, origin=f"{agent}@{snapshot.number}", snapshots=1)

    async def tag(
        self, agent: str, when: str, tag: str, *, remove: bool = False, force: bool = False
    ) -> documents.Snapshot:
        snapshot = self._find(agent, when)[0]
        if tag == "known-good" and not (remove or force or snapshot.quiescent):
            raise Conflict("a run was unfinished")
        snapshot.tags = [each for each in snapshot.tags if each != tag] + ([] if remove else [tag])
        return snapshot

    async def pin(self, agent: str, when: str, *, pinned: bool = True) -> documents.Snapshot:
        snapshot = self._find(agent, when)[0]
        snapshot.pinned = pinned
        return snapshot

    async def prune(self, agent: str | None = None, *, dry_run: bool = False) -> documents.Pruned:
        gone = documents.Dropped(agent="clerk", number=1, at=T0, why="older than every tier")
        kept = documents.Dropped(agent="clerk", number=2, at=T0, why="newest")
        return documents.Pruned(dry_run=dry_run, dropped=[gone], kept=[kept], condemned=1)

    async def verify(self, agent: str | None = None, *, sample: float = 1.0) -> documents.Verified:
        hurt = documents.Damage(what="chunk 00ff", agent="clerk", snapshots=[1, 2], paths=["notes/a.md"])
        damage = [] if sample < 1 else [hurt]
        return documents.Verified(snapshots=2, packs=1, chunks=4, bytes=10, damage=damage, notes=self.notes)

    async def rebuild(self) -> documents.Rebuilt:
        return documents.Rebuilt(volumes=1, snapshots=2, packs=1, chunks=4)

    async def remove(self, agent: str, *, home: bool = False) -> documents.Removed:
        if any(each.pinned for each, _ in self._of(agent)):
            raise Conflict(f"{agent} has a pinned snapshot", fix=f"relit volume pin {agent} NUMBER --off")
        del self.kept[agent]
        return documents.Removed(agent=agent, home="home.removed-1" if home else "home", put_away=home)
