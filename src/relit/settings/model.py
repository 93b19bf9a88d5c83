"""What relit.toml may say: one Struct per table. The JSON Schema, the checks and the docs' test come from here."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from relit.agents.kind import Probes
from relit.control.care import Ladder
from relit.lib import durations
from relit.settings.outside import Alerts, Subscriber, Webhook
from relit.settings.room import Idle, Limits, Memory, Pool
from relit.settings.table import Dollars, Duration, Money, Name, Positive, Secret, Size, Table
from relit.settings.tools import Policy, Tool
from relit.volumes.retention import Tier, parse_keep

OWN = "own"  # the model that an agent's own configuration names


class Server(Table, frozen=True):
    """The server: where it listens and where it keeps things."""

    listen: Annotated[str, Meta(description="Address and port of the API.")] = "127.0.0.1:7717"
    database: Annotated[
        str,
        Meta(description="`sqlite` (relit.db in the data folder), `sqlite:PATH`, or `postgresql://user@host/name`."),
    ] = "sqlite"
    blobs: Annotated[
        str, Meta(description="Where large payloads go: `local` (the data folder), a folder, or `s3://bucket/prefix`.")
    ] = "local"
    codec: Annotated[
        str | None, Meta(description="Encrypts payloads: `module:object`, the same for every process.")
    ] = None
    hosts: Annotated[
        list[str], Meta(description="Further Host headers to answer to; needed behind a proxy with a name of its own.")
    ] = []
    metrics_public: Annotated[bool, Meta(description="Serve /metrics without a token.")] = False
    max_body: Annotated[Size, Meta(description="Largest request body that is accepted.")] = "16M"

    @property
    def max_body_bytes(self) -> int:
        return durations.to_bytes(self.max_body)


class Worker(Table, frozen=True):
    """Every worker process: how much it does at once, and how its death is noticed."""

    concurrency: Annotated[Positive, Meta(description="Runs that one worker process executes at once.")] = 100
    lease: Annotated[
        Duration, Meta(description="A worker that has not been heard of for this long loses its runs.")
    ] = "10s"
    poison_after: Annotated[
        Positive, Meta(description="A run that killed this many workers in a row at the same step is parked.")
    ] = 5

    @property
    def lease_ms(self) -> int:
        return durations.to_ms(self.lease)


class Retention(Table, frozen=True):
    """How long finished work is kept."""

    runs: Annotated[
        Duration, Meta(description="Finished runs, with journal and events, are deleted when older than this.")
    ] = "30d"

    @property
    def runs_ms(self) -> int:
        return durations.to_ms(self.runs)


class Mailbox(Table, frozen=True):
    """An agent's mailbox."""

    concurrency: Annotated[Positive, Meta(description="Messages worked on at once; 1 keeps them in order.")] = 1
    key_concurrency: Annotated[Positive | None, Meta(description="Messages with the same key worked on at once.")] = (
        None
    )
    depth: Annotated[Positive, Meta(description="Waiting messages; further ones are refused with 429.")] = 1000
    rate: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="Messages started per second, at most.")] = (
        None
    )
    burst: Annotated[Positive, Meta(description="Messages that may start at once before `rate` holds.")] = 1
    expire: Annotated[
        Duration | None, Meta(description="A message not started by then is recorded as missed, not delivered.")
    ] = None

    @property
    def expire_ms(self) -> int | None:
        return None if self.expire is None else durations.to_ms(self.expire)


class Schedule(Table, frozen=True):
    """When an agent gets a message by itself. Exactly one of `every` and `cron`."""

    every: Annotated[Duration | None, Meta(description="An interval: `30m`.")] = None
    cron: Annotated[str | None, Meta(description="Five fields: `0 9 * * MON-FRI`.")] = None
    zone: Annotated[str, Meta(description="IANA time zone of `cron`.")] = "UTC"
    jitter: Annotated[
        Duration | None,
        Meta(description="Spread: each schedule has a place of its own in this span, the same at every firing."),
    ] = None
    message: Annotated[str | None, Meta(description="What is sent.")] = None
    workflow: Annotated[
        str | None, Meta(description="A workflow of the agent to start instead of sending a message.")
    ] = None
    missed: Annotated[
        Literal["skip", "latest", "all"], Meta(description="What becomes of firings missed while nothing ran.")
    ] = "latest"
    max: Annotated[Positive, Meta(description='With `missed = "all"`: at most so many are made up for.')] = 10
    window: Annotated[Duration, Meta(description="Firings missed longer ago than this are only recorded.")] = "1d"
    overlap: Annotated[
        Literal["skip", "queue", "cancel", "allow"], Meta(description="When the last firing's run is not finished.")
    ] = "skip"


