"""A relit with a toy kind of agent, whose wheels lie beside it."""

from __future__ import annotations

from pathlib import Path

from cli_house import House

import toy_kind


class AgentHouse(House):
    """A configuration of its own; pip finds the toy alone: 1.0, 2.0, 3.0 (does not start), 4.0 (in clones only), 5.0
    (slow), 6.0 (tells its key, and dies)."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.config = folder / "relit.toml"
        self.config.write_text('[agents.tick]\nkind = "command"\ncommand = ["sleep", "1000"]\n')
        toy_kind.install(folder)
        wheels = toy_kind.wheels(folder / "wheels", "1.0", "2.0", "3.0", "4.0", "5.0", "6.0")
        self.environment |= {
            "RELIT_CONFIG": str(self.config),
            "PIP_FIND_LINKS": str(wheels),
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def up(self) -> None:
        done = self.spawn("up")
        assert done.returncode == 0, done.stderr

    def home(self, name: str) -> Path:
        return self.data / "agents" / name / "home"

    def listed(self, name: str) -> dict[str, object]:
        """What ``agent ls`` says of one."""
        return next(each for each in self.json("agent", "ls")["agents"] if each["name"] == name)
