"""Files below one folder, and never outside it, whatever the manifest says and whoever swaps folders meanwhile.

Every path is bytes, relative to the root, and checked (``check_path``). The folder that holds it is opened with
``openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)`` (an older kernel: part by part with
``O_NOFOLLOW``) and stays pinned by its descriptor; what follows works on one last name in that descriptor and follows
no symlink. So a symlink put in place of a folder is refused, and one put in place of the last name is itself replaced.

One object is for one thread: its cache of open folders is not locked.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from relit.errors import VolumeDamaged, VolumeError

_OPENAT2 = 437  # the same number on every architecture
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
_EXCHANGE, _NOREPLACE = 2, 1
_ESCAPES = (errno.ELOOP, errno.EXDEV, errno.ENOTDIR)
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LONGEST = 4095  # bytes of a path
_LIBC = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def check_path(path: bytes) -> bytes:
    """The path itself when it can only name something below the root; VolumeDamaged otherwise."""
    if b"\x00" in path or len(path) > LONGEST:
        raise _hostile(path, f"it has a NUL or is longer than {LONGEST} bytes")
    parts = path.split(b"/")
    if b"" in parts or b"." in parts or b".." in parts:
        raise _hostile(path, "it has an empty part, '.' or '..'")
    if len(path) > 255 and max(map(len, parts)) > 255:
        raise _hostile(path, "a part is longer than 255 bytes")
    return path


def _hostile(path: bytes, why: str) -> VolumeDamaged:
    shown = os.fsdecode(path[:200])
    return VolumeDamaged(
        f"the manifest names a path that no snapshot can hold: {shown!r}",
        why=why,
        fix="relit volume verify; nothing was written",
    )


def _failed(code: int, path: bytes) -> OSError:
    return OSError(code, os.strerror(code), os.fsdecode(path))


def _escape(path: bytes, error: OSError) -> VolumeError:
    return VolumeError(
        f"refused to go through {os.fsdecode(path)!r} in a home",
        why=f"a part of it is a symlink or no folder ({error.strerror})",
        fix="stop the agent and restore again",
    )


def _openat2(root: int, path: bytes, flags: int) -> int:
    how = _OpenHow(flags, 0, _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH)
    fd = _LIBC.syscall(
        ctypes.c_long(_OPENAT2),
        ctypes.c_long(root),
        ctypes.c_char_p(path),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if fd < 0:
        raise _failed(ctypes.get_errno(), path)
    return int(fd)


def _walk(root: int, path: bytes) -> int:
    """``_openat2`` of a folder where the kernel has none: each part by its own name, following nothing."""
    fd = os.dup(root)
    for part in path.split(b"/"):
        try:
            below = os.open(part, _FOLDER, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _open_folder(root: int, path: bytes, *, openat2: bool) -> int:
    if openat2:
        for _ in range(64):  # EAGAIN: something was renamed during the look-up
            try:
                return _openat2(root, path, _FOLDER)
            except OSError as error:
                if error.errno in (errno.ENOSYS, errno.EPERM):
                    break
                if error.errno != errno.EAGAIN:
                    raise
    return _walk(root, path)


def _renameat2(old: tuple[int, bytes], new: tuple[int, bytes], flags: int) -> None:
    while _LIBC.renameat2(old[0], ctypes.c_char_p(old[1]), new[0], ctypes.c_char_p(new[1]), ctypes.c_uint(flags)):
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise _failed(code, new[1])


class Beneath:
    """A folder's inside; a symlink to a folder is refused.

    ``keep``: how many of its folders stay open; ``openat2``: false walks part by part.
    """

    def __init__(self, root: Path, *, keep: int = 128, openat2: bool = True) -> None:
        self.root = root
        self.fd = os.open(root, _FOLDER)
        self._keep = keep
        self._openat2 = openat2
        self._folders: OrderedDict[bytes, int] = OrderedDict()

    def __enter__(self) -> Beneath:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Safe twice."""
        self.forget(b"")
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def forget(self, path: bytes) -> None:
        """Close the kept folders at and below ``path``: it is (or may be) another one from now on."""
        prefix = path + b"/"
        for kept in [name for name in self._folders if not path or name == path or name.startswith(prefix)]:
            os.close(self._folders.pop(kept))

    def at(self, path: bytes) -> tuple[int, bytes]:
        """The pinned folder that holds ``path``, and its last name. The descriptor is ours, until the next call."""
        if not path:
            return self.fd, b"."
        check_path(path)
        folder, _, name = path.rpartition(b"/")
        return (self._folder(folder) if folder else self.fd), name

    def _folder(self, path: bytes) -> int:
        fd = self._folders.get(path)
        if fd is not None:
            self._folders.move_to_end(path)
            return fd
        try:
            fd = _open_folder(self.fd, path, openat2=self._openat2)
        except OSError as error:
            if error.errno in _ESCAPES:
                raise _escape(path, error) from error
            raise
        self._folders[path] = fd
        if len(self._folders) > self._keep:
            os.close(self._folders.popitem(last=False)[1])
        return fd

    # --- looking -----------------------------------------------------------------------------------------------

    def lstat(self, path: bytes) -> os.stat_result | None:
        """``None`` when there is nothing; nothing is below a file or a symlink either."""
        try:
            fd, name = self.at(path)
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except VolumeError as error:
            if isinstance(error, VolumeDamaged):
                raise
            return None

    def open(self, path: bytes, flags: int, mode: int = 0o600) -> int:
        """A descriptor of the file itself; a symlink is refused."""
        fd, name = self.at(path)
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=fd)

    @contextmanager
    def pinned(self, path: bytes) -> Iterator[tuple[int, os.stat_result]]:
        """An ``O_PATH`` descriptor of whatever is there, a symlink included, and what it is."""
        fd = self.open(path, os.O_PATH)
        try:
            yield fd, os.fstat(fd)
        finally:
            os.close(fd)

    def names(self, path: bytes) -> list[bytes]:
        """What a folder holds."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return [os.fsencode(name) for name in os.listdir(fd)]
        finally:
            os.close(fd)

    def readlink(self, path: bytes) -> bytes:
        """A symlink's target."""
        fd, name = self.at(path)
        return os.readlink(name, dir_fd=fd)

    # --- changing ----------------------------------------------------------------------------------------------

    def create(self, path: bytes) -> int:
        """A new empty file, open for reading and writing; FileExistsError when anything is there."""
        return self.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def write(self, path: bytes, content: bytes) -> None:
        """The whole content, through a temporary beside it: another reader sees the old or the new one."""
        temp = path + b".temp"
        with contextlib.suppress(FileNotFoundError):
            self.unlink(temp)
        with os.fdopen(self.create(temp), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.rename(temp, path)

    def mkdir(self, path: bytes, mode: int = 0o700) -> None:
        """A new folder."""
        fd, name = self.at(path)
        os.mkdir(name, mode, dir_fd=fd)

    def symlink(self, target: bytes, path: bytes) -> None:
        """A new symlink. Its target is only text: nothing here ever follows it."""
        fd, name = self.at(path)
        os.symlink(target, name, dir_fd=fd)

    def unlink(self, path: bytes) -> None:
        """Remove a file or a symlink."""
        fd, name = self.at(path)
        os.unlink(name, dir_fd=fd)

    def rmdir(self, path: bytes) -> None:
        """Remove an empty folder."""
        fd, name = self.at(path)
        os.rmdir(name, dir_fd=fd)
        self.forget(path)

    def rename(self, old: bytes, new: bytes) -> None:
        """Within this folder, replacing."""
        with self._two(old, self, new) as (here, there):
            os.rename(here[1], there[1], src_dir_fd=here[0], dst_dir_fd=there[0])

    def move(self, path: bytes, other: Beneath, new: bytes) -> None:
        """To another root of the same filesystem; FileExistsError rather than replacing."""
        with self._two(path, other, new) as (here, there):
            _renameat2(here, there, _NOREPLACE)

    def exchange(self, path: bytes, other: Beneath, new: bytes) -> None:
        """Swap two things of any kinds, atomically."""
        with self._two(path, other, new) as (here, there):
            _renameat2(here, there, _EXCHANGE)

    def link(self, path: bytes, other: Beneath, new: bytes) -> None:
        """A further name, below ``other``, of the file itself."""
        with self._two(path, other, new) as (here, there):
            os.link(here[1], there[1], src_dir_fd=here[0], dst_dir_fd=there[0], follow_symlinks=False)

    @contextmanager
    def _two(self, path: bytes, other: Beneath, new: bytes) -> Iterator[tuple[tuple[int, bytes], tuple[int, bytes]]]:
        fd, name = self.at(path)
        kept = os.dup(fd)  # opening the other's folder may close this one
        try:
            yield (kept, name), other.at(new)
        finally:
            os.close(kept)
            self.forget(path)
            other.forget(new)

    def sync(self, path: bytes) -> None:
        """Make a folder's names durable."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_all(self) -> None:
        """Make the whole filesystem durable: cheaper than many single ones."""
        fd = self.open(b"", os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _LIBC.syncfs(fd):
                raise _failed(ctypes.get_errno(), os.fsencode(self.root))
        finally:
            os.close(fd)


def is_folder(found: os.stat_result | None) -> bool:
    """Whether that is a folder (and there at all)."""
    return found is not None and stat.S_ISDIR(found.st_mode)
