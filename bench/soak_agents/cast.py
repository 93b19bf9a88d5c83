"""Who takes part: a hundred commands with faults, an SDK agent, and real ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.house import free_ports
from bench.soak_agents.faulty import MODES

PROGRAM = Path(__file__).with_name("faulty.py")
KIND = "ruins-config"
SDK = "clerk"
REAL = {"claw": "openclaw", "herm": "hermes"}
CONFIG = {"openclaw": "state/openclaw.json", "hermes": "home/config.yaml"}

_QUICK = 'heal = { good_after = "10s", retry = "3s" }\n'
_PROBES = (
    'probes.ready = {{ http = "http://127.0.0.1:{port}/ready" }}\n'
    'probes.live = [{{ http = "http://127.0.0.1:{port}/live", every = "2s", timeout = "2s" }}]\n'
)
_SDK = """import relit


def note(text: str) -> str:
    return text.upper()


@relit.agent
async def clerk(ctx: relit.Context, text: str) -> str:
    noted = await ctx.step(note, text)
    await ctx.sleep("200ms")
    return f"{noted}: done"
"""


class Cast:
    """``modes`` of the commands by name, ``ports`` of those whose port is taken now and then."""

    def __init__(self, folder: Path, count: int, *, real: bool) -> None:
        names = [(f"{mode}-{number // len(MODES)}", mode) for number, mode in enumerate([*MODES] * count)][:count]
        self.modes = dict(names)
        self.ports = dict(zip(self.modes, free_ports(count), strict=True))
        self.talkers = [SDK, *(REAL if real else ())]
        self._real: Mapping[str, str] = REAL if real else {}
        self._folder = folder
        (folder / "faulty.py").write_bytes(PROGRAM.read_bytes())
        (folder / "clerk.py").write_text(_SDK)
        self.calm(True)
        (folder / "kinds").mkdir()
        (folder / "kinds" / f"{KIND}.toml").write_text(self._kind())

    def tables(self) -> str:
        """The agents of relit.toml."""
        parts = [self._table(name, mode) for name, mode in self.modes.items()]
        parts.append(f'[agents.{SDK}]\nentry = "clerk:clerk"\n')
        for name, kind in self._real.items():
            parts.append(f'[agents.{name}]\nkind = "{kind}"\n{_QUICK}snapshots = {{ every = "10s" }}\n')
        return "".join(parts)

    def calm(self, well: bool) -> None:
        """Tell all commands whether to behave from now on."""
        file = self._folder / "calm"
        file.touch() if well else file.unlink()

    def kinds(self) -> Sequence[str]:
        """Of the real agents."""
        return list(self._real.values())

    def _table(self, name: str, mode: str) -> str:
        port = self.ports[name]
        common = f"[agents.{name}]\n{_QUICK}" + _PROBES.format(port=port)
        if mode == KIND:
            more = f'kind = "{KIND}"\nsandbox = "off"\nsnapshots = {{ every = "5s" }}\nenv = {{ PORT = "{port}" }}\n'
        else:
            command = [sys.executable, "-I", "-S", str(self._folder / "faulty.py"), mode, str(port)]
            more = f'kind = "command"\ncommand = {json.dumps(command)}\nsnapshots = {{ every = "10m" }}\n'
        startup = "4s" if mode == "unready" else "60s"
        return f'{common}{more}startup = "{startup}"\ngrace = "1s"\n'

    def _kind(self) -> str:
        shell = f'exec {sys.executable} -I -S {self._folder}/faulty.py {KIND} "$PORT"'
        return (
            f'title = "an agent that ruins its configuration"\nlicence = "Apache-2.0"\n'
            f'command = ["/bin/sh", "-c", {json.dumps(shell)}]\ncwd = "{{home}}"\nfolders = []\n'
            f'[[config]]\npath = "config.json"\nformat = "json"\n[config.keep]\nmood = "good"\n'
        )
