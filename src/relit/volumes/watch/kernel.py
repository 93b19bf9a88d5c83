"""The system calls of fanotify, inotify and file handles. Errors are OSError."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import termios

MODIFY, ATTRIB, CLOSE_WRITE = 0x02, 0x04, 0x08
MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF = 0x400, 0x800
UNMOUNT, OVERFLOW, IGNORED = 0x2000, 0x4000, 0x8000
ONDIR = 0x4000_0000  # inotify's IN_ISDIR is the same bit
MOVED = MOVED_FROM | MOVED_TO
NAMES = MOVED | CREATE | DELETE
CHANGES = MODIFY | ATTRIB | CLOSE_WRITE | NAMES

_FAN_INIT = 0x01 | 0x02 | 0xC00  # CLOEXEC, NONBLOCK, REPORT_DFID_NAME; class NOTIF is 0
_FAN_UNLIMITED_QUEUE = 0x10
_FAN_ADD, _FAN_REMOVE, _FAN_FILESYSTEM = 0x01, 0x02, 0x100
_IN_ONLYDIR = 0x0100_0000
_AT_FDCWD, _AT_EMPTY_PATH, _AT_SYMLINK_FOLLOW = -100, 0x1000, 0x400
_HANDLE = struct.Struct("=Ii")  # length, type
_MAX_HANDLE = 128

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fanotify_mark.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]
_LIBC.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
_LIBC.open_by_handle_at.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
_LIBC.name_to_handle_at.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_int),
    ctypes.c_int,
]


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def fanotify(*, unlimited: bool) -> int:
    """A group that names the folder and the entry of each event."""
    return _checked(_LIBC.fanotify_init(_FAN_INIT | (_FAN_UNLIMITED_QUEUE if unlimited else 0), os.O_RDONLY))


def mark_filesystem(group: int, fd: int) -> None:
    """Events of all that lies on the filesystem of ``fd``. Safe twice."""
    _checked(_LIBC.fanotify_mark(group, _FAN_ADD | _FAN_FILESYSTEM, CHANGES | ONDIR, fd, None))


def unmark_filesystem(group: int, fd: int) -> None:
    """No more of them."""
    _checked(_LIBC.fanotify_mark(group, _FAN_REMOVE | _FAN_FILESYSTEM, CHANGES | ONDIR, fd, None))


def inotify() -> int:
    """An instance; there are few for one user (``max_user_instances``)."""
    return _checked(_LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))


def add_watch(instance: int, folder: int) -> int:
    """Events of what lies in an open folder. The same number when it is watched already."""
    name = b"/proc/self/fd/%d" % folder
    return _checked(_LIBC.inotify_add_watch(instance, name, CHANGES | DELETE_SELF | MOVE_SELF | _IN_ONLYDIR))


def remove_watch(instance: int, number: int) -> None:
    """Stop. OSError when it is gone by itself."""
    _checked(_LIBC.inotify_rm_watch(instance, number))


def handle_of(fd: int, path: bytes = b"") -> tuple[bytes, int]:
    """The file handle, as events have it, and the mount's number. ``path`` is followed to its end."""
    held = ctypes.create_string_buffer(_HANDLE.pack(_MAX_HANDLE, 0), _HANDLE.size + _MAX_HANDLE)
    mount = ctypes.c_int()
    flags = _AT_SYMLINK_FOLLOW if path else _AT_EMPTY_PATH
    _checked(_LIBC.name_to_handle_at(fd if not path else _AT_FDCWD, path, held, ctypes.byref(mount), flags))
    length, _ = _HANDLE.unpack_from(held.raw)
    return held.raw[: _HANDLE.size + length], mount.value


def path_of(mount: int, handle: bytes) -> bytes | None:
    """Where the file of a handle is now, seen from the mount of an open folder; ``None`` when it was removed."""
    fd = _checked(_LIBC.open_by_handle_at(mount, handle, os.O_PATH | os.O_CLOEXEC))
    try:
        path = os.readlink(b"/proc/self/fd/%d" % fd)
        if not path.endswith(b" (deleted)"):
            return path
        found = os.fstat(fd)
        try:
            there = os.lstat(path)
        except OSError:
            return None
        return path if (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino) else None
    finally:
        os.close(fd)


def filesystem_id(fd: int) -> bytes:
    """As events have it."""
    return struct.pack("=Q", os.fstatvfs(fd).f_fsid)


def waiting(fd: int) -> int:
    """Bytes that can be read (of fanotify: 24 for each event)."""
    return int(struct.unpack("=i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])
