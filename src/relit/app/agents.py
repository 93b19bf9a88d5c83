"""Agents that relit did not write, put together for the node: kind, runtime, ports, model route, sandbox."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import msgspec

from relit.agents import channels, door
from relit.agents.adapter import Fitted, Model, Place, Tools, env_file_of, fit, furnish
from relit.agents.kind import FootprintTable, Kind, fill
from relit.app.instances import copies, folder_of, home_of
from relit.control.box import Box, Limits
from relit.control.care import Care, EnvFile
from relit.control.values import Demand, Parking, PoolPlace, Probe
from relit.drivers.machine import look
from relit.lib import durations
from relit.settings import Settings
from relit.settings.model import Agent
from relit.settings.room import Idle
from relit.settings.secrets import named
from relit.volumes.due import to_be_laid

_MINE = ("python", "command")
_ANSWER_S = 15  # a call to a tool is answered within ``gateway.hold``, and a little
MCP_URL, MCP_TOKEN = "RELIT_MCP_URL", "RELIT_MCP_TOKEN"  # variables of a command that is granted tools
MODEL, CLONE = "model", "clone"  # tokens at an agent's door: its own for its model, and that of its clones


def kind_of(settings: Settings, name: str) -> Kind | None:
    """The kind's file of an agent; ``None`` when its kind has none."""
    agent = settings.agents.get(name)
    if agent is None or agent.kind in _MINE:
        return None
    return settings.kinds()[agent.kind]


def outsiders(settings: Settings) -> list[str]:
    """The agents that messages can be brought into: their kind says how."""
    return [name for name in settings.agents if (kind := kind_of(settings, name)) and kind.inject is not None]


def grace_of(settings: Settings, name: str) -> float:
    """Seconds that an agent may take to end when it is asked to."""
    agent, kind = settings.agents.get(name), kind_of(settings, name)
    span = (agent.grace if agent else None) or (kind.grace if kind else "10s")
    return durations.to_ms(span) / 1000


def place_of(settings: Settings, name: str, kind: Kind | None = None) -> Place:
    """Where an agent lives. Its ports and tokens are chosen when it has none yet."""
    agent, folder = settings.agents[name], folder_of(settings, name)
    ports = kind.ports if kind else agent.ports
    runtime = runtime_of(settings, name, kind) if kind and kind.installs else None
    has = f"{agent.kind} {runtime.name}" if runtime is not None and runtime.is_dir() else ""
    opened = door.settle(folder, ports, _tokens(kind, agent), has)
    return Place(
        name=name,
        home=str(home_of(settings, name)),
        tmp=str(folder / "tmp"),
        runtime=str(runtime or ""),
        door=opened,
        model=_model(settings, agent, opened),
        tools=_tools(settings, agent, opened),
    )


def _tokens(kind: Kind | None, agent: Agent) -> list[str]:
    """By name. Whoever can reach a model has clones that can."""
    tokens = kind.tokens if kind else []
    if agent.uses_tools and MODEL not in tokens:
        return [*tokens, MODEL]
    return [*tokens, CLONE] if MODEL in tokens else tokens


def runtime_of(settings: Settings, name: str, kind: Kind) -> Path:
    """The folder in which its version is installed, or will be."""
    return settings.runtimes / settings.agents[name].kind / version_of(settings, name, kind)


def version_of(settings: Settings, name: str, kind: Kind) -> str:
    """The version that an agent of this kind runs: what its table says, else the one that it has, else the one that its
    kind names. A newer relit, whose kinds name newer ones, changes none by itself."""
    agent = settings.agents[name]
    of, _, has = door.read(folder_of(settings, name)).runtime.partition(" ")
    return agent.version or (has if of == agent.kind else "") or str(kind.install.get("version", ""))


def _model(settings: Settings, agent: Agent, opened: door.Door) -> Model | None:
    """Its way to a model: through the gateway, with a token of its own."""
    token = opened.tokens.get(MODEL)
    if token is None or agent.model not in settings.models:
        return None
    return Model(url=f"{settings.gateway_url}/openai/v1", key=token, name="default")


def _tools(settings: Settings, agent: Agent, opened: door.Door) -> Tools | None:
    """Its way to relit's tools: the gateway again, and the same token."""
    token = opened.tokens.get(MODEL)
    if token is None or not agent.uses_tools:
        return None
    patience_s = durations.to_ms(settings.file.gateway.hold) // 1000 + _ANSWER_S
    return Tools(url=f"{settings.gateway_url}/mcp", key=token, strict=agent.tools == "strict", patience_s=patience_s)


