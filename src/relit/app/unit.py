"""The systemd unit that keeps relit itself alive. Pure: values in, the file's text out."""

from __future__ import annotations

import msgspec

STOP_S = 360  # as long as the most patient agent may take to finish its turn, and a little
NAME = "relit.service"


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """``command``: the node in the foreground. ``user``: whose unit it is; else the system's, run by ``account``.
    ``variables``: settings that came from the environment."""

    command: list[str]
    folder: str
    path: str
    variables: dict[str, str] = {}
    user: bool = True
    account: str = ""

    def text(self) -> str:
        """The unit file. ``KillMode=process``: agents outlive the node; ``Delegate``: each gets a cgroup."""
        wanted = "default.target" if self.user else "multi-user.target"
        account = f"User={self.account}\n" if self.account and not self.user else ""
        return (
            "[Unit]\n"
            "Description=relit keeps this machine's agents alive\n"
            "Wants=network-online.target\n"
            "After=network-online.target\n"
            "StartLimitIntervalSec=0\n"
            "\n"
            "[Service]\n"
            f"{account}"
            f"WorkingDirectory={_escaped(self.folder)}\n"
            f"Environment={_quoted('PATH=' + self.path)}\n"
            f"{self._variables()}"
            f"ExecStart={' '.join(map(_quoted, self.command))}\n"
            "ExecReload=/bin/kill -HUP $MAINPID\n"
            "Restart=always\n"
            "RestartSec=1\n"
            "KillMode=process\n"
            "Delegate=yes\n"
            f"TimeoutStopSec={STOP_S}\n"
            "\n"
            "[Install]\n"
            f"WantedBy={wanted}\n"
        )

    def _variables(self) -> str:
        return "".join(f"Environment={_quoted(f'{name}={text}')}\n" for name, text in sorted(self.variables.items()))


def _escaped(word: str) -> str:
    return word.replace("%", "%%")


def _quoted(word: str) -> str:
    """A word of ExecStart: quoted as systemd reads it (systemd.syntax(7)), with no variable and no specifier in it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{_escaped(escaped)}"'
