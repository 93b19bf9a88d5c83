"""The keeper's socket: who may connect, lines in, lines out. Standard library only."""

import errno
import json
import os
import select
import socket
import struct
from collections.abc import Callable

from relit.node.keeper_requests import Peer

LINE_MAX = 4 << 20  # a request's size: argv and environment
BACKLOG_MAX = 4 << 20  # unsent bytes after which a client that does not read is dropped
PEERS_MAX = 200


class Door:
    """Hands every line of a client to ``handle``; ``left`` hears of clients that are gone."""

    def __init__(self, poll: select.epoll, handle: Callable[[Peer, bytes], None], left: Callable[[Peer], None]) -> None:
        self._poll, self._handle, self._left = poll, handle, left
        self._peers: dict[int, Peer] = {}
        self._path = ""

    def open(self, path: str) -> None:
        """Listen there."""
        if os.path.lexists(path):
            os.unlink(path)  # a dead keeper's: we hold the lock
        where, name = os.path.split(path)
        folder = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
        old = os.umask(0o177)
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.bind(f"/proc/self/fd/{folder}/{name}")  # no limit of 107 bytes on the folder's name
        finally:
            os.umask(old)
            os.close(folder)
        self._socket.listen(512)
        self._socket.setblocking(False)
        self._poll.register(self._socket, select.EPOLLIN)
        self._path = path

    def close(self) -> None:
        """Nobody can come any more."""
        self._socket.close()
        if os.path.lexists(self._path):
            os.unlink(self._path)

    def serve(self, fd: int, events: int) -> None:
        """What epoll told of a descriptor."""
        if fd == self._socket.fileno():
            return self._accept()
        peer = self._peers.get(fd)
        if peer is not None and events & select.EPOLLOUT:
            self._flush(peer)
        if peer is not None and events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._receive(peer)

    def watching(self) -> list[Peer]:
        """Clients that want to hear of ends."""
        return [peer for peer in self._peers.values() if peer.watching]

    def send(self, peer: Peer, message: dict[str, object]) -> None:
        """Never waits: what a client does not take now, it gets later. One that is gone gets nothing."""
        if peer.sock.fileno() == -1:
            return
        peer.outbox += json.dumps(message).encode() + b"\n"
        self._flush(peer)

    def _accept(self) -> None:
        try:
            sock, _ = self._socket.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE):
                raise
            return
        if len(self._peers) >= PEERS_MAX:
            sock.close()
            return
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", credentials)[1] not in (0, os.geteuid()):
            sock.close()
            return
        sock.setblocking(False)
        self._peers[sock.fileno()] = Peer(sock)
        self._poll.register(sock, select.EPOLLIN)

    def _receive(self, peer: Peer) -> None:
        try:
            data = peer.sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        peer.inbox += data
        *lines, rest = bytes(peer.inbox).split(b"\n") if b"\n" in data else [bytes(peer.inbox)]
        peer.inbox = bytearray(rest)
        for line in lines:
            if line.strip():
                self._handle(peer, line)
        if not data or len(peer.inbox) > LINE_MAX:
            self._drop(peer)

    def _flush(self, peer: Peer) -> None:
        try:
            while peer.outbox:
                del peer.outbox[: peer.sock.send(peer.outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(peer)
            return
        if len(peer.outbox) > BACKLOG_MAX:
            self._drop(peer)
            return
        self._poll.modify(peer.sock, select.EPOLLIN | (select.EPOLLOUT if peer.outbox else 0))

    def _drop(self, peer: Peer) -> None:
        fd = peer.sock.fileno()
        if fd == -1:
            return
        self._poll.unregister(fd)
        del self._peers[fd]
        peer.sock.close()
        self._left(peer)