class Snapshots(Table, frozen=True):
    """Versions of an agent's home. On by default; a home in which nothing changes costs nothing."""

    enabled: Annotated[bool, Meta(description="Take snapshots while the agent runs.")] = True
    every: Annotated[Duration, Meta(description="How often, when something changed.")] = "60s"
    keep: Annotated[
        str,
        Meta(description="How long: `SPAN all, SPAN hourly, SPAN daily, SPAN weekly`; a span may be `forever`."),
    ] = "1h all, 2d hourly, 30d daily, 26w weekly"
    exclude: Annotated[
        list[str], Meta(description="Paths that are left out, as in a `.gitignore`; besides the home's `.relitignore`.")
    ] = []
    max_size: Annotated[Size, Meta(description="A larger home is refused; its biggest paths are named.")] = "20G"
    max_files: Annotated[Positive, Meta(description="A home with more files is refused.")] = 500_000

    @property
    def every_ms(self) -> int:
        return durations.to_ms(self.every)

    @property
    def tiers(self) -> tuple[Tier, ...]:
        return parse_keep(self.keep)

    @property
    def max_bytes(self) -> int:
        return durations.to_bytes(self.max_size)


class Heal(Table, frozen=True):
    """What is done when restarts do not help: see the ladder."""

    restarts: Annotated[
        Annotated[int, Meta(ge=0)], Meta(description="Quick deaths in a row before anything but a restart is tried.")
    ] = 3
    good_after: Annotated[
        Duration, Meta(description="Ready for so long, and no run half done: its newest snapshot becomes `known-good`.")
    ] = "5m"
    max_rollback: Annotated[
        Duration, Meta(description="An older `known-good` is not gone back to without a person.")
    ] = "1d"
    retry: Annotated[Duration, Meta(description="When nothing helped: how often it is tried again, for ever.")] = "1m"

    @property
    def ladder(self) -> Ladder:
        return Ladder(
            restarts=self.restarts,
            good_after_ms=durations.to_ms(self.good_after),
            max_rollback_ms=durations.to_ms(self.max_rollback),
            slow_first_ms=durations.to_ms(self.retry),
            slow_most_ms=10 * durations.to_ms(self.retry),
        )


class Budget(Table, frozen=True):
    """What may be spent on models."""

    day: Annotated[
        Money | None, Meta(description="In a day (UTC). A call that might cost more than is left is refused.")
    ] = None
    warn: Annotated[
        int, Meta(ge=1, le=100, description="So much of it, in percent: from then on it is told (`budget.warned`).")
    ] = 80


