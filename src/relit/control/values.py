"""What crosses between node and server. Everything serialises; nothing here does anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from relit.control.box import Box, Limits
from relit.control.care import Care
from relit.lib.proc import ProcessId

UNIX = "http+unix"  # scheme of a URL whose host is the path of a socket


def over_unix(socket: Path, path: str) -> str:
    """The URL of what an HTTP server answers on a unix socket."""
    return f"{UNIX}://{quote(str(socket), safe='')}{path}"


class Probe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question asked of an instance.

    ``tcp`` (``host:port``) and ``unix`` (a path) connect; ``file`` wants a file, which the node removes before each
    start; ``age`` wants one that was written in the last ``max_age_ms`` (``field``: a dotted key of its JSON that holds
    the time instead, ISO 8601 or seconds since 1970); ``command`` (``argv``, with ``env``) wants exit code 0; ``pid``
    wants a main process that is neither stopped nor dead.

    ``http`` (a URL, or what ``over_unix`` makes) wants a status below 400, ``want``: dotted keys of its JSON body and
    the values they must have, and ``contains``: text that must be in the body. With ``body`` it is a POST of JSON: so
    a canary turn is a question like others.
    """

    kind: Literal["tcp", "unix", "http", "file", "age", "command", "pid"]
    target: str = ""
    headers: dict[str, str] = {}
    body: str = ""
    want: dict[str, Any] = {}
    contains: str = ""
    argv: list[str] = []
    env: dict[str, str] = {}
    max_age_ms: int = 0
    field: str = ""
    every_ms: int = 5_000
    timeout_ms: int = 2_000
    failures: int = 3  # in a row before the answer counts as no; after the first it is asked more than twice as often


class Backoff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How restarts slow down: the first is immediate, then ``first_ms`` growing by ``factor`` up to ``most_ms``."""

    first_ms: int = 1_000
    factor: float = 2.0
    most_ms: int = 60_000
    jitter: float = 0.2
    stable_ms: int = 600_000  # a life this long makes the next restart immediate again
    window_ms: int = 600_000  # deaths inside it are counted …
    flapping: int = 5  # … and from this many on the instance flaps


REPAIR, VALIDATE = "repair", "validate"  # commands of an agent's that run in its place, or beside it
TOOLS = "tools"  # those that its gateway runs there


def lives_of(instances: Sequence[str]) -> list[str]:
    """The names of all lives that these instances may have: their own, and those of such commands."""
    return [name for each in instances for name in (each, *(f"{each}.{what}" for what in (REPAIR, VALIDATE, TOOLS)))]


class Demand(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a start needs, until it was measured. ``of``: equal for what needs the same (a kind and its version); bytes
    at its ``peak`` and once it has ``settled``; CPU seconds. Of 100 points of ``priority`` more start first."""

    of: str
    priority: int = 50
    peak: int = 0
    settled: int = 0
    cpu_s: float = 0.0


