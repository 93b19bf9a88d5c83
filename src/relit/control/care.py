"""What a node must know of an agent to heal it: written by the agent's adapter, read by the node. Values only."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Format = Literal["json", "json5", "yaml"]
Meaning = Literal["clean", "failed", "config", "again"]


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A configuration file of an agent, in its home.

    ``keep`` is what relit sees to before every start: dotted keys and the values that they must have (ports, tokens,
    what relit does in the agent's place). Everything else in the file is the agent's and its owner's. ``checker`` names
    the rules that it is checked by (``agents.checks``); ``validate`` is the agent's own command (exit code 0: valid).
    ``without`` are files beside it that the agent would put in its place: removed before each start. ``beside`` are
    files that it refers to, with their text: put there before each start.
    """

    path: str
    format: Format
    keep: dict[str, Any] = {}
    checker: str = ""
    validate: list[str] = []
    without: list[str] = []
    beside: dict[str, str] = {}


class EnvFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file of variables in an agent's home that the agent puts in the place of its environment. ``keep``: what relit
    says of variables; before every start the file says the same of those that it names."""

    path: str
    keep: dict[str, str] = {}


class Settle(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """SQL for a database of the home before each start: what a dead process left in it, and a new one would act on."""

    database: str
    sql: str


class Repair(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The agent's own repair command. It runs in the agent's place, while the agent is stopped."""

    argv: list[str]
    timeout_ms: int = 120_000


class Ladder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far and how fast trouble climbs. Times in ms."""

    restarts: int = 3  # rung 1: quick deaths in a row before rung 2
    settled_ms: int = 30_000  # ready for so long: the trouble is over
    good_after_ms: int = 300_000  # ready for so long, and no run half done: known-good
    good_again_ms: int = 1_800_000  # and again so much later
    max_rollback_ms: int = 86_400_000  # an older known-good is a person's decision
    heal_ms: int = 300_000  # budget of one action of rungs 2 and 3
    slow_first_ms: int = 60_000  # rung 4: retries for ever, first so often …
    slow_most_ms: int = 600_000  # … and later so often


class Care(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent as its node looks after it. ``home`` and ``tmp`` are folders; ``stale`` are glob patterns below
    ``home`` of what a dead process leaves behind and the next one must not find (locks, pid files). ``databases`` are
    looked at before a start; ``ports`` are loopback ports that must be free then, and ``needs`` a folder that must be
    there (its runtime)."""

    agent: str
    kind: str
    home: str
    tmp: str = ""
    config: list[ConfigFile] = []
    env_file: EnvFile | None = None
    repair: Repair | None = None
    databases: list[str] = []
    settle: list[Settle] = []
    ports: list[int] = []
    needs: str = ""
    stale: list[str] = []
    exits: dict[str, Meaning] = {}  # by exit code
    ladder: Ladder = Ladder()


class KnownGood(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent can go back to. ``number`` is the newest snapshot tagged known-good (0: there is none), ``at_ms``
    its moment; ``older`` further ones (number, moment), newest first; ``others`` those before it that nobody tagged;
    ``clones``: whether these can be tried in a clone; ``newest`` the newest snapshot; ``config``: which of the files
    asked for differ from it, with a text diff each. Without a known-good one, or when they are broken there, too,
    ``config`` compares with ``was``: the newest snapshot in which they can be read and are none of those that were
    broken in this trouble (where all were, the first of these). ``broken`` has a digest of each of these. ``why``
    something of this is not known."""

    number: int = 0
    at_ms: int = 0
    valid: bool = False  # its own check accepts the configuration as it is now: what it ended by is something else
    older: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    clones: bool = False
    newest: int = 0
    was: int = 0
    config: dict[str, str] = {}
    broken: list[str] = []
    why: str = ""


class Went(msgspec.Struct, frozen=True, kw_only=True):
    """A way back that was gone. ``before`` is the snapshot that takes it back."""

    to: int
    before: int
    written: int = 0
    removed: int = 0
    replaced: str = ""  # the folder that holds what was replaced


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """How a clone of an agent did: ``why`` it failed, empty when it did not. ``notes``: what could not be tried, or
    kept from it."""

    why: str = ""
    took_ms: int = 0
    notes: list[str] = []


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an incident's timeline. ``took_ms`` and ``outcome`` are set for what relit did by itself."""

    at_ms: int
    what: str
    outcome: str = ""
    took_ms: int | None = None


Severity = Literal["info", "warning", "critical"]


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One trouble of one agent, from its beginning to its end: reported again whenever it changes, by the same ``id``.

    ``cause`` names the cause in one sentence as far as it is known; ``rung`` is the highest that was reached;
    ``group`` is equal for troubles that have one cause outside of the agents (a node out of memory, a server down), so
    that they are told once. ``memory``: (ms on the wall clock, bytes). ``config``: a diff of each file against
    known-good. ``next``: the command to run now.
    """

    id: str
    agent: str
    instance: str
    opened_ms: int
    resolved_ms: int | None = None
    severity: Severity = "info"
    rung: int = 1
    title: str = ""
    cause: str = ""
    impact: str = ""
    exit: str = ""
    timeline: list[Entry] = []
    memory: list[tuple[int, int]] = []
    log: list[str] = []
    config: dict[str, str] = {}
    next: str = ""
    group: str = ""