class Agent(Table, frozen=True):
    """One agent."""

    kind: Annotated[
        Name,
        Meta(
            description="`python`: code written with the SDK; `command`: any program, kept alive; `openclaw`; "
            "`hermes`; or NAME of a file `kinds/NAME.toml` beside relit.toml."
        ),
    ] = "python"
    version: Annotated[
        str | None, Meta(description="Of what its kind installs: else the one that the kind's file names.")
    ] = None
    entry: Annotated[str | None, Meta(description="python: `module` or `module:object`.")] = None
    command: Annotated[list[str] | None, Meta(description="command: the program and its arguments.")] = None
    folder: Annotated[
        str | None, Meta(description="Working folder; relative to relit.toml. python: also where modules are found.")
    ] = None
    env: Annotated[dict[str, Secret], Meta(description="Environment variables; values may be `secret:NAME`.")] = {}
    priority: Annotated[
        int, Meta(ge=0, le=100, description="Of its messages, and of its starts: 0 last … 100 first.")
    ] = 50
    workers: Annotated[Positive, Meta(le=64, description="Processes that run it.")] = 1
    model: Annotated[
        Name,
        Meta(
            description="Its way to a model: a table of `[models]`; not for python. `own`: what its own configuration "
            "says."
        ),
    ] = "default"
    resume: Annotated[
        Literal["continue", "replay"],
        Meta(
            description="What becomes of a message whose turn the agent did not survive: `continue`: it is delivered "
            "again, marked as that, to the agent as it is; `replay`: to the agent as it was before, and calls that it "
            "had made are answered from their record."
        ),
    ] = "continue"
    tools: Annotated[
        Literal["native", "strict"],
        Meta(
            description="`strict`: its own shell, file and web tools are switched off, and relit's stand in: `shell`, "
            "`read_file`, `write_file`, `http`; every call is on record. For kinds that can (openclaw, hermes)."
        ),
    ] = "native"
    grants: Annotated[
        list[Annotated[str, Meta(pattern=r"^tool:[A-Za-z0-9_.*?-]+$")]],
        Meta(description="Tools of relit's that it may use: `tool:NAME`, `tool:mail_*`; without any it has none."),
    ] = []
    policies: Annotated[
        dict[str, Policy],
        Meta(description="For tools, by name or pattern: `allow`, `ask` a person, `deny`; before their own `policy`."),
    ] = {}
    sandbox: Annotated[
        Literal["on", "off"],
        Meta(description="All but python: it sees its own home and a private tmp, by bubblewrap."),
    ] = "on"
    limits: Limits = Limits()
    pool: Pool = Pool()
    memory: Memory = Memory()
    idle: Idle = Idle()
    budget: Budget = Budget()
    connect: Annotated[
        list[Annotated[int, Meta(ge=1, le=65535)]] | None,
        Meta(
            description="In a sandbox: TCP ports that it may connect to, beside its own and relit's. With this it may "
            "also listen on no others than its own. Needs Landlock (Linux 6.7). Not set: no limit."
        ),
    ] = None
    ports: Annotated[list[Name], Meta(description="command: loopback ports of its own; `{port:NAME}` names one.")] = []
    front: Annotated[
        dict[Name, str],
        Meta(
            description="Addresses at which its ports are reached, also while it is parked: by a port's name, "
            '`{ gateway = "127.0.0.1:18789" }`. A connection wakes it, and is held until it answers.'
        ),
    ] = {}
    channels: Annotated[
        Literal["auto", "none", "inbound"],
        Meta(
            description="`inbound`: it waits for messages on connections of its own (Telegram, WhatsApp), so its "
            "`idle.then` is `keep`. `auto`: so where its own configuration has such, which kinds know the places of: "
            "then it stays awake. `none`: it is parked all the same, and deaf meanwhile."
        ),
    ] = "auto"
    startup: Annotated[
        Duration | None, Meta(description="How long a start may take; one that visibly goes on gets three times that.")
    ] = None
    grace: Annotated[Duration | None, Meta(description="Between SIGTERM and SIGKILL.")] = None
    probes: Probes = Probes()
    heal: Heal = Heal()
    mailbox: Mailbox = Mailbox()
    schedules: dict[Name, Schedule] = {}
    snapshots: Snapshots = Snapshots()

    @property
    def most_workers(self) -> int:
        """Processes that run it, at most."""
        return self.workers if self.pool.max is None else self.pool.max

    @property
    def uses_tools(self) -> bool:
        """Whether it may use tools of relit's."""
        return bool(self.grants) or self.tools == "strict"


class Price(Table, frozen=True):
    """What a model costs, in US dollars for a million tokens."""

    input: Annotated[Dollars, Meta(description="Read.")] = 0.0
    output: Annotated[Dollars, Meta(description="Written.")] = 0.0
    cached: Annotated[Dollars | None, Meta(description="Read from the provider's cache. Not said: as `input`.")] = None
    written: Annotated[Dollars | None, Meta(description="Written into the provider's cache. Not said: as `input`.")] = (
        None
    )


class Model(Table, frozen=True, kw_only=True):
    """A way to a model. Agents call the gateway with a token of their own; it adds the key and passes the call on."""

    url: Annotated[
        str, Meta(pattern=r"^https?://.+", description="The provider's base address, as its clients want it.")
    ]
    key: Annotated[Secret | None, Meta(description="The provider's key: `secret:NAME`.")] = None
    model: Annotated[str, Meta(description="What `default` means: the model that agents ask for.")] = ""
    kind: Annotated[Literal["openai", "anthropic"], Meta(description="The protocol that the provider speaks.")] = (
        "openai"
    )
    private: Annotated[
        bool | None,
        Meta(
            description="Its address may lie on this machine or its network. Not set: it may when `url` says an "
            "address or `localhost`; a name must lie on the internet."
        ),
    ] = None
    connect: Annotated[Duration, Meta(description="How long a connection to the provider may take.")] = "10s"
    first_byte: Annotated[Duration, Meta(description="How long an answer may take to begin.")] = "10m"
    idle: Annotated[Duration, Meta(description="How long an answer may pause.")] = "5m"
    total: Annotated[Duration, Meta(description="How long an answer may take in all.")] = "2h"
    retries: Annotated[
        int,
        Meta(
            ge=0,
            le=10,
            description="Of a call that is refused for now (429, 5xx, no connection), before the agent is "
            "told. `Retry-After` is kept to, up to 20 seconds.",
        ),
    ] = 2
    fallback: Annotated[
        list[Name], Meta(description="Other tables of `[models]` that stand in when it fails, one after the other.")
    ] = []
    also: Annotated[
        list[Annotated[str, Meta(pattern="^/[a-z0-9]")]],
        Meta(
            description="What agents may call below `/v1` beside models, chat completions, responses, embeddings and "
            "messages: `/images/generations`, for example, or `/files` with all below. relit does not read such calls: "
            "they are in no journal, and the provider's key that is theirs shows one agent what another has left there."
        ),
    ] = []
    budget: Budget = Budget()

    @property
    def total_ms(self) -> int:
        return durations.to_ms(self.total)

    @property
    def connect_ms(self) -> int:
        return durations.to_ms(self.connect)

    @property
    def first_byte_ms(self) -> int:
        return durations.to_ms(self.first_byte)

    @property
    def idle_ms(self) -> int:
        return durations.to_ms(self.idle)


