"""The keeper: a tiny process that owns children and their exit codes, so that the node may die or be upgraded.

Standard library only, one thread, one epoll. It decides nothing: it starts what it is told to, once per name, tells
who ended and how, and remembers that until told to forget. Children write straight to their log files; the keeper
holds no pipe that could block them.

Protocol (unix socket ``keeper.sock``, mode 0600): one JSON object a line. ``{"id": 1, "do": "start", …}`` is answered
by ``{"id": 1, "ok": …}`` or ``{"id": 1, "error": {"code", "what"}}``. Operations: ``start`` (key, name, tag, argv, env,
cwd, log), ``list``, ``watch`` (list, and from then on ``{"event": "exit", "life": …}`` for every end), ``signal``
(key, number, whole), ``kill`` (key: the whole tree), ``forget`` (key), ``exit`` (refused while anything lives),
``freeze`` (name, hold_ms: the whole tree stands still until ``thaw`` (name), until this client is gone, or until that
time is over; with ``park``: until ``thaw`` with ``park``), ``stand_by`` (a start's fields, ``after``: a life's key,
``unless``: exit codes, ``gate``): when that life ends by itself, and with none of these codes, this one is started
before anybody is told; the event says so under ``next``. A signal or kill through the keeper takes that back: ``start``
with its key starts it, and ``kill`` drops it, as do a start of that name with another key and the client's end.

If the keeper itself is killed, the next one takes the living children over from ``keeper.json`` and from the marks in
their environment. Their exit codes then come from the kernel where it tells (6.15 and later), else they are unknown.
"""

import fcntl
import json
import os
import select
import signal
import time

from relit.node import kin
from relit.node.keeper_door import Door
from relit.node.keeper_files import Files
from relit.node.keeper_lives import Ledger, Life, boot_ms, exit_of_stranger, load, restore
from relit.node.keeper_requests import Peer, Refused, environ, milliseconds, number, text, texts, word
from relit.node.keeper_spare import Spare, codes, descriptor, gate
from relit.node.keeper_spawn import spawn, wakes
from relit.node.keeper_still import HOLD_MOST_MS, HOLD_MS, Frost
from relit.node.keeper_strangers import Strangers

PROTOCOL = 1
STRAYS_LOOK_S = 0.01  # between looks for them: in a pid namespace they come to its init, not to us
STRAYS_S = 1.0  # how long an exit is held back while the rest of its tree dies
GRACE_S = 10.0  # SIGTERM to the keeper: children get this long before SIGKILL
IDLE_S = 60.0
ALREADY_RUNS = 3  # exit status: another keeper owns the folder


