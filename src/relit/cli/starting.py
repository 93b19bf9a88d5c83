"""Waits until what ``relit up`` started is ready, or says what it died of."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from relit.cli.exits import CONFIG
from relit.control.values import FAULTY, WAITS
from relit.errors import ConfigError, Conflict, RelitError, WaitTimeout
from relit.node.logbook import parsed

if TYPE_CHECKING:
    from relit.control.values import InstanceStatus
    from relit.node.status import Running
    from relit.settings import Settings

_LOOK_S = 0.05
_DEATHS = 2  # one may be chance


class Start:
    """A node that was just started."""

    def __init__(self, settings: Settings, log: Path, process: subprocess.Popen[bytes]) -> None:
        self._settings = settings
        self._log = log
        self._process = process
        self._restarts: dict[str, int] = {}  # restarts of earlier days are no sign of trouble now

    def wait(self, timeout_ms: int) -> Running:
        """Everything ready. Raises ``ConfigError`` when an instance says that its configuration is wrong."""
        from relit.app.folder import run_dir
        from relit.node import status

        until = time.monotonic() + timeout_ms / 1000
        while True:
            running = status.read(run_dir(self._settings))
            ours = running.node == self._process.pid
            if ours and running.instances and all(_settled(each) for each in running.instances):
                return running
            if self._process.poll() is not None:
                raise told(self._log, "the node did not start", RelitError)
            if ours:
                self._look(running)
            if time.monotonic() > until:
                raise self._late(running)
            time.sleep(_LOOK_S)

    def _look(self, running: Running) -> None:
        """Raises when an instance dies again and again."""
        for each in running.instances:
            if each.state == "backing-off" and each.last_exit == f"exit {CONFIG}":
                raise told(self._log_of(each), f"{each.name} cannot start", ConfigError)
            if each.state == "down" and each.reason.startswith(FAULTY):
                raise ConfigError(f"{each.name} cannot start", why=each.reason, fix="relit config check")
            deaths = each.restarts - self._restarts.setdefault(each.name, each.restarts)
            if deaths >= _DEATHS:
                raise self._dying(each, deaths)

    def _dying(self, instance: InstanceStatus, deaths: int) -> RelitError:
        ended = f" ({instance.last_exit})" if instance.last_exit else ""
        what = f"{instance.name} died {deaths} times while relit started{ended}; relit goes on trying"
        if self._log_of(instance).exists():
            return told(self._log_of(instance), what, RelitError)
        return RelitError(what, why=instance.reason, fix=f"relit why {instance.name}")  # it never came to a log

    def _late(self, running: Running) -> RelitError:
        late = next((each for each in running.instances if not _settled(each)), None)
        if late is None:
            return told(self._log, "the node is not ready", WaitTimeout)
        return told(self._log_of(late), f"{late.name} is not ready; relit goes on trying", WaitTimeout)

    def _log_of(self, instance: InstanceStatus) -> Path:
        return self._settings.data / "agents" / instance.name / "log" / "out.log"


def _settled(instance: InstanceStatus) -> bool:
    """Whether there is nothing to wait for: it is ready, or waits for something that may take long."""
    waits = instance.state == "starting" and instance.reason.startswith(WAITS)
    return instance.state in ("ready", "frozen") or waits or (instance.state == "stopped" and instance.reason != "")


def told(log: Path, what: str, kind: type[RelitError]) -> RelitError:
    """An error with what the log's writer said last: its own error, else its last lines."""
    parts = last_error(log)
    if "error" in parts:
        code = parts.get("docs", "").removeprefix("relit explain ")
        kind = {each.code: each for each in (ConfigError, Conflict)}.get(code, kind)  # the exit code says so, too
        return kind(f"{what}: {parts['error']}", why=parts.get("why", ""), fix=parts.get("fix", f"less {log}"))
    return kind(what, why=parts.get("tail", "its log is empty"), fix=f"less {log}")


def last_error(log: Path) -> dict[str, str]:
    """The last ``error:``, ``why:`` and ``fix:`` in a log; else its ``tail``."""
    try:
        lines = [parsed(line).text for line in log.read_text(errors="replace").strip().splitlines()]
    except OSError as error:
        return {"tail": str(error)}
    begin = max((number for number, line in enumerate(lines) if line.startswith("error: ")), default=None)
    if begin is None:
        return {"tail": "\n".join(lines[-4:])} if lines else {}
    found: dict[str, str] = {}
    label = ""
    for line in lines[begin:]:
        name, colon, rest = line.partition(": ")
        if colon and name in ("error", "why", "fix", "docs"):
            label, found[name] = name, rest
        elif label:
            found[label] += f"\n{line}"
    return found
