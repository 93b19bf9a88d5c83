"""Events of every folder of a home, each watched by itself. Needs no rights, but a watch for each folder.

The watched folders form a tree of nodes by name, as the events' order has it. Whenever a name that is a folder
comes, goes or moves, the node of that name is dropped with all below it, and what is there now is walked and watched
anew: so it does not matter how far the filesystem is ahead of its events. What happened in a folder before it was
watched is covered by telling it as a tree. Where folders change places so fast that a walk finds one below itself, the
home is walked again as a whole. Folders are opened below the home without following symlinks: nobody can
lead a watch outside.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from relit.errors import VolumeError
from relit.volumes.base import Changes
from relit.volumes.beneath import Beneath
from relit.volumes.watch import kernel
from relit.volumes.watch.kernel import ATTRIB, DELETE_SELF, IGNORED, MOVE_SELF, NAMES, ONDIR, OVERFLOW, UNMOUNT
from relit.volumes.watch.maps import Mappings
from relit.volumes.watch.reading import Reading, log
from relit.volumes.watch.touched import Touched

_EVENT = struct.Struct("=iIII")  # watch, mask, cookie, length of the name
_OPEN = os.O_RDONLY | os.O_DIRECTORY
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES)


class _Node:
    """A watched folder."""

    __slots__ = ("children", "home", "name", "number", "parent")

    def __init__(self, home: InotifyWatch, parent: _Node | None, name: bytes, number: int) -> None:
        self.home = home
        self.parent = parent
        self.name = name
        self.number = number
        self.children: dict[bytes, _Node] = {}

    def path(self) -> bytes:
        """Below the home."""
        parts = []
        node = self
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return b"/".join(reversed(parts))


class InotifyWatch:
    """Events of one home. ``exact`` becomes false when the kernel allows no further watches."""

    def __init__(self, watcher: Inotify, touched: Touched) -> None:
        self.exact = True
        self.touched = touched
        self.root: _Node | None = None
        self.broken = True  # what is watched may not be what is there
        self._watcher = watcher

    def drain(self) -> Changes:
        """All that happened before this call."""
        return self._watcher.drain(self) if self.exact else Changes(everything=True)

    def mapped(self, recent_s: float = 0.0, pids: Collection[int] | None = None) -> frozenset[bytes]:
        """Files that some process has mapped shared and writable, now or up to ``recent_s`` ago; or one of ``pids``."""
        return self._watcher.mappings.below(self.touched.root, recent_s, pids)

    def mapped_inodes(self) -> frozenset[int]:
        """Of all that any process had mapped, by whatever name, when all were asked last."""
        return self._watcher.mappings.inodes()

    def close(self) -> None:
        """Safe twice. From now on all that can be told is "everything"."""
        self.exact = False
        self._watcher.forget(self)


class Inotify:
    """Watches folders, all homes with one instance. OSError when the user may have no further instance."""

    def __init__(self, mappings: Mappings) -> None:
        self.mappings = mappings
        self._fd = kernel.inotify()
        self._nodes: dict[int, list[_Node]] = {}
        self._homes: set[InotifyWatch] = set()
        self._reading = Reading(self._fd, self._take, self._lose)
        self._reading.start()

    def watch(self, home: Path, skip: Sequence[bytes] = ()) -> InotifyWatch:
        """Begin. OSError when there are too many folders already."""
        watch = InotifyWatch(self, Touched(home, skip))
        with self._reading.lock:
            watch.touched.arrived()
            try:
                self._begin(watch)
            except OSError:
                self.forget(watch)
                raise
            if not watch.touched.there:
                watch.touched.lose()
        return watch

    def drain(self, watch: InotifyWatch) -> Changes:
        """Everything until now. A home that is another folder now, or whose events were lost, is walked again."""
        with self._reading.lock:
            self._reading.catch_up()
            if watch.touched.arrived() or watch.broken or watch.root is None:
                watch.touched.lose()
                self._begin_again(watch)
            return watch.touched.take()

    def forget(self, watch: InotifyWatch) -> None:
        """No more events for it. Safe twice."""
        with self._reading.lock:
            self._homes.discard(watch)
            if watch.root is not None:
                self._drop(watch.root)
                watch.root = None

    def close(self) -> None:
        """Safe twice."""
        with self._reading.lock:
            for watch in self._homes:
                watch.exact, watch.root = False, None
            self._homes.clear()
            self._nodes.clear()
        self._reading.stop()

    # --- homes -------------------------------------------------------------------------------------------------

    def _begin(self, watch: InotifyWatch) -> None:
        self.forget(watch)
        self._homes.add(watch)
        watch.broken = False
        if watch.touched.there:
            self._add(watch, None, b"")

    def _begin_again(self, watch: InotifyWatch) -> None:
        try:
            self._begin(watch)
        except OSError as error:
            self._give_up(watch, error)

    def _give_up(self, watch: InotifyWatch, error: OSError) -> None:
        watch.exact = False
        watch.touched.lose()
        self.forget(watch)
        log.warning(
            "%s has more folders than may be watched (%s): its snapshots read all names. "
            "Raise fs.inotify.max_user_watches, or run relit as root",
            watch.touched.home,
            error.strerror,
        )

    def _lose(self) -> None:
        for watch in self._homes:
            watch.touched.lose()
            watch.broken = True

    # --- folders -----------------------------------------------------------------------------------------------

    def _add(self, watch: InotifyWatch, parent: _Node | None, name: bytes) -> bool:
        """Watch a folder and all below it; false when there is none. OSError: no more watches."""
        try:
            beneath = Beneath(Path(os.fsdecode(watch.touched.root)))
        except (FileNotFoundError, NotADirectoryError):
            return False
        with beneath:
            device = os.fstat(beneath.fd).st_dev
            first = node = self._add_one(watch, beneath, device, parent, name)
            due = [first] if first is not None else []
            while due:
                node = due.pop()
                for each in self._folders(beneath, node):
                    below = self._add_one(watch, beneath, device, node, each)
                    due += [below] if below is not None else []
        return first is not None

    def _add_one(
        self, watch: InotifyWatch, beneath: Beneath, device: int, parent: _Node | None, name: bytes
    ) -> _Node | None:
        path = _join(parent.path(), name) if parent is not None else b""
        if path and watch.touched.skips(path):
            return None
        fd = _opened(beneath, path)
        if fd is None:
            return None
        try:
            if os.fstat(fd).st_dev != device:
                return None
            number = kernel.add_watch(self._fd, fd)
        finally:
            os.close(fd)
        return self._place(watch, parent, name, number)

    def _place(self, watch: InotifyWatch, parent: _Node | None, name: bytes, number: int) -> _Node | None:
        nodes = self._nodes.setdefault(number, [])
        node = next((each for each in nodes if each.home is watch), None)
        if node is None:
            node = _Node(watch, parent, name, number)
            nodes.append(node)
        elif node in _chain(parent):  # folders change places while we look: which is above which is not known
            watch.broken = True
            return None
        elif node.parent is not None:  # it moved, and we are ahead of the event
            _unlink(node)
            node.parent, node.name = parent, name
        if parent is None:
            watch.root = node
        else:
            parent.children[name] = node
        return node

    def _folders(self, beneath: Beneath, node: _Node) -> list[bytes]:
        fd = _opened(beneath, node.path())
        if fd is None:
            return []
        try:
            with os.scandir(fd) as entries:
                return [os.fsencode(each.name) for each in entries if each.is_dir(follow_symlinks=False)]
        finally:
            os.close(fd)

    def _drop(self, node: _Node) -> None:
        """Watch a folder and all below it no more."""
        due = [node]
        _unlink(node)
        while due:
            node = due.pop()
            due += node.children.values()
            nodes = self._nodes.get(node.number, [])
            if node in nodes:
                nodes.remove(node)
            if not nodes:
                self._nodes.pop(node.number, None)
                with suppress(OSError):  # EINVAL: the folder was removed, and its watch with it
                    kernel.remove_watch(self._fd, node.number)

    # --- events ------------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> int:
        at = 0
        while at < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            if mask & OVERFLOW:
                log.warning("more happened in homes than the kernel could keep: all of them are swept")
                self._lose()
            else:
                name = data[at : at + length].split(b"\0", 1)[0]
                for node in tuple(self._nodes.get(number, ())):
                    self._note(node, mask, name)
            at += length
        return len(data)

    def _note(self, node: _Node, mask: int, name: bytes) -> None:
        watch = node.home
        if mask & (DELETE_SELF | MOVE_SELF | UNMOUNT | IGNORED):
            self._left(node, mask)
            return
        path = _join(node.path(), name)
        watch.touched.path(path, mask)
        if mask & ONDIR and name and (mask & NAMES or (mask & ATTRIB and name not in node.children)):
            self._renew(node, name, path)

    def _left(self, node: _Node, mask: int) -> None:
        if node.parent is None:
            node.home.touched.lose()
            node.home.broken = True
        elif mask & (UNMOUNT | IGNORED):
            self._drop(node)

    def _renew(self, node: _Node, name: bytes, path: bytes) -> None:
        old = node.children.get(name)
        if old is not None:
            self._drop(old)
        try:
            if self._add(node.home, node, name):
                node.home.touched.tree(path)
        except OSError as error:
            self._give_up(node.home, error)


def _opened(beneath: Beneath, path: bytes) -> int | None:
    """``None`` when no folder is there that we may read."""
    try:
        return beneath.open(path, _OPEN) if path else os.open(b".", _OPEN | os.O_CLOEXEC, dir_fd=beneath.fd)
    except VolumeError:
        return None  # a symlink is in its way
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise


def _chain(node: _Node | None) -> Iterator[_Node]:
    while node is not None:
        yield node
        node = node.parent


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder and name else folder or name


def _unlink(node: _Node) -> None:
    parent = node.parent
    if parent is not None and parent.children.get(node.name) is node:
        del parent.children[node.name]