class Keeper:
    """Owns the children of one run folder."""

    def __init__(self, run_dir: str, groups: bool) -> None:
        self._dir = run_dir
        where = os.stat(run_dir)
        self._scope = f"{where.st_dev:x}-{where.st_ino:x}"
        self._ledger = Ledger(run_dir)
        self._lives: dict[str, Life] = {}
        self._by_pid: dict[int, Life] = {}
        self._spares: dict[str, Spare] = {}  # by the instance's name
        self._groups = kin.Groups(self._scope, groups)
        self._frost = Frost(run_dir, self._groups.go_home)
        self._put_off: list[tuple[Peer, bytes]] = []  # starts of what is frozen
        self._poll = select.epoll()
        self._files = Files()
        self._strangers = Strangers(self._poll, self._files, self._stranger_ended)
        self._door = Door(self._poll, self._handle, self._left)
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._term_at: float | None = None
        self._done = False

    # --- life of the keeper ------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to end."""
        try:
            signal.signal(signal.SIGTERM, lambda *_: self._terminate())
            self._wake = wakes(self._poll)
            self._take_over()
            self._door.open(f"{self._dir}/keeper.sock")
            say("ready")
            os.dup2(self._null, 1)
            self._groups.prepare()
            while not self._done:
                for fd, events in self._poll.poll(self._timeout()):
                    self._dispatch(fd, events)
                self._tick()
            self._drop_spares()
            self._door.close()
        finally:
            self._groups.close()
        return 0

    def _timeout(self) -> float:
        due = [life.held_until for life in self._lives.values() if life.held_until is not None]
        due += [self._term_at] if self._term_at is not None else []
        waits = [each - time.monotonic() for each in due]
        waits += [wait] if (wait := self._strangers.wait_s()) is not None else []
        waits += [each - time.clock_gettime(time.CLOCK_BOOTTIME) for each in self._frost.due_s()]
        waits += [STRAYS_LOOK_S] if any(life.dying for life in self._lives.values()) else []
        return max(0.0, min(waits)) if waits else IDLE_S

    def _tick(self) -> None:
        now = time.monotonic()
        self._groups.prepare()
        self._frost.expire()
        self._strangers.look()
        for peer, line in [each for each in self._put_off if not self._frost.holds(json.loads(each[1]).get("name"))]:
            self._put_off.remove((peer, line))
            self._handle(peer, line)
        for life in [*self._lives.values()]:  # another may follow one that is told
            life.dying = {pid for pid in life.dying if kin.look_alive(pid) is not None}
            if life.held_until is not None and (not life.dying or life.held_until <= now):
                self._announce(life)
        if self._term_at is not None:
            self._finish_terminating(now)
        if not self._living() and not os.path.exists(f"{self._dir}/keeper.sock"):
            self._done = True  # the data folder was removed: nobody can ever reach us again

    def _terminate(self) -> None:
        if self._term_at is None:
            self._term_at = time.monotonic() + GRACE_S
            for life in self._living():
                self._signal(life, signal.SIGTERM, whole=True)

    def _finish_terminating(self, now: float) -> None:
        self._drop_spares()
        if not self._living():
            self._done = True
        elif self._term_at is not None and now >= self._term_at:
            for life in self._living():
                self._kill_tree(life)
            self._term_at = now + STRAYS_S

    def _dispatch(self, fd: int, events: int) -> None:
        if fd == self._wake.fileno():
            self._drain_wake()
            self._reap()
        elif not self._strangers.serve(fd):
            self._door.serve(fd, events)

    def _drain_wake(self) -> None:
        try:
            while self._wake.recv(4096):
                pass
        except BlockingIOError:
            pass

    # --- children ----------------------------------------------------------------------------------------------

    def _living(self) -> list[Life]:
        return [life for life in self._lives.values() if not life.ended]

    def _save(self, key: str) -> None:
        """What is known of one life now."""
        try:
            self._ledger.keep(key, self._lives | {each.life.key: each.life for each in self._spares.values()})
        except OSError as error:  # a full disk must not end the children: their marks still name them
            kin.complain(f"state not written: {error}")

    def _take_over(self) -> None:
        found = restore(load(self._dir), self._scope)
        for life in found:
            if life.spare and not kin.gone(life.pid, life.start):
                self._kill_tree(life)  # who would have started it is gone
        self._lives = {life.key: life for life in found if not life.spare}
        for life in self._living():
            self._strangers.watch(life)
        self._frost.recover(self._lives.values())
        self._groups.sweep()
        self._save("")  # all of it

    def _stranger_ended(self, life: Life) -> None:
        life.code, life.signal = exit_of_stranger(life)
        self._strangers.drop(life)
        self._kill_tree(life)
        self._announce(life)

    def _reap(self) -> None:
        while True:
            try:
                end = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if end is None:
                return
            self._child_ended(end.si_pid, end.si_code == os.CLD_EXITED, end.si_status)

    def _child_ended(self, pid: int, exited: bool, status: int) -> None:
        life = self._by_pid.get(pid)
        if life is not None and life.spare:
            self._drop_spare(life.name)
            life = None
        if life is not None:
            life.dying = self._kill_strays(life)  # while the zombie holds its number: its session is found by it
            life.code, life.signal = (status, None) if exited else (None, status)
            life.held_until = time.monotonic() + STRAYS_S
            del self._by_pid[pid]
        os.waitid(os.P_PID, pid, os.WEXITED)
        for held in [life] if life else [each for each in self._lives.values() if pid in each.dying]:
            held.dying.discard(pid)
            if not held.dying and held.held_until is not None:
                self._announce(held)

    def _kill_strays(self, life: Life) -> set[int]:
        """After the main process ended: end what it left behind."""
        if life.group is not None:
            return self._kill_tree(life) if kin.group_pids(life.group) else set()
        ours = kin.own_children()
        if ours is not None and ours - {self._frost.guard.pid} <= self._by_pid.keys():
            return set()  # no orphan came to us, so nothing is left: the usual case, without reading all of /proc
        return self._kill_tree(life)

    def _kill_tree(self, life: Life) -> set[int]:
        killed = kin.kill_group(life.group) if life.group is not None else None
        if killed is None:
            killed = kin.kill_walk(self._main(life), life.mark)
        return killed - {life.pid}

    def _main(self, life: Life) -> int:
        ours = life.pid in self._by_pid or life.pidfd != -1 or kin.alive(life.pid, life.start)
        return life.pid if ours else kin.NOBODY

    def _announce(self, life: Life) -> None:
        life.held_until = None
        life.dying = set()
        if life.ended_ms is None:
            life.ended_ms = boot_ms()
        follower = self._follow(life)
        self._save(life.key)  # before anybody is told: what was told must outlive us
        event: dict[str, object] = {"event": "exit", "life": life.view()}
        self._publish(event | ({"next": follower.view()} if follower is not None else {}))
        kin.discard(life.group)

    def _publish(self, event: dict[str, object]) -> None:
        for peer in self._door.watching():
            self._door.send(peer, event)

    # --- operations --------------------------------------------------------------------------------------------

    def _answer(self, peer: Peer, request: dict[str, object]) -> object:
        match request.get("do"):
            case "start":
                return self._start(request)
            case "list":
                return self._list()
            case "watch":
                peer.watching = True
                return self._list()
            case "stand_by":
                return self._stand_by(peer, request)
            case "signal":
                self._disarm(life := self._find(request), number(request))
                return self._signal(life, number(request), whole=request.get("whole") is True)
            case "kill":
                return self._kill(request)
            case "freeze":
                return self._freeze(peer, request)
            case "thaw":
                return self._frost.thaw(text(request, "name"), peer, park=request.get("park") is True)
            case "forget":
                return self._forget(request)
            case "exit":
                return self._exit()
            case other:
                raise Refused("unknown", f"no operation {other!r}")

    def _list(self) -> dict[str, object]:
        lives = [life.view() for life in self._lives.values()]
        return {"protocol": PROTOCOL, "pid": os.getpid(), "groups": self._groups.usable, "lives": lives}

    def _find(self, request: dict[str, object]) -> Life:
        life = self._lives.get(text(request, "key"))
        if life is None:
            raise Refused("not-found", f"no life {request['key']!r}")
        return life

    def _start(self, request: dict[str, object]) -> dict[str, object]:
        key, name = word(request, "key"), word(request, "name")
        known = self._lives.get(key)
        if known is not None:
            return known.view()  # the same request again, after a lost answer
        if self._term_at is not None:
            raise Refused("ending", "the keeper is ending")
        if isinstance(hold := request.get("hold"), str) and os.path.lexists(hold):
            raise Refused("held", f"{hold} is there")  # asked here, where nothing comes between it and the start
        for life in self._living():
            if life.name == name:
                raise Refused("conflict", f"{name} already runs as pid {life.pid}")
        if (spare := self._spares.get(name)) is not None and spare.life.key == key:
            return self._begin(spare).view()
        self._drop_spare(name)  # made for another start than this one
        life = self._described(request)
        self._lives[key] = life
        try:
            self._spawn(life, request)
        except (OSError, Refused):
            del self._lives[key]
            self._save(key)
            raise
        return life.view()

    def _described(self, request: dict[str, object]) -> Life:
        texts(request, "argv"), environ(request), text(request, "cwd")
        name = word(request, "name")
        return Life(word(request, "key"), name, text(request, "tag"), text(request, "log"), self._scope)

    def _spawn(self, life: Life, request: dict[str, object]) -> None:
        """Start it, as it was asked for. It is on record already."""
        argv, cwd = texts(request, "argv"), text(request, "cwd")
        env = environ(request) | {kin.MARK: life.mark}
        self._save(life.key)  # before it starts: a keeper killed in between leaves a name to look for
        try:
            spawn(life, argv, env, cwd, self._null, self._groups, self._files, request.get("oom"))
        except (OSError, ValueError) as error:
            kin.discard(life.group)
            raise Refused("exec", f"{argv[0]}: {getattr(error, 'strerror', None) or error}") from error
        self._by_pid[life.pid] = life
        self._save(life.key)

    # --- spares ------------------------------------------------------------------------------------------------

    def _stand_by(self, peer: Peer, request: dict[str, object]) -> bool:
        """False: the life that it would follow has ended already."""
        after = self._lives.get(text(request, "after"))
        life, unless, at = self._described(request), codes(request), descriptor(request)
        if after is None or after.ended or after.name != life.name or self._term_at is not None:
            return False
        self._drop_spare(life.name)
        life.spare = True
        self._spares[life.name] = Spare(life, request, peer, unless)
        if at is not None:
            try:
                life.gate, life.gate_inside = gate(), at
                self._spawn(life, request)
                life.gate = self._files.keep(life.gate)
            except (OSError, Refused):
                self._drop_spare(life.name)
                raise
        return True

    def _follow(self, ended: Life) -> Life | None:
        """Start what stands ready for this end."""
        spare = self._spares.get(ended.name)
        if spare is None or not spare.follows(ended) or self._term_at is not None or self._frost.holds(ended.name):
            return None
        if isinstance(spare.hold, str) and os.path.lexists(spare.hold):
            return None
        try:
            return self._begin(spare)
        except Refused:
            return None  # whoever starts it next is told why

    def _begin(self, spare: Spare) -> Life:
        """A spare becomes a life."""
        life = spare.life
        del self._spares[life.name]
        self._lives[life.key] = life
        life.spare = False
        if life.gate == -1:
            try:
                self._spawn(life, spare.request)
            except Refused:
                del self._lives[life.key]
                self._save(life.key)
                raise
            return life
        life.begun_ms = boot_ms()
        os.write(life.gate, b"!")
        os.close(life.gate)
        life.gate = -1
        self._save(
            life.key
        )  # afterwards: a spare on record is ended by the next keeper, a life at its gate waits for ever
        return life

    def _disarm(self, life: Life, number: int) -> None:
        """Whoever signals a life decides what comes after it."""
        if number and (spare := self._spares.get(life.name)) is not None:
            spare.armed = False

    def _drop_spare(self, name: str) -> None:
        spare = self._spares.get(name)
        if spare is None:
            return
        if spare.life.gate != -1:
            self._kill_tree(spare.life)
            os.close(spare.life.gate)
            self._by_pid.pop(spare.life.pid, None)
        del self._spares[name]
        self._save(spare.life.key)
        kin.discard(spare.life.group)

    def _drop_spares(self, peer: Peer | None = None) -> None:
        """Those of a client, or all."""
        for name in [name for name, each in self._spares.items() if peer in (None, each.peer)]:
            self._drop_spare(name)

    # --- ends --------------------------------------------------------------------------------------------------

    def _kill(self, request: dict[str, object]) -> int:
        key = text(request, "key")
        for name in [name for name, each in self._spares.items() if each.life.key == key]:
            self._drop_spare(name)
            return 0
        life = self._find(request)
        self._disarm(life, signal.SIGKILL)
        return len(self._kill_tree(life))

    def _signal(self, life: Life, number: int, *, whole: bool) -> bool:
        if life.ended or not (life.pid in self._by_pid or kin.alive(life.pid, life.start)):
            return False
        if number:
            self._frost.release(life.name)  # who is frozen cannot obey
        try:
            (os.killpg if whole else os.kill)(life.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _freeze(self, peer: Peer, request: dict[str, object]) -> dict[str, object] | None:
        """``None``: nothing of that name runs."""
        name = word(request, "name")
        self._groups.prepare()  # else we may still be in its group
        hold_ms = milliseconds(request, "hold_ms", HOLD_MS, HOLD_MOST_MS)
        life = next((life for life in self._living() if life.name == name), None)
        if life is None:
            return self._frost.freeze_guests(name, peer, hold_ms)
        return self._frost.freeze(life, self._main(life), peer, hold_ms, park=request.get("park") is True)

    def _forget(self, request: dict[str, object]) -> bool:
        life = self._lives.get(text(request, "key"))
        if life is None:
            return False
        if life.ended_ms is None:
            raise Refused("conflict", f"{life.name} has not ended")
        del self._lives[life.key]
        kin.discard(life.group)
        self._save(life.key)
        return True

    def _exit(self) -> bool:
        if self._living():
            raise Refused("conflict", f"{len(self._living())} lives go on")
        self._drop_spares()
        self._done = True
        return True

    # --- requests ----------------------------------------------------------------------------------------------

    def _handle(self, peer: Peer, line: bytes) -> None:
        number: object = None
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise Refused("request", "a request is a JSON object")
            number = request.get("id")
            if request.get("do") == "start" and self._frost.holds(request.get("name")):
                self._put_off.append((peer, line))  # it died while frozen: its files must stand still all the same
                return
            self._door.send(peer, {"id": number, "ok": self._answer(peer, request)})
        except Refused as refused:
            self._door.send(peer, {"id": number, "error": {"code": refused.code, "what": refused.what}})
        except (ValueError, RecursionError) as error:
            self._door.send(peer, {"id": number, "error": {"code": "request", "what": f"not understood: {error}"}})
        except OSError as error:  # such as no descriptor left
            self._door.send(peer, {"id": number, "error": {"code": "system", "what": str(error)}})

    def _left(self, peer: Peer) -> None:
        """A client is gone, and with it what it wanted in advance."""
        self._put_off = [each for each in self._put_off if each[0] is not peer]
        self._frost.left(peer)
        self._drop_spares(peer)


def say(word: str) -> None:
    """Tell whoever started us, who reads our standard output to its end."""
    os.write(1, word.encode())


def run(run_dir: str, groups: bool = True) -> int:
    """The keeper's main: one per folder, by a lock that dies with it. ``groups``: use cgroups where it may."""
    lock = os.open(f"{run_dir}/keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("busy")
        return ALREADY_RUNS
    os.chdir("/")
    return Keeper(run_dir, groups).run()
