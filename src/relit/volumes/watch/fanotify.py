"""Events of whole filesystems, sorted to the homes they belong to. Needs CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH.

An event names its folder by handle. A handle is resolved to a path when its event is read, not when it happened: so
whenever a folder moves, its new place is told as a tree, and every path learned before is forgotten. A path that
was learned is then never older than the last move that was read, and one that is newer than its event is
covered by the tree of a move that is still to be read. Handles that lead nowhere are of removed folders: the folder
above them has its own event. Paths of folders outside of all homes are kept as ``None``, so their events cost one
look-up. Folders above a home are kept apart: when a name there changes that leads to the home, everything may differ.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from relit.volumes.base import Changes
from relit.volumes.watch import kernel
from relit.volumes.watch.kernel import CREATE, MOVED, MOVED_TO, NAMES, ONDIR, OVERFLOW
from relit.volumes.watch.maps import Mappings
from relit.volumes.watch.reading import Reading, log
from relit.volumes.watch.touched import Touched

_EVENT = struct.Struct("=IBBHQii")  # length, version, reserved, length of this, mask, fd, pid
_INFO = struct.Struct("=BBH8sIi")  # type, pad, length, filesystem, handle's length, handle's type
_KEY = _EVENT.size + 4  # where filesystem and handle begin
_NAMED, _UNNAMED = 2, 3
_MOST_SPOTS = 200_000
_GONE = (errno.ESTALE, errno.ENOENT, errno.ENAMETOOLONG)


class _Spot(msgspec.Struct, frozen=True):
    """What a folder is to the homes: inside of these, at that path; or above some, being there."""

    inside: tuple[tuple[Touched, bytes], ...]
    above: bytes | None


class _Mount:
    """Where homes are mounted: a descriptor that handles are resolved from."""

    def __init__(self, fd: int) -> None:
        self.fd = os.dup(fd)
        self.homes: set[Touched] = set()


class FanotifyWatch:
    """Events of one home."""

    def __init__(self, watcher: Fanotify, touched: Touched) -> None:
        self.exact = True
        self._watcher = watcher
        self._touched = touched

    def drain(self) -> Changes:
        """All that happened before this call."""
        if not self.exact:
            return Changes(everything=True)
        try:
            return self._watcher.drain(self._touched)
        except OSError as error:
            self.close()
            log.warning("%s cannot be watched any more (%s): its snapshots read all names", self._touched.home, error)
            return Changes(everything=True)

    def mapped(self, recent_s: float = 0.0, pids: Collection[int] | None = None) -> frozenset[bytes]:
        """Files that some process has mapped shared and writable, now or up to ``recent_s`` ago; or one of ``pids``."""
        return self._watcher.mappings.below(self._touched.root, recent_s, pids)

    def mapped_inodes(self) -> frozenset[int]:
        """Of all that any process had mapped, by whatever name, when all were asked last."""
        return self._watcher.mappings.inodes()

    def close(self) -> None:
        """Safe twice. From now on all that can be told is "everything"."""
        self.exact = False
        self._watcher.forget(self._touched)


class Fanotify:
    """Watches filesystems. OSError when that is not permitted.

    ``unlimited``: events wait in the kernel without a limit; else 16,384 of them, then everything counts as touched.
    """

    def __init__(self, mappings: Mappings, *, unlimited: bool = True) -> None:
        self.mappings = mappings
        self._group = kernel.fanotify(unlimited=unlimited)
        self._homes: dict[bytes, list[Touched]] = {}
        self._above: set[bytes] = set()
        self._filesystems: dict[bytes, dict[int, _Mount]] = {}  # by the filesystem's id, then the mount's
        self._spots: dict[bytes, _Spot | None] = {}
        self._complained = False
        self._reading = Reading(self._group, self._take, self._lose)
        self._reading.start()

    def watch(self, home: Path, skip: Sequence[bytes] = ()) -> FanotifyWatch:
        """Begin. OSError when the filesystem of the home cannot be marked."""
        touched = Touched(home, skip)
        with self._reading.lock:
            touched.arrived()
            if touched.there:
                self._register(touched)
            else:
                touched.lose()
        return FanotifyWatch(self, touched)

    def drain(self, touched: Touched) -> Changes:
        """Everything until now; a home that is another folder now is found again."""
        with self._reading.lock:
            self._reading.catch_up()
            if touched.arrived():
                self.forget(touched)
                if touched.there:
                    self._register(touched)
                touched.lose()
            return touched.take()

    def forget(self, touched: Touched) -> None:
        """No more events for it. Safe twice."""
        with self._reading.lock:
            for homes in self._homes.values():
                if touched in homes:
                    homes.remove(touched)
            for key, mounts in list(self._filesystems.items()):
                for number in [number for number, each in mounts.items() if touched in each.homes]:
                    self._leave(key, number, touched)
            self._reindex()

    def close(self) -> None:
        """Safe twice."""
        self._reading.stop()
        for mounts in self._filesystems.values():
            for mount in mounts.values():
                os.close(mount.fd)
        self._filesystems.clear()

    # --- homes -------------------------------------------------------------------------------------------------

    def _register(self, touched: Touched) -> None:
        fd = os.open(touched.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            handle, mount = kernel.handle_of(fd)
            if kernel.path_of(fd, handle) != touched.root:
                raise OSError(errno.EOPNOTSUPP, "its folders cannot be found by their handles")
            kernel.mark_filesystem(self._group, fd)
            mounts = self._filesystems.setdefault(kernel.filesystem_id(fd), {})
            if mount not in mounts:
                mounts[mount] = _Mount(fd)
            mounts[mount].homes.add(touched)
        finally:
            os.close(fd)
        self._homes.setdefault(touched.root, []).append(touched)
        self._reindex()

    def _leave(self, key: bytes, number: int, touched: Touched) -> None:
        mounts = self._filesystems[key]
        mount = mounts[number]
        mount.homes.discard(touched)
        if mount.homes:
            return
        if len(mounts) == 1:
            kernel.unmark_filesystem(self._group, mount.fd)
            del self._filesystems[key]
        del mounts[number]
        os.close(mount.fd)

    def _reindex(self) -> None:
        self._homes = {root: homes for root, homes in self._homes.items() if homes}
        self._above = {os.fsencode(each) for root in self._homes for each in Path(os.fsdecode(root)).parents}
        self._spots.clear()

    def _lose(self) -> None:
        for homes in self._homes.values():
            for touched in homes:
                touched.lose()

    # --- events ------------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> int:
        at = count = 0
        while at < len(data):
            count += 1
            length, _, _, _, mask, _, _ = _EVENT.unpack_from(data, at)
            if length > _EVENT.size:
                kind, _, _, _, size, _ = _INFO.unpack_from(data, at + _EVENT.size)
                end = at + _EVENT.size + _INFO.size + size
                key = data[at + _KEY : end]
                spot = self._spots[key] if key in self._spots else self._resolve(key)
                if spot is not None:  # most events are of no home
                    name = data[end : at + length].partition(b"\0")[0] if kind == _NAMED else b"."
                    self._note(spot, mask, b"" if name == b"." else name)
            elif mask & OVERFLOW:
                log.warning("more happened in homes than the kernel could keep: all of them are swept")
                self._lose()
            at += length
        return count * _EVENT.size

    def _note(self, spot: _Spot, mask: int, name: bytes) -> None:
        for touched, folder in spot.inside:
            path = folder + b"/" + name if folder and name else folder or name
            touched.path(path, mask)
            if mask & ONDIR and mask & (CREATE | MOVED_TO):
                touched.tree(path)
        if mask & ONDIR and mask & NAMES and spot.above is not None:
            self._led_elsewhere(spot.above.rstrip(b"/") + b"/" + name)
        if mask & ONDIR and mask & MOVED:
            self._spots.clear()

    def _led_elsewhere(self, path: bytes) -> None:
        for root, homes in self._homes.items():
            if root == path or root.startswith(path + b"/"):
                for touched in homes:
                    touched.lose()

    # --- where a folder is -------------------------------------------------------------------------------------

    def _resolve(self, key: bytes) -> _Spot | None:
        inside: list[tuple[Touched, bytes]] = []
        above = None
        for mount in self._filesystems.get(key[:8], {}).values():  # none: of a home that is watched no more
            try:
                path = kernel.path_of(mount.fd, key[8:])
            except OSError as error:
                if error.errno in _GONE:
                    continue
                self._complain(error)
                self._lose()
                return None
            if path is not None:
                inside += self._within(path)
                above = path if path in self._above else above
        return self._keep(key, _Spot(tuple(inside), above) if inside or above is not None else None)

    def _complain(self, error: OSError) -> None:
        if not self._complained:  # once: the log's own file may be what the next event is about
            log.warning("an event's folder was not found (%s): homes are swept", error.strerror)
        self._complained = True

    def _keep(self, key: bytes, spot: _Spot | None) -> _Spot | None:
        if len(self._spots) >= _MOST_SPOTS:
            self._spots.clear()
        self._spots[key] = spot
        return spot

    def _within(self, path: bytes) -> list[tuple[Touched, bytes]]:
        found = []
        root = path
        while root:
            folder = path[len(root) :].lstrip(b"/")
            found += [(each, folder) for each in self._homes.get(root, ()) if not each.skips(folder)]
            root = root.rpartition(b"/")[0]
        return found
