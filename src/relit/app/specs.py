"""What this machine's node keeps alive: the server, one worker (or more) for each agent, commands."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from relit.app import agents, folder, front
from relit.app.folder import run_dir
from relit.app.instances import copies, hold_of, home_of, make_home, module_name
from relit.control.values import Backoff, Demand, InstanceSpec, Probe, over_unix
from relit.errors import ConfigError, RelitError
from relit.node import parked
from relit.settings import Environment, Settings
from relit.settings.model import Agent
from relit.volumes.due import to_be_laid

# What differs from one terminal to the next must not make an instance look changed.
_SESSION = (
    "SSH_", "XDG_SESSION", "TMUX", "TERM", "COLUMNS", "LINES", "WINDOWID", "SHLVL", "OLDPWD", "PWD", "_", "STY",
    "DISPLAY", "DBUS_SESSION", "VTE_", "COLORTERM", "LS_COLORS", "RELIT_HOME",
)  # fmt: skip
_PLAIN = (
    "PATH", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "HOME", "PYTHONUNBUFFERED", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
SERVER = "server"
VOLUMES = "volumes"
TURNS = "turns"
FUNCTIONS = "functions"
GATEWAY = "gateway"
FRONT = "front"
RAW = "raw.log"  # what an instance writes; the node makes out.log of it, without secrets
FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}  # of a process whose threads work one after the other on large pieces
_OURS = Backoff(most_ms=5_000)  # everybody waits for them
STARTUP_MS = 3_600_000  # of volumes: a restore or a fork that was cut short is finished first
# When all ends, workers stop first: the server still takes their reports, and a snapshot may need them frozen.
SERVER_ORDER, VOLUMES_ORDER, WORKER_ORDER = 0, 5, 10


def specs(settings: Settings, environment: Environment, modules: Sequence[str] = ()) -> list[InstanceSpec]:
    """Every instance that this machine's node keeps alive; of an agent that cannot be put together it says why, and
    keeps no other from starting. Raises ``ConfigError``."""
    check_names(settings, modules)
    base = _environment(environment) | {"RELIT_CODE_OF": _code()}
    # Who reads settings and secrets once is started again when they change.
    digest = {"RELIT_SETTINGS_OF": _digest(settings), "RELIT_SECRETS_OF": settings.secrets.stamp(_ours(settings))}
    found = [_server(settings, base | digest), _volumes(settings, base | digest)]
    base = base | _for_agents(settings)
    for name in settings.agents:
        found += [_agent_or_fault(settings, base, name, instance) for instance in copies(settings, name)]
    found += [_module(settings, base, module) for module in modules]
    if any(agent.front for agent in settings.agents.values()):
        found.append(_front(settings, base))
    faults = [each.name for each in found if each.fault]
    return found + _for_outsiders(settings, base | digest, {"RELIT_FAULTS_OF": " ".join(faults)} if faults else {})


async def asked(read: Callable[[], Settings]) -> Settings:
    """Settings that are read now, with what the vault has to hand out for them. Raises what it raises."""
    settings = await asyncio.to_thread(read)
    if names := settings.secret_names():
        from relit.app.vaulted import hand_out  # brings the store and ciphers: a node without secrets stays small

        await hand_out(settings, names, "node")
    return settings


def spec_of(settings: Settings, environment: Environment, name: str) -> InstanceSpec:
    """The (first) instance of one agent of the configuration, whatever is wrong with others. ConfigError."""
    base = _environment(environment) | _for_agents(settings)
    return _agent(settings, base, name, settings.agents[name], copies(settings, name)[0])


def _for_agents(settings: Settings) -> dict[str, str]:
    """For `relit` called by an agent."""
    return {"RELIT_DATA": str(settings.data), "RELIT_SERVER": settings.url}


def _ours(settings: Settings) -> set[str]:
    """The secrets that processes of relit's own read."""
    return settings.secret_names("models", "tools", "webhooks", "subscribers", "alerts")


@functools.cache
def _code() -> str:
    """Which relit this is: its own processes are started again by another one. Agents that it did not write live on."""
    return str(Path(__file__).stat().st_ctime_ns)  # every installation writes it anew


def _digest(settings: Settings) -> str:
    return hashlib.blake2b(msgspec.json.encode(settings.file, order="sorted"), digest_size=8).hexdigest()


