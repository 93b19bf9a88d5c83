"""The doctor's looks at agents that relit did not write: their sandbox, and what they need."""

from __future__ import annotations

from collections.abc import Iterator

from relit.cli.patient import Finding, Patient
from relit.settings.model import OWN


def sandbox(patient: Patient) -> Iterator[Finding]:
    """Whether those that shall be in a sandbox can be."""
    agents = patient.settings.agents.items()
    wanted = [name for name, agent in agents if agent.kind != "python" and agent.sandbox == "on"]
    if not wanted:
        return
    from relit.drivers.machine import look

    found = look()
    if not found.works:
        message = f"{', '.join(wanted)} run without a sandbox: {found.why}"
        fix = 'apt-get install bubblewrap, then: relit down; relit up. Or say so: sandbox = "off"'
        yield Finding(checkId="sandbox", severity="warning", message=message, fixHint=fix)
    elif not found.pids:
        message = f"{', '.join(wanted)} see each other's processes: {found.why}"
        fix = "allow pid namespaces to unprivileged users (sysctl kernel.unprivileged_userns_clone=1)"
        yield Finding(checkId="sandbox", severity="warning", message=message, fixHint=fix)


def ports(patient: Patient) -> Iterator[Finding]:
    """Whether those that shall reach some ports only are held to that, and who may reach all."""
    agents = {name: agent for name, agent in patient.settings.agents.items() if agent.kind != "python"}
    if free := [name for name, agent in agents.items() if agent.connect is None]:
        message = f"{', '.join(free)} may connect to every port of this machine, other agents' among them"
        fix = "agents.NAME.connect says where one may go; what listens there should ask for a token, as agents do"
        yield Finding(checkId="ports", severity="info", message=message, fixHint=fix)
    if not (asked := [name for name, agent in agents.items() if agent.connect is not None]):
        return
    from relit.drivers.machine import LANDLOCK_PORTS, look

    found = look()
    if found.landlock < LANDLOCK_PORTS or not found.works:
        message = f"the ports of {', '.join(asked)} are not limited: that needs a sandbox, and Linux 6.7"
        fix = 'a newer kernel and sandbox = "on"; or take connect out'
        yield Finding(checkId="ports", severity="warning", message=message, fixHint=fix)


def canaries(patient: Patient) -> Iterator[Finding]:
    """Who cannot be asked anything without harm, since its calls to models do not pass relit."""
    from relit.app.agents import kind_of

    for name, agent in patient.settings.agents.items():
        kind = kind_of(patient.settings, name)
        if agent.model == OWN and kind is not None and kind.probes.canary is not None:
            message = f"{name} has no canary: its model is its own, and a question would cost what it costs there"
            fix = f'relit agent edit {name}: model = "default" (a table of [models]) lets its calls pass relit'
            yield Finding(checkId="canaries", severity="info", message=message, fixHint=fix)


def channels(patient: Patient) -> Iterator[Finding]:
    """Who stays awake, though it says that it may be parked."""
    from relit.app.agents import channels_of

    for name, agent in patient.settings.agents.items():
        if agent.idle.then != "keep" and (found := channels_of(patient.settings, name)):
            message = f"{name} is not parked while idle: it waits for messages of its own ({', '.join(found)})"
            fix = f'relit agent edit {name}: channels = "none" parks it all the same; it is deaf meanwhile'
            yield Finding(checkId="channels", severity="info", message=message, fixHint=fix)


def runtimes(patient: Patient) -> Iterator[Finding]:
    """Whether what agents need is installed."""
    if all(agent.kind in ("python", "command") for agent in patient.settings.agents.values()):
        return
    from relit.app.agents import kind_of, runtime_of, version_of

    for name in patient.settings.agents:
        kind = kind_of(patient.settings, name)
        if kind is not None and kind.installs and not runtime_of(patient.settings, name, kind).is_dir():
            version = version_of(patient.settings, name, kind)
            yield Finding(
                checkId="runtimes",
                severity="error",
                message=f"{kind.title} {version} is not installed, and {name} needs it",
                path=str(runtime_of(patient.settings, name, kind)),
                fixHint=f"relit agent install {name}",
            )