class Gateway(Table, frozen=True):
    """Where agents reach models and tools."""

    listen: Annotated[str, Meta(description="Address and port of the gateway.")] = "127.0.0.1:7718"
    concurrency: Annotated[Positive, Meta(description="Calls of one agent at once; further ones get 429.")] = 64
    hold: Annotated[
        Duration, Meta(description="So long a call to a tool waits for its end; then the agent is told by a message.")
    ] = "30s"
    approvals: Annotated[
        Duration, Meta(description="A call that waits for a person's word so long is not made any more.")
    ] = "1d"


class Node(Table, frozen=True):
    """This machine."""

    runtimes: Annotated[
        str | None,
        Meta(description="Where what agents need is installed, by kind and version; `runtimes` in the data folder."),
    ] = None
    ping: Annotated[
        Annotated[str, Meta(pattern=r"^https?://.+")] | None,
        Meta(
            description="An address that is asked as long as relit lives: who keeps it tells you when that ends. Not"
            " asked either while relit's own server, which sends alerts, was not ready for five minutes."
        ),
    ] = None
    ping_every: Annotated[Duration, Meta(description="How often.")] = "1m"
    memory: Annotated[
        Size | None,
        Meta(description="What all agents may hold together; not set: as much as there is. Near it they make room."),
    ] = None
    reserve: Annotated[
        Size, Meta(description="Memory that starts of agents leave free: what does not fit beside it waits.")
    ] = "256M"


class Volumes(Table, frozen=True):
    """Where versions of homes are kept, and how."""

    store: Annotated[
        str,
        Meta(
            description="`blobs` (beside `server.blobs`, below `volumes`), `local` (the data folder), a folder, or "
            "`s3://bucket/prefix`."
        ),
    ] = "blobs"
    encryption: Annotated[
        Literal["key", "passphrase", "off"],
        Meta(
            description="`key`: the file `key` of the data folder, made at the first start; or `passphrase`; or `off`."
        ),
    ] = "key"
    passphrase: Annotated[Secret | None, Meta(description="With `passphrase`: `secret:NAME`.")] = None
    interval: Annotated[Duration, Meta(description="How often new packs go to the store, one for all agents.")] = "10s"
    spool_limit: Annotated[
        Size, Meta(description="Disk for packs that the store has not taken yet; above it snapshots pause.")
    ] = "10G"
    grace: Annotated[
        Duration,
        Meta(
            description="An unused pack is deleted no sooner than this after it was found unused; one that is younger "
            "than an hour is not looked at."
        ),
    ] = "1h"
    verify: Annotated[
        Duration, Meta(description="Every pack and every manifest is checked once in this span; `0s`: never.")
    ] = "30d"

    @property
    def interval_ms(self) -> int:
        return durations.to_ms(self.interval)

    @property
    def spool_bytes(self) -> int:
        return durations.to_bytes(self.spool_limit)

    @property
    def grace_ms(self) -> int:
        return durations.to_ms(self.grace)

    @property
    def verify_ms(self) -> int:
        return durations.to_ms(self.verify)


class Vault(Table, frozen=True):
    """What secrets are sealed under."""

    passphrase: Annotated[
        Secret | None,
        Meta(
            description="Instead of the file `key` of the data folder. Best given as the variable "
            "RELIT_VAULT__PASSPHRASE, or as `secret:NAME` of secrets.toml."
        ),
    ] = None


class File(Table, frozen=True):
    """relit.toml: the configuration of relit."""

    server: Server = Server()
    worker: Worker = Worker()
    retention: Retention = Retention()
    volumes: Volumes = Volumes()
    vault: Vault = Vault()
    agents: dict[Name, Agent] = {}
    models: dict[Name, Model] = {}
    prices: dict[Annotated[str, Meta(min_length=1)], Price] = {}
    tools: dict[Name, Tool] = {}
    gateway: Gateway = Gateway()
    node: Node = Node()
    webhooks: dict[Name, Webhook] = {}
    subscribers: dict[Name, Subscriber] = {}
    alerts: Alerts = Alerts()


# Keys that relit's documents name for later versions. They promise protection or cost control, so a file that has
# them is refused rather than obeyed in part.
LATER: dict[str, str] = {
    "connections": "connections",
}