def _for_outsiders(settings: Settings, env: dict[str, str], faults: dict[str, str]) -> list[InstanceSpec]:
    """What agents need that relit did not write: a worker that brings messages in (started again when ``faults`` are
    mended), and a way to models."""
    found = []
    if agents.outsiders(settings):
        hides = settings.secrets.stamp(_ours(settings) | settings.secret_names("agents"))
        found.append(_own(settings, env | faults | {"RELIT_SECRETS_OF": hides}, TURNS))
    if any(table.function for table in settings.tools.values()):
        found.append(_own(settings, env, FUNCTIONS))
    if settings.models or settings.granted:
        made = _own(settings, env, GATEWAY)
        found.append(
            msgspec.structs.replace(
                made, env=FEW_ARENAS | env, live=[_live(f"{settings.gateway_url}/healthz")], order=VOLUMES_ORDER
            )
        )
    return found


def _own(settings: Settings, env: dict[str, str], name: str) -> InstanceSpec:
    """A process of relit's own."""
    ready = _ready_file(settings, name)
    return InstanceSpec(
        name=name,
        argv=command(settings, name, "--ready-file", ready),
        env=env,
        cwd=str(settings.folder),
        log=_log(settings, name),
        ready=_file(ready),
        order=WORKER_ORDER,
        backoff=_OURS,
        record=record_of(settings, name),
    )


def check_names(settings: Settings, modules: Sequence[str] = ()) -> None:
    """Raises ``ConfigError`` when two instances would have one name: one of them would never be started."""
    taken = {
        SERVER: "relit's own server",
        VOLUMES: "relit's own keeper of volumes",
        TURNS: "relit's own bringer of messages",
        FUNCTIONS: "relit's own worker for tools",
        GATEWAY: "relit's own gateway",
        FRONT: "relit's own front for agents' ports",
    }
    named = [(each, f"[agents.{name}]") for name in settings.agents for each in copies(settings, name)]
    for name, what in [*named, *((module_name(module), f"the module {module}") for module in modules)]:
        if name in taken:
            raise ConfigError(
                f"two instances are called {name}: {taken[name]} and {what}",
                why="each needs a name of its own",
                fix="leave one out, or rename it",
            )
        taken[name] = what


def _environment(environment: Environment) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.all.items()
        if not any(name == each or (len(each) > 1 and name.startswith(each)) for each in _SESSION)
    } | {"PYTHONUNBUFFERED": "1"}


def command(settings: Settings, *words: str) -> list[str]:
    """A call of relit with the same data folder and configuration."""
    config = ["--config", str(settings.path)] if settings.path else []
    return [sys.executable, "-m", "relit.cli", "--data", str(settings.data), *config, *words]


def _log(settings: Settings, name: str) -> str:
    place = settings.data / "agents" / name / "log"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(place / RAW)


def _ready_file(settings: Settings, name: str) -> str:
    """A worker writes this file when it has registered; the node removes it before each start."""
    return str(run_dir(settings) / f"{name}.ready")


def _file(path: str) -> Probe:
    return Probe(kind="file", target=path, every_ms=60_000)


def _live(url: str) -> Probe:
    """Patient: a machine under load is slow, and what hangs does so for longer than a minute."""
    return Probe(kind="http", target=url, every_ms=10_000, timeout_ms=5_000, failures=6)


def _server(settings: Settings, env: dict[str, str]) -> InstanceSpec:
    return InstanceSpec(
        name=SERVER,
        argv=command(settings, "server", "--listen", settings.server.listen),
        env=env,
        cwd=str(settings.folder),
        log=_log(settings, SERVER),
        ready=Probe(kind="http", target=f"{settings.url}/readyz?of={folder.mark(settings.data)}"),
        live=[_live(f"{settings.url}/healthz")],
        order=SERVER_ORDER,
        backoff=_OURS,
    )


def _volumes(settings: Settings, env: dict[str, str]) -> InstanceSpec:
    ready = _ready_file(settings, VOLUMES)
    return InstanceSpec(
        name=VOLUMES,
        argv=command(settings, "volumes", "--ready-file", ready),
        env=FEW_ARENAS | env,
        cwd=str(settings.folder),
        log=_log(settings, VOLUMES),
        ready=_file(ready),
        startup_ms=STARTUP_MS,
        live=[_live(over_unix(run_dir(settings) / folder.VOLUMES_SOCKET, "/healthz"))],
        order=VOLUMES_ORDER,
        backoff=_OURS,
    )


def _agent_or_fault(settings: Settings, env: dict[str, str], name: str, instance: str) -> InstanceSpec:
    agent = settings.agents[name]
    try:
        return _agent(settings, env, name, agent, instance)
    except Exception as error:  # noqa: BLE001 - whatever it is, in its settings or on the disk: it is told as its own
        demand = Demand(of=f"{agent.kind} of {name}", priority=agent.priority)
        return _faulty(settings, instance, error, hold=str(hold_of(settings, name)), demand=demand)


