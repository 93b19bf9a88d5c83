"""What a kind of agent is: a table in ``kinds/NAME.toml``. A third agent needs such a file, and nothing else.

Text in it may name what differs from agent to agent: ``{name}``, ``{home}``, ``{tmp}``, ``{runtime}`` (the folder that
its version is installed in), ``{port:NAME}``, ``{token:NAME}``, ``{model:url}``, ``{model:key}``, ``{model:name}``,
``{tools:url}``, ``{tools:key}``, ``{tools:patience_s}`` (seconds), ``{tools:patience_ms}``.
Where the whole text is one of these, its type stays (a port is a number). ``{nonce}`` and ``{session}`` are filled in
at each call.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from relit.control.care import ConfigFile, Format, Meaning, Repair, Settle
from relit.control.values import Probe
from relit.errors import ConfigError
from relit.lib import durations

Span = Annotated[
    str, Meta(pattern=r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d|w)\s*)+$", extra_json_schema={"format": "relit-duration"})
]
Size = Annotated[
    str, Meta(pattern=r"^\s*\d+(\.\d+)?\s*[KMGTkmgt]?(i?[bB])?\s*$", extra_json_schema={"format": "relit-size"})
]
_LATER = ("nonce", "session", "text")
_NAMED = re.compile(r"\{([a-z]+(?::[a-z_]+)?)\}")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table of a kind's file."""


class Question(_Table, frozen=True, kw_only=True):
    """A probe, as files write it: exactly one of the first six says how it asks."""

    http: Annotated[str | None, Meta(description="A URL that must answer with a status below 400.")] = None
    tcp: Annotated[str | None, Meta(description="`host:port` that must take a connection.")] = None
    unix: Annotated[str | None, Meta(description="A socket that must take a connection.")] = None
    file: Annotated[str | None, Meta(description="A file that must be there; it is removed before each start.")] = None
    age: Annotated[str | None, Meta(description="A file that must have been written within `max_age`.")] = None
    command: Annotated[list[str], Meta(description="A command that must end with exit code 0.")] = []
    headers: Annotated[dict[str, str], Meta(description="http: sent along.")] = {}
    body: Annotated[str, Meta(description="http: JSON that is posted; `{nonce}` is another word each time.")] = ""
    want: Annotated[dict[str, Any], Meta(description="http: dotted keys of the answer and their values.")] = {}
    contains: Annotated[str, Meta(description="http: text that the answer must contain.")] = ""
    max_age: Annotated[Span, Meta(description="age: how old it may be.")] = "60s"
    field: Annotated[str, Meta(description="age: the dotted key of its JSON that holds the time.")] = ""
    every: Annotated[Span, Meta(description="How often it is asked; sooner after it was not answered.")] = "5s"
    timeout: Annotated[Span, Meta(description="How long an answer may take.")] = "2s"
    failures: Annotated[Annotated[int, Meta(ge=1)], Meta(description="So many in a row count as no.")] = 3

    def probe(self) -> Probe:
        """The value that nodes use. ConfigError unless exactly one way of asking is given."""
        given = [name for name in ("http", "tcp", "unix", "file", "age") if getattr(self, name) is not None]
        given += ["command"] if self.command else []
        if len(given) != 1:
            raise ConfigError(
                "a probe asks in exactly one way",
                why=f"given are {', '.join(given) or 'none'}",
                fix="relit config check",
            )
        kind: Any = given[0]
        return Probe(
            kind=kind,
            target="" if self.command else getattr(self, kind),
            headers=self.headers,
            body=self.body,
            want=self.want,
            contains=self.contains,
            argv=self.command,
            max_age_ms=durations.to_ms(self.max_age),
            field=self.field,
            every_ms=durations.to_ms(self.every),
            timeout_ms=durations.to_ms(self.timeout),
            failures=self.failures,
        )


class Probes(_Table, frozen=True, kw_only=True):
    """How an agent is asked."""

    ready: Annotated[Question | None, Meta(description="Whether it has started, and takes work.")] = None
    live: Annotated[list[Question], Meta(description="Whether it still lives; else it is killed and restarted.")] = []
    canary: Annotated[
        Question | None, Meta(description="A harmless message that it must answer; else it is killed and restarted.")
    ] = None


