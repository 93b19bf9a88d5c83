"""What relit.toml may say: one Struct per table. The JSON Schema, the checks and the docs' test come from here."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from relit.lib import durations
from relit.lib.names import AGENT
from relit.volumes.retention import Tier, parse_keep

Duration = Annotated[
    str, Meta(pattern=r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d|w)\s*)+$", extra_json_schema={"format": "relit-duration"})
]
Size = Annotated[
    str, Meta(pattern=r"^\s*\d+(\.\d+)?\s*[KMGTkmgt]?(i?[bB])?\s*$", extra_json_schema={"format": "relit-size"})
]
Secret = Annotated[str, Meta(min_length=1, extra_json_schema={"writeOnly": True})]
Name = Annotated[str, Meta(pattern=AGENT)]
Positive = Annotated[int, Meta(ge=1)]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table of relit.toml."""


class Server(_Table, frozen=True):
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


class Worker(_Table, frozen=True):
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


class Retention(_Table, frozen=True):
    """How long finished work is kept."""

    runs: Annotated[
        Duration, Meta(description="Finished runs, with journal and events, are deleted when older than this.")
    ] = "30d"

    @property
    def runs_ms(self) -> int:
        return durations.to_ms(self.runs)


class Mailbox(_Table, frozen=True):
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


class Schedule(_Table, frozen=True):
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


class Snapshots(_Table, frozen=True):
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


class Agent(_Table, frozen=True):
    """One agent."""

    kind: Annotated[
        Literal["python", "command"],
        Meta(description="`python`: code written with the SDK; `command`: any program, kept alive."),
    ] = "python"
    entry: Annotated[str | None, Meta(description="python: `module` or `module:object`.")] = None
    command: Annotated[list[str] | None, Meta(description="command: the program and its arguments.")] = None
    folder: Annotated[
        str | None, Meta(description="Working folder; relative to relit.toml. python: also where modules are found.")
    ] = None
    env: Annotated[dict[str, Secret], Meta(description="Environment variables; values may be `secret:NAME`.")] = {}
    priority: Annotated[int, Meta(ge=0, le=100, description="Of its messages: 0 last … 100 first.")] = 50
    workers: Annotated[Positive, Meta(le=64, description="Processes that run it.")] = 1
    mailbox: Mailbox = Mailbox()
    schedules: dict[Name, Schedule] = {}
    snapshots: Snapshots = Snapshots()


class Webhook(_Table, frozen=True):
    """A signed webhook that becomes a message: `POST /v1/webhooks/NAME`."""

    agent: Annotated[Name, Meta(description="Who gets the message.")]
    secret: Annotated[Secret, Meta(description="The shared secret: `secret:NAME`.")]
    scheme: Annotated[
        Literal["standard", "hmac"],
        Meta(description="`standard`: Standard Webhooks; `hmac`: a header with an HMAC-SHA256 of the body."),
    ] = "standard"
    header: Annotated[str, Meta(description="hmac: the header that carries the signature.")] = "X-Signature-256"
    prefix: Annotated[str, Meta(description="hmac: text before the signature, as in `sha256=…`.")] = "sha256="
    encoding: Annotated[Literal["hex", "base64"], Meta(description="hmac: how the signature is written.")] = "hex"
    id_header: Annotated[
        str | None, Meta(description="hmac: the header with the delivery's id; the same id is one message.")
    ] = None


class Subscriber(_Table, frozen=True):
    """An outgoing webhook (Standard Webhooks) for events."""

    url: Annotated[str, Meta(pattern=r"^https?://.+", description="Where events are posted.")]
    secret: Annotated[Secret, Meta(description="Signs the posts: `secret:NAME`.")]
    events: Annotated[list[str], Meta(description="Names or patterns: `run.failed`, `run.*`; none: all.")] = []


class Volumes(_Table, frozen=True):
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


class File(_Table, frozen=True):
    """relit.toml: the configuration of relit."""

    server: Server = Server()
    worker: Worker = Worker()
    retention: Retention = Retention()
    volumes: Volumes = Volumes()
    agents: dict[Name, Agent] = {}
    webhooks: dict[Name, Webhook] = {}
    subscribers: dict[Name, Subscriber] = {}


# Keys that relit's documents name for later versions. They promise protection or cost control, so a file that has
# them is refused rather than obeyed in part.
LATER: dict[str, str] = {
    "agents.*.memory": "memory limits",
    "agents.*.idle": "parking of idle agents",
    "agents.*.tools": "journaled tools",
    "agents.*.resume": "resuming of unmodified agents",
    "agents.*.sandbox": "the sandbox",
    "agents.*.grants": "grants",
    "models": "the model gateway",
    "alerts": "alerts",
    "connections": "connections",
}