def _front(settings: Settings, env: dict[str, str]) -> InstanceSpec:
    try:
        return _own(settings, env | {"RELIT_FRONTS_OF": front.stamp(settings)}, FRONT)
    except ConfigError as error:  # of one agent's front
        return _faulty(settings, FRONT, error)


def _faulty(
    settings: Settings, name: str, error: Exception, *, hold: str | None = None, demand: Demand | None = None
) -> InstanceSpec:  # fmt: skip
    """Stands for one that cannot be put together: it is told why, in one line with the command that mends it."""
    why = str(error) if isinstance(error, OSError) else repr(error)
    if isinstance(error, RelitError):
        why = f"{error.what}: {error.fix or error.why}".removesuffix(": ")
    return InstanceSpec(
        name=name, argv=[], order=WORKER_ORDER, hold=hold, record=record_of(settings, name), demand=demand, fault=why,
    )  # fmt: skip


def _agent(settings: Settings, env: dict[str, str], name: str, agent: Agent, instance: str) -> InstanceSpec:
    secrets = settings.secrets
    own = {key: secrets.reveal(value) for key, value in agent.env.items()}
    home = {"RELIT_HOME": str(_home(settings, name))}
    if agent.kind == "python":
        worker = _worker(settings, env | home | own, name, agent, instance)
        return msgspec.structs.replace(worker, secrets=sorted(_revealed(agent, own)))
    if agent.kind == "command":
        made, told = agents.command(settings, name), _for_agents(settings)
    else:
        made, told = agents.fitted(settings, name), {}
    told = told | home | made.env | own
    around = _plain(env)
    return InstanceSpec(
        name=instance,
        argv=made.argv,
        env=around | told,
        passed=sorted(around.keys() - told.keys()),
        cwd=made.cwd,
        log=_log(settings, instance),
        ready=made.ready,
        live=made.live,
        canary=made.canary,
        startup_ms=made.startup_ms,
        grace_ms=made.grace_ms,
        order=WORKER_ORDER,
        hold=str(hold_of(settings, name)),
        care=made.care,
        record=record_of(settings, instance),
        box=agents.box_of(settings, name, made),
        limits=agents.limits_of(agent),
        demand=agents.demand_of(settings, name),
        memory=agents.memory_of(agent.memory.hard),
        soft=agents.memory_of(agent.memory.soft),
        parking=agents.parking_of(settings, name),
        secrets=sorted({*made.secrets, *_revealed(agent, own)}),
    )


def _revealed(agent: Agent, own: dict[str, str]) -> set[str]:
    """What ``secret:NAME`` stood for in its environment."""
    return {own[key] for key, value in agent.env.items() if value != own[key]}


def _worker(settings: Settings, env: dict[str, str], name: str, agent: Agent, instance: str) -> InstanceSpec:
    ready = _ready_file(settings, instance)
    return InstanceSpec(
        name=instance,
        argv=command(settings, "worker", "--agent", name, "--ready-file", ready),
        env=env,
        cwd=str((settings.folder / Path(agent.folder or ".").expanduser()).absolute()),
        log=_log(settings, instance),
        ready=_file(ready),
        order=WORKER_ORDER,
        hold=str(hold_of(settings, name)),
        record=record_of(settings, instance),
        park=str(parked.beside(str(hold_of(settings, name)), "" if instance == name else instance)),
        pool=agents.pool_of(settings, name, instance),
        demand=agents.demand_of(settings, name),
        memory=agents.memory_of(agent.memory.hard),
        soft=agents.memory_of(agent.memory.soft),
    )


def _plain(env: dict[str, str]) -> dict[str, str]:
    """What a stranger's process is told of ours: it must not learn what was meant for others."""
    return {name: value for name, value in env.items() if name in _PLAIN or name.startswith("LC_")}


def record_of(settings: Settings, instance: str) -> str:
    """The folder of its incidents."""
    return str(settings.data / "agents" / instance / "incidents")


def _home(settings: Settings, name: str) -> Path:
    """Made, unless its files are to come first: until then the agent is held."""
    home = home_of(settings, name)
    return home if to_be_laid(home) else make_home(settings, name)


def _module(settings: Settings, env: dict[str, str], module: str) -> InstanceSpec:
    name = module_name(module)
    ready = _ready_file(settings, name)
    return InstanceSpec(
        name=name,
        argv=command(settings, "worker", module, "--ready-file", ready),
        env=env,
        cwd=str(Path.cwd()),
        log=_log(settings, name),
        ready=_file(ready),
        order=WORKER_ORDER,
        hold=str(hold_of(settings, name)),
        demand=Demand(of=f"module {module}"),
    )