class Config(_Table, frozen=True, kw_only=True):
    """A configuration file: see ``relit.control.care.ConfigFile``. ``keep``, ``model`` (kept when the agent has a
    model route) and ``tools`` (when it is granted some of relit's) and
    ``strict`` (when relit's stand in for its own) are tables; their keys are joined by dots."""

    path: str
    format: Format
    checker: str = ""
    validate: list[str] = []
    draft: dict[str, str] = {}  # variables that let ``validate`` look at the file ``{draft}`` instead
    keep: dict[str, Any] = {}
    model: dict[str, Any] = {}
    tools: dict[str, Any] = {}
    strict: dict[str, Any] = {}
    without: list[str] = []
    beside: dict[str, str] = {}
    silent: dict[str, Any] = {}  # kept in a clone: it must not act on the world

    def file(self, *, model: bool, silent: bool, tools: bool = False, strict: bool = False) -> ConfigFile:
        """The value that nodes use."""
        kept = _joined(self.keep)
        wanted = [(model, self.model), (strict, self.strict), (tools and not silent, self.tools), (silent, self.silent)]
        for holds, table in wanted:
            kept |= _joined(table) if holds else {}
        return ConfigFile(
            path=self.path,
            format=self.format,
            checker=self.checker,
            validate=self.validate,
            keep=kept,
            without=self.without,
            beside=self.beside,
        )


class RepairTable(_Table, frozen=True, kw_only=True):
    """The agent's own repair."""

    command: list[str]
    timeout: Span = "2m"


class Inject(_Table, frozen=True, kw_only=True):
    """How a message gets into it: an OpenAI-compatible chat completion, streamed, or (``post``: a webhook, JSON-RPC)
    any JSON that is answered with the whole."""

    style: Literal["openai", "post"] = "openai"
    url: str
    headers: dict[str, str] = {}  # may name {session}
    model: str = "default"
    body: dict[str, Any] = {}  # of a post: may name {text} and {session}; of a completion what is added: {session}
    answer: str = ""  # of a post: where its answer has the text, keys joined by dots; empty: all of it is the text
    failures: list[str] = []  # an answer that begins so is none: its model did not answer
    hangup: Literal["cancels", "finishes"] = "finishes"  # what a caller that goes away does to the turn
    idle: Span = "15m"  # without a byte of its answer: then it counts as lost. A post says nothing before its end

    def __post_init__(self) -> None:
        if self.style == "post" and "{text}" not in str(self.body):
            raise ValueError("a message is posted in `body`, which must name {text}")


class Aside(_Table, frozen=True, kw_only=True):
    """A folder of an installation that its configuration names: ``key`` (dotted), else ``usual`` below it. A ``*`` in
    the key stands for each entry of a list or table; ``{n}`` is its place (or its name), ``{id}`` its own ``id``."""

    key: str
    into: str  # below the agent's home
    usual: str = ""


class Adopt(_Table, frozen=True, kw_only=True):
    """How an installation that exists is taken over, and given back. Paths are below the installation's folder.

    ``ports`` and ``tokens``: where it says what is the agent's door (a dotted key of its configuration, or
    ``FILE:VARIABLE`` of an environment file); ``usual_ports``: when it says nothing.
    """

    marks: list[str]  # files that such an installation has
    into: str  # where it goes, below the agent's home
    folders: list[Aside] = []
    without: list[str] = []  # patterns of what is not taken along
    pids: list[str] = []  # files that hold the pid of who runs it: a number, or JSON with ``pid``
    ports: dict[str, str] = {}
    usual_ports: dict[str, int] = {}
    tokens: dict[str, str] = {}
    token_least: int = 1  # letters: the agent takes no shorter one
    settle: list[Settle] = []  # in the copy: what names processes or paths; ``{source}`` and ``{into}`` are folders
    schedules: Literal["", "openclaw", "hermes"] = ""  # how its own schedules are read
    switches_off: bool = True  # whether ``keep`` switches these off
    stop: str = ""  # the command that stops it
    start: str = ""  # the command that starts it without relit: ``{dest}`` is its folder

    def settled(self, source: str, into: str) -> list[Settle]:
        """What is to be settled in a copy of ``source`` that lies in ``into``."""
        names = {"{source}": source.replace("'", "''"), "{into}": into.replace("'", "''")}
        found = []
        for each in self.settle:
            sql = each.sql
            for name, path in names.items():
                sql = sql.replace(name, path)
            found.append(msgspec.structs.replace(each, sql=sql))
        return found