def fitted(settings: Settings, name: str) -> Fitted:
    """An agent of a kind that has a file. Whether its runtime is installed is asked before each start."""
    agent = settings.agents[name]
    kind = settings.kinds()[agent.kind]
    place = place_of(settings, name, kind)
    if not to_be_laid(home_of(settings, name)):
        home_of(settings, name).mkdir(mode=0o700, parents=True, exist_ok=True)
        furnish(kind, place)
    made = fit(agent.kind, kind, place, ladder=agent.heal.ladder)
    care = msgspec.structs.replace(made.care, env_file=variables_of(settings, name, kind, place))
    return _overridden(msgspec.structs.replace(made, care=care), agent, place)


def variables_of(settings: Settings, name: str, kind: Kind, place: Place) -> EnvFile | None:
    """Its file of variables, where its kind names one. What relit.toml says of them counts; a secret is written into
    no file."""
    file, own = env_file_of(kind, place), settings.agents[name].env
    if file is None:
        return None
    keep = {key: own.get(key, value) for key, value in file.keep.items() if not [*named(own.get(key))]}
    return msgspec.structs.replace(file, keep=keep)


def cloned(settings: Settings, name: str, place: Place) -> Fitted:
    """The same agent in another place, where it must not act on the world."""
    agent = settings.agents[name]
    made = fit(agent.kind, settings.kinds()[agent.kind], place, ladder=agent.heal.ladder, silent=True)
    return _overridden(made, agent, place)


def care_of(settings: Settings, name: str) -> Care | None:
    """How a command is healed; ``None`` for code written with the SDK, which restarts alone can help."""
    agent = settings.agents[name]
    if agent.kind == "python":
        return None
    folder = folder_of(settings, name)
    return Care(
        agent=name, kind=agent.kind, home=str(folder / "home"), tmp=str(folder / "tmp"), ladder=agent.heal.ladder
    )


def _overridden(made: Fitted, agent: Agent, place: Place) -> Fitted:
    """With what relit.toml says of this one."""
    names, probes = place.names(), agent.probes
    changes: dict[str, object] = {}
    if probes.ready is not None:
        changes["ready"] = _asked(probes.ready.probe(), names)
    if probes.live:
        changes["live"] = [_asked(each.probe(), names) for each in probes.live]
    if probes.canary is not None:
        changes["canary"] = _asked(probes.canary.probe(), names)
    if agent.startup is not None:
        changes["startup_ms"] = durations.to_ms(agent.startup)
    if agent.grace is not None:
        changes["grace_ms"] = durations.to_ms(agent.grace)
    return msgspec.structs.replace(made, **changes)


def _asked(probe: Probe, names: dict[str, Any]) -> Probe:
    made: Probe = msgspec.convert(fill(msgspec.to_builtins(probe), names), type=Probe)
    return made


def command(settings: Settings, name: str) -> Fitted:
    """An agent that is any program."""
    agent, place = settings.agents[name], place_of(settings, name)
    care = care_of(settings, name)
    assert care is not None, "commands are cared for"
    names = place.names()
    made = Fitted(
        argv=[str(each) for each in fill(agent.command or [], names, strict=False)],
        env=_doors(place),
        cwd=str((settings.folder / Path(agent.folder or ".").expanduser()).absolute()),
        ready=None,
        live=[],
        canary=None,
        care=care,
        startup_ms=60_000,
        grace_ms=10_000,
    )
    return _overridden(made, agent, place)


def _doors(place: Place) -> dict[str, str]:
    """What a command is told of where it is asked, and of what it may ask."""
    ports = {f"PORT_{label.upper().replace('-', '_')}": str(port) for label, port in place.door.ports.items()}
    return ports | ({} if place.tools is None else {MCP_URL: place.tools.url, MCP_TOKEN: place.tools.key})


# --- the sandbox --------------------------------------------------------------------------------------------------

_HOMES = (Path("/root"), Path("/home"))
_MACHINES = (Path("/etc/shadow"), Path("/etc/gshadow"), Path("/etc/ssh"))
_SECRETS = (".ssh", ".aws", ".gnupg", ".kube", ".docker", ".config/gcloud", ".netrc", ".npmrc", ".pypirc")


