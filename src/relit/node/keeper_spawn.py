"""How the keeper starts a child, and hears of its children's ends. Standard library only."""

import os
import select
import signal
import socket

from relit.node import kin
from relit.node.keeper_files import Files
from relit.node.keeper_lives import Life, boot_ms
from relit.node.keeper_requests import find_program, open_log

_DEFAULTS = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD, signal.SIGXFSZ]


def spawn(
    life: Life, argv: list[str], env: dict[str, str], cwd: str, null: int, groups: kin.Groups, files: Files,
    oom: object = None,
) -> None:  # fmt: skip
    """Start it in a session and a group of its own. ``null`` is an open /dev/null. ``oom``: what the kernel is told of
    it, a number or nothing. OSError, ValueError."""
    log = open_log(life.log) if life.log else null
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
    actions += [(os.POSIX_SPAWN_DUP2, life.gate, life.gate_inside)] if life.gate != -1 else []
    try:
        os.chdir(cwd)  # posix_spawn takes no folder; we are single-threaded
        program = find_program(argv[0], env.get("PATH", os.defpath))
        life.group = groups.take()
        files.narrow()
        life.pid = os.posix_spawn(
            program, argv, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=_DEFAULTS
        )
    finally:
        files.widen()
        os.chdir("/")
        if log != null:
            os.close(log)
    if isinstance(oom, int):
        _rank(life.pid, oom)
    proc = kin.look(life.pid)
    life.start = proc.start if proc is not None else 0
    life.begun_ms = boot_ms()


def _rank(pid: int, oom: int) -> None:
    try:
        kin.write(f"/proc/{pid}/oom_score_adj", str(oom))
    except OSError:
        pass  # it has ended, or this may not be said here


def wakes(poll: select.epoll) -> socket.socket:
    """What becomes readable with every signal, such as that of a child's end."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)  # stays open: the C level writes to it
    poll.register(reader, select.EPOLLIN)
    return reader