class Parking(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How it makes room while it has nothing to do: ``stop``; ``freeze``: it stands still, out of memory as far as
    there is swap (else it is stopped); ``keep``: only when memory is about to run out.
    ``after_ms``: also without need, after so long. ``wakes``: its next message does; else its node, when there is
    room."""

    then: Literal["keep", "freeze", "stop"] = "keep"
    after_ms: int | None = None
    wakes: bool = False


class Load(msgspec.Struct, frozen=True):
    """Runs of an agent that a worker could begin now, and those that are worked on; a thousand stands for more."""

    ready: int
    running: int


class PoolPlace(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one of ``least`` to ``most`` workers with one agent's code (``of``), which begin ``places`` runs each at once.
    ``number``: from 1."""

    of: str
    number: int
    least: int
    most: int
    places: int


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """Agents with something to do: a message that they work on, or that waits for them, or a call to a model under way;
    those with a call to a tool under way, and those with one to either (``calls``). ``loads``: by agent, where there
    are runs."""

    busy: list[str] = []
    calls: list[str] = []
    loads: dict[str, Load] = {}
    effects: list[str] = []


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What starts of something took (``Demand.of``): bytes at the peak and once settled, CPU seconds until it was
    ready; learnt from so many."""

    of: str
    peak: int
    settled: int
    cpu_s: float
    seen: int


class InstanceSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the node keeps alive. A changed spec restarts the instance.

    When a node ends, instances are stopped from the highest ``order`` to the lowest, those of one order together.
    ``ready`` says when it has started (within ``startup_ms``, or three times that while it visibly goes on) and whether
    it is ready later: not ready is shown, and never kills. ``live`` and ``canary`` kill a process that hangs, or that
    answers no message, and restart it. Without ``ready`` a started process counts as ready. ``care``: how it is healed
    when restarts do not help. ``record`` is the folder of its incidents. ``demand``: it waits for room to start.
    """

    name: str
    argv: list[str]
    env: dict[str, str] = {}
    cwd: str = "/"
    log: str = ""
    ready: Probe | None = None
    live: list[Probe] = []
    canary: Probe | None = None
    startup_ms: int = 60_000
    grace_ms: int = 10_000  # between SIGTERM and SIGKILL
    order: int = 0
    hold: str | None = None  # a file: while it is there the instance does not run; its first line says why
    backoff: Backoff = Backoff()
    care: Care | None = None
    record: str = ""
    box: Box | None = None
    limits: Limits | None = None
    demand: Demand | None = None  # ``None``: it starts at once
    memory: int | None = None  # bytes of all its processes; one that holds more is killed
    soft: int | None = None  # bytes: one that holds more is started afresh when it has nothing to do
    parking: Parking = Parking()
    park: str | None = None  # a file: while it is there it makes room; not said: beside ``hold``
    pool: PoolPlace | None = None  # it runs only while its pool needs it
    secrets: list[str] = []  # values that no log and no incident may tell
    passed: list[str] = []  # of ``env``: what came from the terminal that relit was started in
    fault: str = ""  # why it cannot be started; what of it runs is left as it is

    def tag(self) -> str:
        """The spec's hash: equal for equal specs, also of another version of relit that says more (``omit_defaults``):
        agents live on while relit is upgraded, from whatever terminal."""
        import hashlib  # brings OpenSSL: `relit ps` reads these values without it

        own = {name: value for name, value in self.env.items() if name not in self.passed}
        made = msgspec.structs.replace(self, env=own, passed=[])
        return hashlib.blake2b(msgspec.json.encode(made, order="sorted"), digest_size=16).hexdigest()


InstanceState = Literal[
    "starting",
    "ready",
    "working",
    "idle",
    "draining",
    "frozen",
    "stopped",
    "backing-off",
    "healing",
    "down",
]


FAULTY = "it cannot be made ready to start"  # a reason begins so while its own settings or folders are at fault
WAITS = "it waits: "  # a reason begins so while there is no room for a start
PARKED = "parked: "  # and so while it makes room for others
SPARE = "not needed: "  # and so of a pool's worker that has no work


class InstanceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as its node sees it. ``reason`` says why it is not simply ready. ``agent`` and ``kind``: whose it
    is, where that is known without asking it (not of code written with the SDK)."""

    name: str
    state: InstanceState
    agent: str = ""
    kind: str = ""
    pid: int | None = None
    start: int | None = None
    restarts: int = 0
    since_ms: int = 0  # wall clock
    retry_at_ms: int | None = None
    reason: str = ""
    last_exit: str = ""
    memory: int | None = None  # bytes that it may hold


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Who says hello."""

    name: str
    process: ProcessId
    host: str
    instances: list[InstanceStatus] = []
    dropped: int = 0  # events that were lost because the server was away for too long


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """The instances that the server wants besides the node's own. ``version`` changes whenever the list does.

    Version 0 is what a node knows before it was told anything: servers count from 1.
    """

    version: int = 0
    instances: list[InstanceSpec] = []


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """A process that certainly died, and its whole tree with it: its runs may be taken at once."""

    instance: str
    process: ProcessId
    exit: str
