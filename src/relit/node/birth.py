"""A child that is born in its cgroup. Standard library only: the keeper uses it.

To move a process into a group the kernel waits until all CPUs have passed a quiet point: some 10 ms after a quiet spell,
in every restart. To be born in one (clone3, ``CLONE_INTO_CGROUP``, Linux 5.7) costs nothing, but neither ``posix_spawn``
nor ``os.fork`` can ask for it. So this forks by the system call itself. That is safe for a process with one thread, with
all signals blocked until the child is the program.
"""

import ctypes
import os
import signal
import struct
from collections.abc import Callable, Mapping, Sequence

_CLONE3 = 435  # on every architecture
_INTO_CGROUP = 1 << 33
_LIBC = ctypes.PyDLL(None, use_errno=True)  # keeps the GIL: the child must find it held
_LIBC.syscall.restype = ctypes.c_long


def spawn(
    group: str, program: str, argv: Sequence[str], env: Mapping[str, str], *, files: Sequence[int], defaults: Sequence[int]
) -> int:
    """Like ``posix_spawn`` with a session of its own. ``files`` become its first descriptors; ``defaults`` are signals.

    Returns when it is the program. Raises ``OSError`` when it cannot be, or when there is no such child.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def become() -> None:
        os.setsid()
        for number, fd in enumerate(files):
            os.dup2(fd, number)
        for number in defaults:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(program, list(argv), dict(env))

    try:
        pid = fork(group, become, writer)
        os.close(writer)
        writer = -1
        if error := os.read(reader, 4):
            os.waitid(os.P_PID, pid, os.WEXITED)
            number = struct.unpack("=i", error)[0]
            raise OSError(number, os.strerror(number))
    finally:
        os.close(reader)
        if writer != -1:
            os.close(writer)
    return pid


def fork(group: str, work: Callable[[], None], trouble: int) -> int:
    """A child in ``group`` that does ``work`` and ends; the errno of its ``OSError`` goes to ``trouble``. ``OSError``."""
    folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        request = struct.pack("=11Q", _INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, folder)
        pid = int(_LIBC.syscall(ctypes.c_long(_CLONE3), request, ctypes.c_size_t(len(request))))
        if pid == 0:
            _be_child(work, trouble)
        if pid < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(folder)
    return pid


def _be_child(work: Callable[[], None], trouble: int) -> None:
    """Never returns."""
    status = 127
    try:
        work()
        status = 0
    except OSError as error:
        os.write(trouble, struct.pack("=i", error.errno or 1))
    finally:
        os._exit(status)