def box_of(settings: Settings, name: str, made: Fitted) -> Box | None:
    """What it may see: the machine read-only, but nothing of relit's and its operator's; its own home and tmp.
    ``None``: no sandbox is wanted, or none can be made here (``relit doctor`` says so)."""
    agent = settings.agents[name]
    if agent.sandbox == "off" or not machine().works:
        return None
    Path(made.care.tmp).mkdir(mode=0o700, parents=True, exist_ok=True)
    stranger = agent.kind not in _MINE
    mine = Path.home()
    hidden = [mine, *_HOMES] if stranger else [mine / each for each in _SECRETS]
    hidden = [each for each in (*hidden, *_MACHINES) if each != Path("/")]
    python = interpreters(Path(made.care.needs)) if made.care.needs else []
    read = [settings.runtimes.absolute(), *python, *([] if stranger else [Path(made.cwd)])]
    box = Box(
        home=made.care.home,
        tmp=made.care.tmp,
        read=[str(each) for each in read],
        hide=[str(each) for each in (settings.data, *hidden)],
    )
    return _limited(settings, name, box)


def _limited(settings: Settings, name: str, box: Box) -> Box:
    """Its own, those that it asks for, relit's. A rule names a port and no address: who limits the loopback limits the
    world, too, so that nobody is limited who does not say where it wants to go."""
    agent = settings.agents[name]
    if agent.connect is None:
        return box
    own = [*place_of(settings, name, kind_of(settings, name)).door.ports.values()]
    ours = [settings.address[1], settings.gateway_address[1]]
    return msgspec.structs.replace(box, ports=own, connect=sorted({*agent.connect, *own, *ours}))


_LITTLE = FootprintTable(peak="64M", settled="32M", cpu=0.2)


def demand_of(settings: Settings, name: str) -> Demand:
    """What its start needs until one was measured: as its kind says; little, where nobody knows."""
    agent, kind = settings.agents[name], kind_of(settings, name)
    needs = (kind.footprint if kind is not None else None) or _LITTLE
    version = version_of(settings, name, kind) if kind is not None else ""
    return Demand(
        of=f"{agent.kind} {version}".strip() if kind is not None else f"{agent.kind} of {name}",
        priority=agent.priority,
        peak=durations.to_bytes(needs.peak),
        settled=durations.to_bytes(needs.settled),
        cpu_s=needs.cpu,
    )


def memory_of(limit: str | None) -> int | None:
    """Bytes; ``None``: no limit."""
    return None if limit is None else durations.to_bytes(limit)


def parking_of(settings: Settings, name: str) -> Parking:
    """How it makes room for others. One that waits on connections of its own would be deaf meanwhile."""
    idle = settings.agents[name].idle
    if idle.then != "keep" and channels_of(settings, name):
        idle = Idle()
    return Parking(
        then=idle.then,
        after_ms=None if idle.after is None else durations.to_ms(idle.after),
        wakes=name in outsiders(settings) or bool(settings.agents[name].front),
    )


def channels_of(settings: Settings, name: str) -> list[str]:
    """What its configuration says that it waits on, as of now; nobody asks where ``channels`` says it itself."""
    agent, kind = settings.agents[name], kind_of(settings, name)
    if kind is None or agent.channels != "auto":
        return []
    return channels.found(home_of(settings, name), kind, agent.env)


def pool_of(settings: Settings, name: str, instance: str) -> PoolPlace | None:
    """``None``: it has as many workers as it says, always."""
    pool = settings.agents[name].pool
    if pool.max is None:
        return None
    number = copies(settings, name).index(instance) + 1
    places = settings.worker.concurrency
    return PoolPlace(of=name, number=number, least=pool.min, most=pool.max, places=places)


def limits_of(agent: Agent) -> Limits | None:
    """``None``: nothing is limited."""
    asked = agent.limits
    if asked == type(asked)():
        return None
    return Limits(
        nofile=asked.files,
        nproc=asked.processes,
        fsize=durations.to_bytes(asked.file_size) if asked.file_size is not None else None,
        core=durations.to_bytes(asked.core),
    )


machine = functools.cache(look)


def interpreters(runtime: Path) -> list[Path]:
    """Where the Python of a runtime's virtual environment lives: often in its operator's home, which is hidden."""
    try:
        lines = (runtime / "venv" / "pyvenv.cfg").read_text().splitlines()
    except OSError:
        return []
    homes = [line.partition("=")[2].strip() for line in lines if line.partition("=")[0].strip() == "home"]
    return [Path(os.path.realpath(home)).parent for home in homes]
