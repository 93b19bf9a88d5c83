"""``service``: relit as a service of this machine, started with it and started again when it dies."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import click

from relit.cli.commands.aliases import Aliased
from relit.cli.session import Session, pass_session
from relit.errors import ConfigError, RelitError
from relit.node.redact import telling_names

_NOT_IN_UNIT = ("RELIT_CONFIG", "RELIT_DATA", "RELIT_SERVER", "RELIT_HOME")  # in its command, or about other commands


@click.group(cls=Aliased)
def service() -> None:
    """Let systemd start relit with the machine, and again whenever it dies. Agents go on meanwhile."""


@service.command()
@click.option("--system", is_flag=True, help="For the whole machine (root); else for this user alone.")
@click.option("--account", help="With --system: the user that relit runs as; root when absent.")
@click.option("--print", "only_print", is_flag=True, help="Show the unit, install nothing.")
@pass_session
def install(session: Session, system: bool, account: str | None, only_print: bool) -> int:
    """Write the unit, enable and start it. An older one is replaced."""
    if account and account != _me():
        _see_reachable(session, account)
    text = _text(session, system=system, account=account or "")
    if only_print:
        session.screen.line(text.rstrip())
        return 0
    place = _place(session, system=system)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    session.screen.line(f"written: {place}")
    if not system:
        _linger(session)
    _systemctl(system, "daemon-reload")
    _systemctl(system, "enable", "--now", place.name)
    _systemctl(system, "is-active", place.name)
    session.screen.line("relit is a service now: it starts with the machine")
    session.screen.hint(_told(system, "status"), "relit ps")
    return 0


@service.command()
@click.option("--system", is_flag=True, help="The one of the whole machine.")
@pass_session
def uninstall(session: Session, system: bool) -> int:
    """Stop relit with all its agents in good order, and remove the unit. Their data stays."""
    place = _place(session, system=system)
    if not place.exists():
        session.screen.line(f"there is no {place}")
        return 0
    _systemctl(system, "disable", "--now", place.name)
    place.unlink()
    _systemctl(system, "daemon-reload")
    session.screen.line(f"removed: {place}")
    return 0


@service.command()
@click.option("--system", is_flag=True, help="The one of the whole machine.")
@pass_session
def status(session: Session, system: bool) -> int:
    """What systemd says of it."""
    return subprocess.run([*_command(system), "status", "--no-pager", _name()], check=False).returncode


def _text(session: Session, *, system: bool, account: str) -> str:
    from relit.app.specs import command
    from relit.app.unit import Unit

    settings = session.settings()
    ours = {name: text for name, text in session.environment.all.items() if name.startswith("RELIT_")}
    secret = telling_names(ours)
    for name in secret:
        session.screen.note(f"{name} is not in the unit, which everybody may read: systemctl edit {_name()} adds it")
    return Unit(
        variables={name: text for name, text in ours.items() if name not in {*secret, *_NOT_IN_UNIT}},
        command=command(settings, "node", "run"),
        folder=str(settings.folder),
        path=session.environment.get("PATH") or os.defpath,
        user=not system,
        account=account,
    ).text()


def _me() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _see_reachable(session: Session, account: str) -> None:
    """ConfigError unless that account can work in the data folder, which by default is the installer's own."""
    try:
        known = pwd.getpwnam(account)
    except KeyError:
        raise ConfigError(f"there is no account {account}", fix=f"useradd --system --create-home {account}") from None
    data = session.data
    try:
        owner = data.stat().st_uid
    except OSError:
        owner = None
    if owner != known.pw_uid:
        why = "it is not there" if owner is None else f"it is {_named(owner)}'s"
        raise ConfigError(
            f"{account} cannot work in {data}", why=why,
            fix=f"install -d -m 700 -o {account} /var/lib/relit; relit --data /var/lib/relit service install --system "
            f"--account {account}",
        )  # fmt: skip


def _named(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _name() -> str:
    from relit.app.unit import NAME

    return NAME


def _place(session: Session, *, system: bool) -> Path:
    if system:
        if os.geteuid() != 0:
            raise ConfigError(
                "a service of the whole machine is root's to install",
                fix="sudo relit service install --system --account USER, or leave out --system",
            )
        return Path("/etc/systemd/system") / _name()
    home = session.environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "systemd" / "user" / _name()


def _command(system: bool) -> list[str]:
    found = shutil.which("systemctl")
    if found is None or not Path("/run/systemd/system").is_dir():
        raise RelitError(
            "systemd does not run here",
            why="relit service writes a systemd unit",
            fix="relit service install --print, for another supervisor; relit up starts relit by hand",
        )
    return [found] if system else [found, "--user"]


def _systemctl(system: bool, *words: str) -> None:
    done = subprocess.run([*_command(system), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RelitError(f"systemctl {' '.join(words)} failed", why=done.stderr.strip(), fix=_told(system, *words))


def _told(system: bool, *words: str) -> str:
    named = [_name()] if words in (("status",), ("stop",)) else []
    return " ".join(["systemctl", *([] if system else ["--user"]), *words, *named])


def _linger(session: Session) -> None:
    """A user's services end when the user logs out, unless told otherwise."""
    done = subprocess.run(["loginctl", "enable-linger"], capture_output=True, text=True, check=False)
    if done.returncode:
        session.screen.note(f"it will end when you log out: loginctl enable-linger ({done.stderr.strip()})")


def stop_unit(session: Session, run_dir: Path) -> None:
    """Stop the unit that the node there runs in: systemd would start it again. RelitError when that may not be."""
    from relit.node import record

    known = record.read(run_dir)
    if known is None or not record.alive(known):
        return
    system = whose(_groups(known.process.pid))
    if system is None:
        return
    session.screen.note(f"it is a service: {_told(system, 'stop')}")
    _systemctl(system, "stop", _name())


def whose(groups: str) -> bool | None:
    """Of the control group that systemd put a process into: whether that is the system's unit of ours, or (``False``) a
    user's; ``None``: neither."""
    return "/user.slice/" not in groups if groups.endswith(f"/{_name()}") else None


def _groups(pid: int) -> str:
    """The control group that systemd put a process into."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("0::", "1:name=systemd:"))), "")
