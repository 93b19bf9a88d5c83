"""The way to volumes: the server, or (when none runs on this machine) the same service in this process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import click

from relit.control.paths import NODE_RECORD
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.moments import check_tag, fixed

if TYPE_CHECKING:
    from relit.api.volumes_port import Volumes
    from relit.cli.session import Session
    from relit.errors import RelitError

T = TypeVar("T")


def ask(session: Session, question: Callable[[Volumes], Awaitable[T]], *, adopting: bool = False) -> T:
    """The answer to ``question``."""

    async def asked() -> T:
        async with opened(session, adopting=adopting) as volumes:
            return await question(volumes)

    return asyncio.run(asked())


@asynccontextmanager
async def opened(session: Session, *, adopting: bool = False) -> AsyncIterator[Volumes]:
    """The volumes, wherever they can be reached. ``adopting``: a store without any takes those of the blob store."""
    if _elsewhere(session) or _answers(session):
        from relit.client import Client

        def waits(error: RelitError, seconds: float) -> None:
            session.screen.note(f"{error.what} ({error.why}); waiting for it for {seconds:.0f} s more")

        api = session.patient_api()
        async with Client(api.url, session.token() or "", patience=api.patience, notice=waits) as client:
            yield client.volumes
    else:
        from relit.app.volumes import open_local

        async with open_local(session.settings(), adopting=adopting) as volumes:
            yield volumes


def _elsewhere(session: Session) -> bool:
    return bool(session.flags.get("server") or session.environment.server)


def _answers(session: Session) -> bool:
    """Whether a server of this data folder runs, or is only being restarted. One that runs has left its address."""
    from relit.settings.noted import noted_url

    if noted_url(session.data) is None and not _kept(session):
        return False
    return session.api().alive() or _kept(session)


def _kept(session: Session) -> bool:
    """Whether a node keeps a server here, which is only being restarted."""
    place = session.run_dir()
    if place is None or not (place / NODE_RECORD).exists():
        return False
    from relit.node import status

    return status.read(place).node is not None


class _When(click.ParamType[str]):
    """A number, id, tag or time. A time is fixed at once: it means the same when the answer comes late."""

    name = "when"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return fixed(str(value), SYSTEM_CLOCK.now_ms())
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Tag(click.ParamType[str]):
    """A word that reads as nothing else."""

    name = "tag"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_tag(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Inside(click.ParamType[bytes]):
    """A path relative to an agent's home."""

    name = "path"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        path = value if isinstance(value, bytes) else os.fsencode(str(value))
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if path.startswith(b"/") or b".." in parts:
            self.fail(f"{os.fsdecode(path)!r} is not relative to the agent's home", param, ctx)
        return b"/".join(parts)


WHEN = _When()
TAG = _Tag()
INSIDE = _Inside()
NOW = "now"


class _Other(_When):
    """The same, or ``now``: the home as it is."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return NOW if value == NOW else super().convert(value, param, ctx)


OTHER = _Other()
