"""What a command has at hand: flags, settings, the screen, the server."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relit.cli.screen import Screen

if TYPE_CHECKING:
    from relit.cli.http import Api
    from relit.settings import Environment, Settings

_PATIENCE_S = 60.0  # a server that is restarted is back long before


class Session:
    """One call of ``relit``."""

    def __init__(self, flags: dict[str, Any], environment: Environment) -> None:
        self.flags = flags
        self.environment = environment
        self.verbose = bool(flags.get("verbose"))
        self.yes = bool(flags.get("yes")) or environment.ci
        self.screen = Screen(
            as_json=bool(flags.get("as_json")),
            quiet=bool(flags.get("quiet")),
            colour=environment.colour and not flags.get("no_color"),
        )

    @property
    def data(self) -> Path:
        """The data folder."""
        named = self.flags.get("data")
        return Path(named).expanduser().absolute() if named else self.environment.data

    def settings(self, overrides: dict[str, Any] | None = None) -> Settings:
        """The settings, checked."""
        from relit.settings import load

        config = self.flags.get("config")
        path = Path(config).expanduser().absolute() if config else None
        return load(path, overrides, environment=self.environment, data=self.data)

    def url(self) -> str:
        """The server's URL: --server, RELIT_SERVER, else where this data folder's server is, or would be."""
        from relit.settings.noted import noted_url

        return self.flags.get("server") or self.environment.server or noted_url(self.data) or self.settings().url

    def api(self, patience: float = 0.0) -> Api:
        """The server."""
        from relit.cli.http import Api

        return Api(self.url(), self.token(), patience=patience)

    def patient_api(self) -> Api:
        """The server, waited for while it is being restarted; one that nobody keeps alive is not waited for."""
        if self.flags.get("server") or self.environment.server:
            return self.api(_PATIENCE_S)
        from relit.node import status

        place = self.run_dir()
        kept = place is not None and status.read(place).node is not None
        return self.api(_PATIENCE_S if kept else 0.0)

    def run_dir(self) -> Path | None:
        """Where this machine's processes leave their records; None when nothing ever ran. Raises ``ConfigError``."""
        from relit.settings.noted import locked

        place = self.data / "run"
        try:
            place.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise locked(self.data, error.strerror or str(error)) from error
        if not os.access(place, os.R_OK | os.X_OK):
            raise locked(self.data, "it belongs to somebody else")
        return place

    def token(self) -> str | None:
        """RELIT_TOKEN, else the data folder's; None when there is neither (the server has never run).

        The data folder's token never leaves this machine: for a server elsewhere only RELIT_TOKEN counts.
        """
        from relit.settings.noted import noted_token

        asked = self.flags.get("server") or self.environment.server
        if self.environment.token or (asked and not _is_here(asked)):
            return self.environment.token
        return noted_token(self.data)

    def confirm(self, question: str) -> None:
        """Ask before what cannot be taken back; --yes and CI answer it."""
        if self.yes:
            return
        if self.screen.as_json or not sys.stdin.isatty():
            raise click.UsageError(f"{question} Nobody is there to answer: say --yes")
        click.confirm(question, abort=True, err=True)


pass_session = click.make_pass_decorator(Session)


def _is_here(url: str) -> bool:
    """Whether a server's URL names this machine by a loopback address."""
    from urllib.parse import urlsplit

    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
