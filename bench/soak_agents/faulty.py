"""An agent with a fault of its own: ``faulty.py MODE PORT``. Standard library only; started some thousand times.

It answers HTTP on its port (``/ready`` says 503 while it is not). While the file ``calm`` is beside this program it
behaves. What must never happen it writes into ``violations`` in its home.
"""

import fcntl
import json
import os
import random
import signal
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = os.environ.get("RELIT_HOME", "")
CONFIG = os.path.join(HOME, "config.json")
MEGABYTE = 1 << 20


class Door:
    """A thread that answers, once it is opened. A taken port ends this life."""

    def __init__(self, port: int) -> None:
        self.ready = True
        self.mute = False
        self._port = port

    def open(self) -> None:
        server = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._serve, args=(server,), daemon=True).start()

    def _serve(self, server: socket.socket) -> None:
        while True:
            caller, _ = server.accept()
            with caller:
                while self.mute:
                    time.sleep(60)
                try:
                    caller.settimeout(5)
                    asked = caller.recv(4096)
                    good = self.ready or b"/ready" not in asked
                    caller.sendall(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % (b"200 OK" if good else b"503 No"))
                except OSError:
                    continue  # whoever asked is gone


def calm() -> bool:
    """Whether it must behave now."""
    return os.path.exists(os.path.join(HERE, "calm"))


def rest(least: float, most: float) -> None:
    """Be well for a while; for ever once it is calm."""
    until = time.monotonic() + random.uniform(least, most)
    while calm() or time.monotonic() < until:
        time.sleep(0.5)


def violation(what: str) -> None:
    with open(os.path.join(HOME, "violations"), "a") as file:
        file.write(what + "\n")


def alone() -> None:
    """A stray of an earlier life holds a lock: relit must have ended it before this life began."""
    lock = os.open(os.path.join(HOME, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        violation("something of an earlier life was still there")


# --- faults: each is called when the door is open, and ends its life or not -----------------------------------------


def well(door: Door) -> None:
    rest(1e9, 1e9)


def exits(door: Door) -> None:
    rest(3, 40)
    os._exit(random.randrange(6))


def says_78(door: Door) -> None:
    rest(5, 40)
    os._exit(78)


def says_75(door: Door) -> None:
    rest(3, 40)
    os._exit(75)


def strays(door: Door) -> None:
    """Leaves processes with sessions of their own, which hold its lock."""
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            time.sleep(3600)
    rest(3, 30)
    os._exit(1)


def deaf(door: Door) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    rest(1e9, 1e9)


def stops(door: Door) -> None:
    rest(5, 60)
    os.kill(os.getpid(), signal.SIGSTOP)


def mute(door: Door) -> None:
    rest(5, 60)
    door.mute = True


def eats(door: Door) -> None:
    rest(10, 60)
    food = bytearray(100 * MEGABYTE)
    food[::4096] = b"x" * len(food[::4096])
    os.kill(os.getpid(), signal.SIGKILL)


def floods(door: Door) -> None:
    for _ in range(random.randrange(1, 6)):
        rest(5, 20)
        for _ in range(40):
            os.write(1, b"all work and no play makes this agent a dull one\n" * 1000)
    os._exit(1)


def is_slow(door: Door) -> None:
    """Its door opens late, which it says."""
    for step in range(random.randrange(3, 9)):
        if not calm():
            print(f"getting up: {step}", flush=True)
            time.sleep(1)
    door.open()
    rest(10, 60)
    os._exit(1)


def is_unready(door: Door) -> None:
    """Most lives are ready too late, or never."""
    door.ready = calm() or random.random() < 0.4
    until = time.monotonic() + random.uniform(2, 30)
    while not door.ready:
        door.ready = calm() or time.monotonic() > until
        time.sleep(0.2)
    rest(20, 60)
    os._exit(1)


def ruins_config(door: Door) -> None:
    """Refuses a configuration that it cannot read, and makes it so by itself."""
    try:
        with open(CONFIG) as file:
            json.load(file)
    except (OSError, ValueError) as error:
        print(f"my configuration is wrong: {error}", flush=True)
        os._exit(78)
    rest(15, 60)
    with open(CONFIG, "w") as file:
        file.write('{"mood": ')
    os._exit(random.choice((1, 78)))


MODES = {
    "well": well,
    "exits": exits,
    "says-78": says_78,
    "says-75": says_75,
    "strays": strays,
    "deaf": deaf,
    "stops": stops,
    "mute": mute,
    "eats": eats,
    "floods": floods,
    "slow": is_slow,
    "unready": is_unready,
    "port-taken": exits,  # by whom: see weather.py
    "ruins-config": ruins_config,
}


if __name__ == "__main__":
    mode, its_door = sys.argv[1], Door(int(sys.argv[2]))
    alone()
    if mode != "slow":
        its_door.open()
    MODES[mode](its_door)
    while True:
        time.sleep(60)