class CloneTable(_Table, frozen=True, kw_only=True):
    """How a clone is kept from acting on the world, beside what its configuration's ``silent`` says."""

    without: list[str] = []  # patterns of its home: credentials of channels, above all
    env: dict[str, str] = {}
    settle: list[Settle] = []


class FootprintTable(_Table, frozen=True, kw_only=True):
    """What a start needs, until one was measured: memory at its ``peak`` and once it has ``settled``, CPU seconds."""

    peak: Size
    settled: Size
    cpu: float


class Kind(_Table, frozen=True, kw_only=True):
    """One kind of agent.

    ``channels``: dotted keys of its first configuration file (``*``: any; ``!`` before one: not that), or
    ``FILE:VARIABLE`` of an environment file in its home. What is there and is not switched off counts.
    ``env_file``: a file of variables in its home that it puts in the place of its environment: what it says of those in
    ``env`` is made to say the same.
    """

    title: str
    licence: str = ""
    install: dict[str, Any] = {}
    command: list[str]
    cwd: str = "{home}"
    folders: list[str] = []
    env: dict[str, str] = {}
    env_file: str = ""
    ports: list[str] = []
    tokens: list[str] = []
    grace: Span = "10s"
    startup: Span = "60s"
    exits: dict[str, Meaning] = {}
    exclude: list[str] = []
    stale: list[str] = []
    carry_over: list[str] = []
    config: list[Config] = []
    repair: RepairTable | None = None
    databases: list[str] = []
    settle: list[Settle] = []
    probes: Probes = Probes()
    inject: Inject | None = None
    adopt: Adopt | None = None
    clone: CloneTable = CloneTable()
    record: list[str] = []  # where it keeps what was said: in a strict replay this goes back, and work done stays
    footprint: FootprintTable | None = None
    channels: list[str] = []  # where it says that it waits on connections of its own
    masks: list[str] = []  # patterns of what varies in its calls to a model, though they are the same

    @property
    def installs(self) -> bool:
        """Whether it needs a runtime of its own."""
        return bool(self.install)

    def repairs(self) -> Repair | None:
        """Its own repair as nodes run it."""
        if self.repair is None:
            return None
        return Repair(argv=self.repair.command, timeout_ms=durations.to_ms(self.repair.timeout))


def _joined(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys. A key that starts with ``=`` holds a table that is kept as a whole."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key.startswith("="):
            found[above + key[1:]] = value
        elif isinstance(value, Mapping):
            found |= _joined(value, f"{above}{key}.")
        else:
            found[above + key] = value
    return found


def fill(value: Any, names: Mapping[str, Any], *, strict: bool = True) -> Any:
    """The value with everything that it names. ConfigError for a name that is not known, unless not ``strict``: then
    it stays as it is."""
    if isinstance(value, str):
        whole = _NAMED.fullmatch(value)
        if whole:
            return _named(whole, names, strict)
        return _NAMED.sub(lambda match: str(_named(match, names, strict)), value)
    if isinstance(value, Mapping):
        return {key: fill(each, names, strict=strict) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [fill(each, names, strict=strict) for each in value]
    return value


def _named(match: re.Match[str], names: Mapping[str, Any], strict: bool) -> Any:
    if match[1] in names:
        return names[match[1]]
    if match[1] in _LATER or not strict:
        return match[0]
    raise ConfigError(
        f"{match[0]} is not known here", why=f"known are {', '.join(sorted(names))}", fix="relit config check"
    )


# --- files --------------------------------------------------------------------------------------------------------


def load(text: str, where: str) -> Kind:
    """A kind out of its file. ConfigError."""
    try:
        return msgspec.convert(tomllib.loads(text), Kind, strict=False)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{where} does not describe a kind of agent", why=str(error), fix=f"edit {where}") from error


def builtin() -> dict[str, Kind]:
    """The kinds that come with relit."""
    files = resources.files("relit.agents") / "kinds"
    return {
        each.name.removesuffix(".toml"): load(each.read_text(), each.name)
        for each in files.iterdir()
        if each.name.endswith(".toml")
    }


def kinds(folder: Path | None) -> dict[str, Kind]:
    """All kinds: those that come with relit, and those of ``folder`` (``kinds`` beside relit.toml), which win."""
    own = sorted(folder.glob("*.toml")) if folder is not None else []
    return builtin() | {each.stem: load(each.read_text(), str(each)) for each in own}
