"""The server: API, timers, schedules, outgoing webhooks, and the nodes' socket."""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable
from pathlib import Path

from relit.api import webhooks
from relit.api.auth import ensure_token
from relit.api.build import build
from relit.api.parts import Defaults, Options, Parts, WebhookIn
from relit.api.server import ApiServer
from relit.api.volumes_port import Volumes
from relit.app import alerts
from relit.app import parts as chosen
from relit.app.agents import outsiders
from relit.app.attended import keeper_of_volumes
from relit.app.backend import StoreBackend
from relit.app.declared import declare
from relit.app.folder import mark, run_dir
from relit.app.instances import owners_of
from relit.app.refusing import refusals
from relit.app.stopping import running, until_signal
from relit.app.trying import Trying
from relit.app.vaulted import hold
from relit.control.unix import UnixControlServer
from relit.durable.deliveries import Deliveries
from relit.durable.engine import Engine
from relit.durable.scheduler import Scheduler
from relit.durable.ticker import Ticker
from relit.errors import ConfigError, Conflict
from relit.events import Event
from relit.lib.service import OnFailure, Service
from relit.settings import Environment, Secrets, Settings
from relit.settings.noted import forget_url, note_url

_LOG = logging.getLogger(__name__)


def options(settings: Settings) -> Options:
    """What the API is told of the settings. Secrets are read here, before anything starts. Raises ``ConfigError``."""
    secrets = settings.secrets
    check_secrets(settings, secrets)
    webhooks = {
        name: WebhookIn(
            agent=each.agent,
            secret=secrets.reveal(each.secret),
            scheme=each.scheme,
            header=each.header,
            prefix=each.prefix,
            encoding=each.encoding,
            id_header=each.id_header,
        )
        for name, each in settings.webhooks.items()
    }
    agents = {
        name: Defaults(priority=each.priority, expire_ms=each.mailbox.expire_ms)
        for name, each in settings.agents.items()
    }
    return Options(
        hosts=(*settings.server.hosts, settings.address[0]),
        max_body=settings.server.max_body_bytes,
        metrics_public=settings.server.metrics_public,
        webhooks=webhooks,
        agents=agents,
        deaf=frozenset(name for name, each in settings.agents.items() if each.kind != "python")
        - {*outsiders(settings)},
        mark=mark(settings.data),
        run_dir=run_dir(settings),
    )


async def serve(settings: Settings, environment: Environment, began: Callable[[str], None] = lambda url: None) -> None:
    """Serve until a signal comes. ``began`` is told the URL."""
    async with until_signal() as stop, chosen.engine(settings) as engine:
        await hold(settings, engine.store, settings.secret_names("webhooks", "subscribers", "alerts"), "server")
        given = options(settings)
        await declare(engine, settings)
        token = await ensure_token(engine.store, settings.data)
        async with keeper_of_volumes(run_dir(settings), token) as volumes:
            refused = refusals(engine.store, "api")
            api = Parts(engine, given, volumes=volumes, refused=refused.saw)
            host, port = settings.address
            server = ApiServer(build(api), host, port, closing=api.closing.close, on_error=stop.fail)
            kept = services(settings, environment, engine, server, stop.fail, volumes)
            async with running([*kept, refused], lambda: began(server.url)):
                await engine.store.record([Event("", 0, "server.started", data={"listen": server.url})])
                await stop.wait()


def check_secrets(settings: Settings, secrets: Secrets) -> None:
    """Raises ``ConfigError`` for a secret that is not set, or that nothing can be signed with."""
    named = {f"webhooks.{name}": each.secret for name, each in settings.webhooks.items()}
    named |= {f"subscribers.{name}": each.secret for name, each in settings.subscribers.items()}
    for table, secret in named.items():
        try:
            webhooks.keys(secrets.reveal(secret))
        except ConfigError as error:
            raise ConfigError(f"[{table}]: {error.what}", why=error.why, fix=error.fix) from error
    alerts.check(settings, secrets)


class NodeSocket:
    """The socket on which this machine's node speaks to its server."""

    def __init__(self, path: Path, backend: StoreBackend) -> None:
        self._path = path
        self._server = UnixControlServer(path, backend)

    async def start(self) -> None:
        """Listen. Raises ``Conflict`` when another server of this data folder does."""
        try:
            await self._server.start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise Conflict(
                f"another server runs on the data folder {self._path.parent.parent}",
                why="one server serves one data folder; further ones need folders of their own and PostgreSQL",
                fix="relit ps shows it; --data DIR for another one",
            ) from error

    async def stop(self) -> None:
        """Stop listening."""
        await self._server.stop()


class Address:
    """The note from which commands and clients of this machine learn where the server listens."""

    def __init__(self, folder: Path, server: ApiServer) -> None:
        self._folder = folder
        self._server = server
        self._noted = False

    async def start(self) -> None:
        """Leave it: the server listens by now."""
        try:
            note_url(self._folder, self._server.url)
            self._noted = True
        except OSError as error:  # a full disk: serve all the same, at the address of relit.toml or a flag
            _LOG.warning("%s: the server's address is not noted: %s", self._folder, error)

    async def stop(self) -> None:
        """Take it away, if it is ours."""
        if self._noted:
            forget_url(self._folder)
            self._noted = False


def services(
    settings: Settings,
    environment: Environment,
    engine: Engine,
    server: ApiServer,
    on_failure: OnFailure,
    volumes: Volumes,
) -> list[Service]:
    """What a server process runs, in the order of starting."""
    folder = run_dir(settings)
    folder.mkdir(mode=0o700, exist_ok=True)
    secrets = settings.secrets
    trying = Trying(settings, environment, volumes, on_failure)
    owners = functools.partial(owners_of, settings)
    backend = StoreBackend(engine.store, settings.worker.poison_after, volumes, trying, owners)
    return [
        NodeSocket(folder / "control.sock", backend),  # first: it refuses a second server
        trying,
        server,
        Address(folder, server),
        *upkeep(settings, engine, on_failure),
        Deliveries(engine.store, webhooks.sign, secret=lambda each: secrets.reveal(each.secret)),
        alerts.alerts(settings, engine.store, secrets, on_failure),
    ]


def upkeep(settings: Settings, engine: Engine, on_failure: OnFailure) -> list[Service]:
    """Timers and schedules: any number of processes may run them."""
    return [
        Ticker(
            engine.store,
            poison_after=settings.worker.poison_after,
            retain_ms=settings.retention.runs_ms,
            on_failure=on_failure,
        ),
        Scheduler(engine, engine.clock, on_failure),
    ]
